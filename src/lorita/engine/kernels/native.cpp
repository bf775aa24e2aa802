// The elementwise operations of a LoRA step, one pass each: bf16 or float32 in memory, float32 in
// registers.
//
// The compiler vectorises the inner loops; there are no intrinsics. Each row is computed by one
// thread in a fixed order, so results are the same in every run.
// Each operation exists in plain torch next to its call; reference.py says what it computes.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "numbers.h"

// ---- RMSNorm: y = x * rstd * (weight or 1 + weight) ---------------------------------------------

template <typename T>
static void rms_norm(const T* x, const T* w, T* y, float* rstd, i64 rows, i64 width, float eps,
                     int plus_one) {
    const float one = plus_one ? 1.0f : 0.0f;
#pragma omp parallel for schedule(static)
    for (i64 i = 0; i < rows; ++i) {
        const T* xi = x + i * width;
        T* yi = y + i * width;
        float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (i64 j = 0; j < width; ++j) {
            float v = load(xi + j);
            sum += v * v;
        }
        float r = 1.0f / std::sqrt(sum / width + eps);
        rstd[i] = r;
#pragma omp simd
        for (i64 j = 0; j < width; ++j) store(yi + j, load(xi + j) * r * (load(w + j) + one));
    }
}

// gx = rstd * (g*w - xhat * mean(g*w*xhat))
template <typename T>
static void rms_norm_back(const T* g, const T* x, const T* w, const float* rstd, T* gx, i64 rows,
                          i64 width, int plus_one) {
    const float one = plus_one ? 1.0f : 0.0f;
#pragma omp parallel for schedule(static)
    for (i64 i = 0; i < rows; ++i) {
        const T* gi = g + i * width;
        const T* xi = x + i * width;
        T* oi = gx + i * width;
        float r = rstd[i], dot = 0.0f;
#pragma omp simd reduction(+ : dot)
        for (i64 j = 0; j < width; ++j)
            dot += load(gi + j) * (load(w + j) + one) * load(xi + j);
        float c = dot * r * r / width;
#pragma omp simd
        for (i64 j = 0; j < width; ++j)
            store(oi + j, r * (load(gi + j) * (load(w + j) + one) - load(xi + j) * c));
    }
}

// ---- gated activation: y = act(gate) * up -------------------------------------------------------

enum Act { SILU = 0, GELU_TANH = 1 };

static inline void act_and_slope(int kind, float x, float* a, float* s) {
    if (kind == SILU) {
        float z = sigmoid(x);
        *a = x * z;
        *s = z * (1.0f + x * (1.0f - z));
    } else {
        const float k = 0.7978845608028654f, c = 0.044715f;
        float t = fast_tanh(k * (x + c * x * x * x));
        *a = 0.5f * x * (1.0f + t);
        *s = 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * k * (1.0f + 3.0f * c * x * x);
    }
}

template <typename T, int KIND>
static void gated(const T* gate, const T* up, T* y, i64 rows, i64 width, i64 stride) {
#pragma omp parallel for schedule(static)
    for (i64 i = 0; i < rows; ++i) {
        const T* gi = gate + i * stride;
        const T* ui = up + i * stride;
        T* yi = y + i * width;
#pragma omp simd
        for (i64 j = 0; j < width; ++j) {
            float a, s;
            act_and_slope(KIND, load(gi + j), &a, &s);
            store(yi + j, a * load(ui + j));
        }
    }
}

template <typename T, int KIND>
static void gated_back(const T* g, const T* gate, const T* up, T* d_gate, T* d_up, i64 rows,
                       i64 width, i64 stride) {
#pragma omp parallel for schedule(static)
    for (i64 i = 0; i < rows; ++i) {
        const T* gi = g + i * width;
#pragma omp simd
        for (i64 j = 0; j < width; ++j) {
            float a, s, v = load(gi + j);
            act_and_slope(KIND, load(gate + i * stride + j), &a, &s);
            float u = load(up + i * stride + j);
            store(d_gate + i * stride + j, v * u * s);
            store(d_up + i * stride + j, v * a);
        }
    }
}

