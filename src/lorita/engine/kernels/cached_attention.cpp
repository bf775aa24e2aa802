// Attention of new tokens of texts to all tokens before them, whose keys and values are in a cache.
// decode.py has the same in plain torch.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "numbers.h"

namespace {

struct Attention {
    const float* slopes;  // of the query heads, or null
    i64 kv, group, d, half, window;
    i64 q_stride, k_stride, v_stride;  // from the heads of a key/value head to the next
    float scale, cap;
};
struct Cache {
    void *k, *v;  // [slots, kv, capacity, d]
    i64 capacity;
};

// As in native.cpp: the first 2*half numbers of a head are rotated.
template <typename T, typename To>
inline void rotated(const T* from, To* to, const float* cos, const float* sin, i64 half, i64 d) {
#pragma omp simd
    for (i64 j = 0; j < half; ++j) {
        const float x = load(from + j), y = load(from + half + j);
        store(to + j, x * cos[j] - y * sin[j]);
        store(to + half + j, y * cos[j] + x * sin[j]);
    }
    for (i64 j = 2 * half; j < d; ++j) store(to + j, load(from + j));
}

// The query heads of one key/value head: scores and their largest, weights, sum of values.
template <typename T>
void attend_head(const Attention& how, const T* keys, const T* values, const float* q, i64 head,
                 i64 place, std::vector<float>& scores, float* out) {
    const i64 begin = how.window > 0 ? std::max<i64>(0, place + 1 - how.window) : 0;
    const i64 count = place + 1 - begin, d = how.d;
    scores.resize(count);
    const float slope = how.slopes ? how.slopes[head] : 0.0f;
    float top = -INFINITY;
    for (i64 i = 0; i < count; ++i) {
        const T* key = keys + (begin + i) * d;
        float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (i64 j = 0; j < d; ++j) sum += q[j] * load(key + j);
        sum *= how.scale;
        if (how.cap > 0.0f) sum = how.cap * std::tanh(sum / how.cap);
        sum += slope * (float)(begin + i - place);
        scores[i] = sum;
        top = sum > top ? sum : top;
    }
    float all = 0.0f;
#pragma omp simd reduction(+ : all)
    for (i64 i = 0; i < count; ++i) {
        const float e = fast_exp(scores[i] - top);
        scores[i] = e;
        all += e;
    }
    std::fill(out, out + d, 0.0f);
    for (i64 i = 0; i < count; ++i) {
        const T* value = values + (begin + i) * d;
        const float weight = scores[i] / all;
#pragma omp simd
        for (i64 j = 0; j < d; ++j) out[j] += weight * load(value + j);
    }
}

template <typename T>
void attend(const Attention& how, const Cache& cache, const T* q, i64 ldq, const T* k, i64 ldk,
            const T* v, i64 ldv, const float* cos, const float* sin, const i64* slots,
            const i64* places, i64 rows, T* out) {
    const i64 d = how.d;
    i64 seen = 0;
    for (i64 t = 0; t < rows; ++t) seen += places[t] + 1;
#pragma omp parallel if (seen * how.kv * how.group * d >= 32768)
    {
        std::vector<float> scores, turned(2 * d);
        auto slot_of = [&](i64 t, i64 h) {
            return (slots[t] * how.kv + h) * cache.capacity * d;
        };
        // All keys first: a token may attend to one of this call.
#pragma omp for schedule(static)
        for (i64 item = 0; item < rows * how.kv; ++item) {
            const i64 t = item / how.kv, h = item % how.kv, half = how.half;
            const i64 at = slot_of(t, h) + places[t] * d;
            rotated(k + t * ldk + h * how.k_stride, (T*)cache.k + at, cos + t * half,
                    sin + t * half, half, d);
            std::memcpy((T*)cache.v + at, v + t * ldv + h * how.v_stride, d * sizeof(T));
        }
#pragma omp for schedule(dynamic)
        for (i64 item = 0; item < rows * how.kv; ++item) {
            const i64 t = item / how.kv, h = item % how.kv, half = how.half;
            const T *keys = (const T*)cache.k + slot_of(t, h);
            const T *values = (const T*)cache.v + slot_of(t, h);
            for (i64 g = 0; g < how.group; ++g) {
                const i64 head = h * how.group + g;
                float *query = turned.data(), *sum = turned.data() + d;
                rotated(q + t * ldq + h * how.q_stride + g * d, query, cos + t * half,
                        sin + t * half, half, d);
                attend_head(how, keys, values, query, head, places[t], scores, sum);
                T* to = out + (t * how.kv * how.group + head) * d;
                for (i64 j = 0; j < d; ++j) store(to + j, sum[j]);
            }
        }
    }
}

}  // namespace

#define EXPORT(SUFFIX, T)                                                                          \
    extern "C" void attend_##SUFFIX(const Attention* how, const Cache* cache, const T* q, i64 ldq, \
                                    const T* k, i64 ldk, const T* v, i64 ldv, const float* cos,    \
                                    const float* sin, const i64* slots, const i64* places,         \
                                    i64 rows, T* out) {                                            \
        attend<T>(*how, *cache, q, ldq, k, ldk, v, ldv, cos, sin, slots, places, rows, out);       \
    }

EXPORT(bf16, bf16)
EXPORT(f32, float)