// The activation alone, where a model has no gate.
template <typename T>
static void gelu(const T* x, T* y, i64 n) {
#pragma omp parallel for simd schedule(static)
    for (i64 i = 0; i < n; ++i) {
        float a, s;
        act_and_slope(GELU_TANH, load(x + i), &a, &s);
        store(y + i, a);
    }
}

template <typename T>
static void gelu_back(const T* g, const T* x, T* gx, i64 n) {
#pragma omp parallel for simd schedule(static)
    for (i64 i = 0; i < n; ++i) {
        float a, s;
        act_and_slope(GELU_TANH, load(x + i), &a, &s);
        store(gx + i, load(g + i) * s);
    }
}

// ---- heads: rows of a product <-> slots of [query heads of a kv head, d], with rotary positions -

// Token t is at rows + t*stride, its head h at + (h/group)*head_stride + (h%group)*d. The first
// 2*half numbers of a head are rotated by cos/sin [tokens, half]; half = 0 rotates nothing. Its slot
// is first[t] + (h/group)*step[t]. inverse (backward) reads slots, writes rows and rotates back.
template <typename T>
static void heads(T* rows, T* out, const float* cos, const float* sin, const i64* first,
                  const i64* step, i64 tokens, i64 heads_n, i64 group, i64 d, i64 half, i64 stride,
                  i64 head_stride, int inverse) {
#pragma omp parallel for schedule(static)
    for (i64 t = 0; t < tokens; ++t) {
        const float* c = cos + t * half;
        const float* s = sin + t * half;
        for (i64 h = 0; h < heads_n; ++h) {
            T* a = rows + t * stride + (h / group) * head_stride + (h % group) * d;
            T* b = out + ((first[t] + (h / group) * step[t]) * group + h % group) * d;
            const T* from = inverse ? b : a;
            T* to = inverse ? a : b;
#pragma omp simd
            for (i64 j = 0; j < half; ++j) {
                float x = load(from + j), y = load(from + half + j);
                float sj = inverse ? -s[j] : s[j];
                store(to + j, x * c[j] - y * sj);
                store(to + half + j, y * c[j] + x * sj);
            }
            if (d > 2 * half)
                std::memcpy(to + 2 * half, from + 2 * half, (d - 2 * half) * sizeof(T));
        }
    }
}

// ---- softmax of one block of attention scores ---------------------------------------------------

template <bool CAP>
static inline float squash(float v, float cap) {
    return CAP ? cap * fast_tanh(v / cap) : v;
}

// scores [blocks, queries*group, keys]; block b belongs to kv head b % kv. Query q (of group heads)
// is at position first+q among the keys of its row and attends to keys max(0, first+q-window+1) to
// first+q; slope*key is added to its scores. Overwrites the scores with the probabilities, unless
// probs is another buffer (soft-capping).
template <typename T, bool CAP>
static void softmax(const T* scores, T* probs, const float* slopes, i64 blocks, i64 kv, i64 queries,
                    i64 group, i64 keys, i64 first, i64 window, float scale, float cap) {
#pragma omp parallel
    {
        // One row in float32: exp is computed once, and numbers are rounded at the end.
        std::vector<float> line(keys);
        float* e = line.data();
#pragma omp for schedule(static)
        for (i64 row = 0; row < blocks * queries * group; ++row) {
            i64 k = row / (queries * group) % kv, rest = row % (queries * group);
            i64 q = rest / group, head = k * group + rest % group;
            i64 last = first + q + 1, begin = window > 0 && last > window ? last - window : 0;
            const T* in = scores + row * keys;
            T* out = probs + row * keys;
            float slope = slopes ? slopes[head] : 0.0f;
            float top = -INFINITY;
#pragma omp simd reduction(max : top)
            for (i64 j = begin; j < last; ++j) {
                float v = squash<CAP>(load(in + j) * scale, cap) + slope * (j - last + 1);
                e[j] = v;
                top = v > top ? v : top;
            }
            float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
            for (i64 j = begin; j < last; ++j) {
                float v = fast_exp(e[j] - top);
                e[j] = v;
                sum += v;
            }
            float inv = 1.0f / sum;
#pragma omp simd
            for (i64 j = 0; j < begin; ++j) store(out + j, 0.0f);
#pragma omp simd
            for (i64 j = begin; j < last; ++j) store(out + j, e[j] * inv);
#pragma omp simd
            for (i64 j = last; j < keys; ++j) store(out + j, 0.0f);
        }
    }
}

// Turns g, the gradient of the probabilities, into the gradient of the raw scores, in place.
template <typename T>
static void softmax_back(T* g, const T* probs, const T* scores, i64 rows, i64 keys, float scale,
                         float cap) {
#pragma omp parallel for schedule(static)
    for (i64 row = 0; row < rows; ++row) {
        T* gi = g + row * keys;
        const T* pi = probs + row * keys;
        float dot = 0.0f;
#pragma omp simd reduction(+ : dot)
        for (i64 j = 0; j < keys; ++j) dot += load(gi + j) * load(pi + j);
        if (cap > 0.0f) {
            const T* si = scores + row * keys;
#pragma omp simd
            for (i64 j = 0; j < keys; ++j) {
                float t = fast_tanh(load(si + j) * scale / cap);
                store(gi + j, load(pi + j) * (load(gi + j) - dot) * scale * (1.0f - t * t));
            }
        } else {
#pragma omp simd
            for (i64 j = 0; j < keys; ++j)
                store(gi + j, load(pi + j) * (load(gi + j) - dot) * scale);
        }
    }
}

// ---- cross-entropy: the gradient of the summed loss overwrites the logits -----------------------

template <typename T, bool CAP>
static void cross_entropy(T* logits, const i64* targets, float* loss, i64 rows, i64 vocab,
                          float scale, float cap, int with_gradient) {
#pragma omp parallel for schedule(static)
    for (i64 i = 0; i < rows; ++i) {
        T* row = logits + i * vocab;
        float top = -INFINITY;
#pragma omp simd reduction(max : top)
        for (i64 j = 0; j < vocab; ++j) {
            float v = load(row + j);
            top = v > top ? v : top;
        }
        // Scale (positive) and cap keep the order: the largest logit stays the largest.
        top = squash<CAP>(top * scale, cap);
        float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (i64 j = 0; j < vocab; ++j)
            sum += fast_exp(squash<CAP>(load(row + j) * scale, cap) - top);
        float target = squash<CAP>(load(row + targets[i]) * scale, cap);
        loss[i] = std::log(sum) + top - target;
        if (!with_gradient) continue;
        float inv = scale / sum;
#pragma omp simd
        for (i64 j = 0; j < vocab; ++j) {
            float v = squash<CAP>(load(row + j) * scale, cap);
            float slope = CAP ? 1.0f - (v / cap) * (v / cap) : 1.0f;
            store(row + j, fast_exp(v - top) * inv * slope);
        }
        float slope = CAP ? 1.0f - (target / cap) * (target / cap) : 1.0f;
        store(row + targets[i], (fast_exp(target - top) / sum - 1.0f) * scale * slope);
    }
}

// ---- dropout ------------------------------------------------------------------------------------

// Scatters the bits of x: each bit of the result depends on each bit of x ("lowbias32" of Chris
// Wellons' hash-prospector, public domain).
static inline uint32_t scattered(uint32_t x) {
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    return x ^ (x >> 16);
}
// Whether number i is kept can be recomputed, so the backward pass needs no mask.
static inline bool is_kept(uint64_t seed, i64 i, uint32_t threshold) {
    uint32_t low = static_cast<uint32_t>(seed), high = static_cast<uint32_t>(seed >> 32);
    return scattered(scattered(static_cast<uint32_t>(i) + low) ^ high) >= threshold;
}

// WITH_OUT: y += x where kept; otherwise y = x where kept, 0 elsewhere.
template <typename T, bool WITH_OUT>
static void keep(const T* x, T* y, i64 n, uint64_t seed, uint32_t threshold) {
#pragma omp parallel for simd schedule(static)
    for (i64 i = 0; i < n; ++i) {
        float v = is_kept(seed, i, threshold) ? load(x + i) : 0.0f;
        store(y + i, WITH_OUT ? load(y + i) + v : v);
    }
}

// ---- sums over rows -----------------------------------------------------------------------------

template <typename T>
static void column_sums(const T* x, float* sums, i64 rows, i64 width, i64 stride) {
    const i64 block = 64;
#pragma omp parallel for schedule(static)
    for (i64 begin = 0; begin < width; begin += block) {
        const i64 count = width - begin < block ? width - begin : block;
        float sum[block] = {};
        for (i64 i = 0; i < rows; ++i) {
            const T* row = x + i * stride + begin;
#pragma omp simd
            for (i64 j = 0; j < count; ++j) sum[j] += load(row + j);
        }
        std::memcpy(sums + begin, sum, count * sizeof(float));
    }
}

// ---- 8-bit integers -----------------------------------------------------------------------------

// q = round(x * times / scale) with scale = max|x * times| / largest, for each row of Q, which is
// `stride` long. What a row has more than x is zero.
template <typename T, typename Q>
static void quantize(const T* x, const float* times, Q* q, float* scale, i64 rows, i64 width,
                     i64 stride, float largest) {
#pragma omp parallel for schedule(static)
    for (i64 i = 0; i < rows; ++i) {
        const T* xi = x + i * width;
        Q* qi = q + i * stride;
        float top = 0.0f;
        if (times) {
#pragma omp simd reduction(max : top)
            for (i64 j = 0; j < width; ++j) {
                float v = std::fabs(load(xi + j) * times[j]);
                top = v > top ? v : top;
            }
        } else {
#pragma omp simd reduction(max : top)
            for (i64 j = 0; j < width; ++j) {
                float v = std::fabs(load(xi + j));
                top = v > top ? v : top;
            }
        }
        scale[i] = top / largest;
        float factor = top > 0.0f ? largest / top : 0.0f;
        if (times) {
#pragma omp simd
            for (i64 j = 0; j < width; ++j)
                qi[j] = static_cast<Q>(
                    static_cast<int32_t>(std::nearbyint(load(xi + j) * times[j] * factor)));
        } else {
#pragma omp simd
            for (i64 j = 0; j < width; ++j)
                qi[j] = static_cast<Q>(
                    static_cast<int32_t>(std::nearbyint(load(xi + j) * factor)));
        }
        for (i64 j = width; j < stride; ++j) qi[j] = 0;
    }
}

// out = sums * rows' scale * columns' scale
template <typename T>
static void rescale(const int32_t* sums, const float* row_scale, const float* column_scale, T* out,
                    i64 rows, i64 width) {
#pragma omp parallel for schedule(static)
    for (i64 i = 0; i < rows; ++i) {
        const int32_t* si = sums + i * width;
        T* oi = out + i * width;
        float r = row_scale[i];
        if (column_scale) {
#pragma omp simd
            for (i64 j = 0; j < width; ++j)
                store(oi + j, static_cast<float>(si[j]) * r * column_scale[j]);
        } else {
#pragma omp simd
            for (i64 j = 0; j < width; ++j) store(oi + j, static_cast<float>(si[j]) * r);
        }
    }
}

// ---- the functions that Python calls ------------------------------------------------------------

#define EXPORT(SUFFIX, T)                                                                          \
    extern "C" void rms_norm_##SUFFIX(const T* x, const T* w, T* y, float* r, i64 n, i64 d,        \
                                      float eps, int one) {                                       \
        rms_norm(x, w, y, r, n, d, eps, one);                                                      \
    }                                                                                              \
    extern "C" void rms_norm_back_##SUFFIX(const T* g, const T* x, const T* w, const float* r,     \
                                           T* o, i64 n, i64 d, int one) {                          \
        rms_norm_back(g, x, w, r, o, n, d, one);                                                   \
    }                                                                                              \
    extern "C" void gated_##SUFFIX(const T* a, const T* b, T* y, i64 n, i64 d, i64 s, int kind) {  \
        kind == SILU ? gated<T, SILU>(a, b, y, n, d, s) : gated<T, GELU_TANH>(a, b, y, n, d, s);   \
    }                                                                                              \
    extern "C" void gated_back_##SUFFIX(const T* g, const T* a, const T* b, T* da, T* db, i64 n,   \
                                        i64 d, i64 s, int kind) {                                  \
        kind == SILU ? gated_back<T, SILU>(g, a, b, da, db, n, d, s)                               \
                     : gated_back<T, GELU_TANH>(g, a, b, da, db, n, d, s);                         \
    }                                                                                              \
    extern "C" void gelu_##SUFFIX(const T* x, T* y, i64 n) { gelu(x, y, n); }                      \
    extern "C" void gelu_back_##SUFFIX(const T* g, const T* x, T* gx, i64 n) {                     \
        gelu_back(g, x, gx, n);                                                                    \
    }                                                                                              \
    extern "C" void heads_##SUFFIX(T* rows, T* out, const float* c, const float* s,                \
                                   const i64* first, const i64* step, i64 n, i64 h, i64 group,     \
                                   i64 d, i64 half, i64 stride, i64 head_stride, int inverse) {    \
        heads(rows, out, c, s, first, step, n, h, group, d, half, stride, head_stride, inverse);   \
    }                                                                                              \
    extern "C" void softmax_##SUFFIX(const T* s, T* p, const float* slopes, i64 n, i64 kv, i64 q,  \
                                     i64 group, i64 keys, i64 first, i64 window, float scale,      \
                                     float cap) {                                                  \
        cap > 0.0f                                                                                 \
            ? softmax<T, true>(s, p, slopes, n, kv, q, group, keys, first, window, scale, cap)     \
            : softmax<T, false>(s, p, slopes, n, kv, q, group, keys, first, window, scale, 0);     \
    }                                                                                              \
    extern "C" void softmax_back_##SUFFIX(T* g, const T* p, const T* s, i64 rows, i64 keys,        \
                                          float scale, float cap) {                                \
        softmax_back(g, p, s, rows, keys, scale, cap);                                             \
    }                                                                                              \
    extern "C" void cross_entropy_##SUFFIX(T* l, const i64* t, float* loss, i64 n, i64 v,          \
                                           float scale, float cap, int grad) {                     \
        cap > 0.0f ? cross_entropy<T, true>(l, t, loss, n, v, scale, cap, grad)                    \
                   : cross_entropy<T, false>(l, t, loss, n, v, scale, 0, grad);                    \
    }                                                                                              \
    extern "C" void drop_##SUFFIX(const T* x, T* y, i64 n, uint64_t seed, uint32_t threshold) {    \
        keep<T, false>(x, y, n, seed, threshold);                                                  \
    }                                                                                              \
    extern "C" void add_kept_##SUFFIX(const T* x, T* y, i64 n, uint64_t seed,                      \
                                      uint32_t threshold) {                                        \
        keep<T, true>(x, y, n, seed, threshold);                                                   \
    }                                                                                              \
    extern "C" void column_sums_##SUFFIX(const T* x, float* sums, i64 rows, i64 width,             \
                                         i64 stride) {                                             \
        column_sums(x, sums, rows, width, stride);                                                 \
    }                                                                                              \
    extern "C" void quantize_##SUFFIX(const T* x, const float* times, int8_t* q, float* scale,     \
                                      i64 rows, i64 width) {                                       \
        quantize(x, times, q, scale, rows, width, width, 127.0f);                                  \
    }                                                                                              \
    extern "C" void quantize16_##SUFFIX(const T* x, const float* times, int16_t* q, float* scale,  \
                                        i64 rows, i64 width) {                                     \
        quantize(x, times, q, scale, rows, width, width + width % 2, 32767.0f);                    \
    }                                                                                              \
    extern "C" void rescale_##SUFFIX(const int32_t* sums, const float* r, const float* c, T* out,  \
                                     i64 rows, i64 width) {                                        \
        rescale(sums, r, c, out, rows, width);                                                     \
    }

EXPORT(bf16, bf16)
EXPORT(f32, float)
