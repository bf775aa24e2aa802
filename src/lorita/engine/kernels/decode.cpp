// Products of a few rows with large weights, for new tokens of texts: they read far more than they
// compute, so the weights are read once for all rows, in the format that they have.
//
// Written with the compiler's own vectors: the same code becomes AVX-512, AVX2 or NEON.
// decode.py has the same in plain torch.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "blocks.h"

#if defined(__AVX__)
#include <immintrin.h>
#endif
#if defined(__AVX512BF16__) && defined(__AVX512F__)
#define PAIRS 1
#else
#define PAIRS 0
#endif

namespace {

// A tile of sums, outputs times rows, has to fit into the registers: 32, or 16 without AVX-512.
#if defined(__AVX512F__)
constexpr i64 LANES = 16, MOST_ROWS = 6;
constexpr int outputs_of(int rows) { return rows > 1 ? 4 : 8; }
#else
constexpr i64 LANES = 8, MOST_ROWS = 4;
constexpr int outputs_of(int rows) { return rows > 2 ? 2 : rows > 1 ? 4 : 8; }
#endif

typedef float lanes __attribute__((vector_size(LANES * 4)));
typedef uint32_t cells __attribute__((vector_size(LANES * 4)));

inline lanes wide(const float* p) {
    lanes v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
// Said outright where it can be: the compiler may otherwise regroup the sum and need more operations.
inline lanes multiply_add(lanes a, lanes b, lanes sum) {
#if defined(__AVX512F__)
    return (lanes)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)sum);
#elif defined(__FMA__)
    return (lanes)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)sum);
#else
    return a * b + sum;
#endif
}
inline float total(lanes v) {
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)v);
#elif defined(__AVX__)
    __m128 s = _mm_add_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
#else
    float sum = 0.0f;
    for (i64 i = 0; i < LANES; ++i) sum += v[i];
    return sum;
#endif
}

// ---- sums of products: the two formats ----------------------------------------------------------

// Input is what rows are converted to before they meet the weights, STEP numbers at a time.
template <typename T>
struct Dot;

template <>
struct Dot<float> {
    using Input = float;
    using operand = lanes;
    static constexpr i64 STEP = LANES;
    static operand of(const float* w) { return wide(w); }
    static operand of_input(const float* x) { return wide(x); }
    static lanes add(lanes sum, operand a, operand b) { return multiply_add(a, b, sum); }
    static void convert(const float* x, float* to, i64 n) { std::memcpy(to, x, n * sizeof(float)); }
};

#if PAIRS
template <>
struct Dot<bf16> {
    using Input = bf16;
    using operand = __m512i;
    static constexpr i64 STEP = 2 * LANES;
    static operand of(const bf16* w) { return _mm512_loadu_si512(w); }
    static operand of_input(const bf16* x) { return _mm512_loadu_si512(x); }
    static lanes add(lanes sum, operand a, operand b) {
        return (lanes)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
    }
    static void convert(const bf16* x, bf16* to, i64 n) { std::memcpy(to, x, n * sizeof(bf16)); }
};
#else
// Of two neighbours in 32 bits, each becomes a float32 with one operation. Inputs are put into the
// same order: the even ones of a step, then the odd ones.
template <>
struct Dot<bf16> {
    using Input = float;
    struct operand {
        lanes even, odd;
    };
    static constexpr i64 STEP = 2 * LANES;
    static operand of(const bf16* w) {
        cells both;
        std::memcpy(&both, w, sizeof both);
        return {(lanes)(both << 16), (lanes)(both & 0xffff0000u)};
    }
    static operand of_input(const float* x) { return {wide(x), wide(x + LANES)}; }
    static lanes add(lanes sum, operand a, operand b) {
        return multiply_add(a.odd, b.odd, multiply_add(a.even, b.even, sum));
    }
    static void convert(const bf16* x, float* to, i64 n) {
        for (i64 i = 0; i < n; ++i)
            to[i / STEP * STEP + i % 2 * LANES + i % STEP / 2] = load(x + i);
    }
};
#endif

// sums[o][t] = weight row o · input row t. Inputs are zero from `width` up to a multiple of STEP.
template <typename T, int O, int N>
inline void tile(const T* w, i64 width, const typename Dot<T>::Input* x, i64 ldx, float* sums) {
    using D = Dot<T>;
    lanes sum[O][N] = {};
    const i64 whole = width - width % D::STEP;
    for (i64 k = 0; k < whole; k += D::STEP) {
        if constexpr (N == 1) {
            const auto xk = D::of_input(x + k);
#pragma GCC unroll 8
            for (int o = 0; o < O; ++o) {
                sum[o][0] = D::add(sum[o][0], D::of(w + o * width + k), xk);
                __builtin_prefetch(w + (O + o) * width + k);  // the next tile's
            }
            continue;
        }
        typename D::operand wk[O];
#pragma GCC unroll 8
        for (int o = 0; o < O; ++o) {
            wk[o] = D::of(w + o * width + k);
            __builtin_prefetch(w + (O + o) * width + k);  // the next tile's
        }
#pragma GCC unroll 8
        for (int t = 0; t < N; ++t) {
            const auto xk = D::of_input(x + t * ldx + k);
#pragma GCC unroll 8
            for (int o = 0; o < O; ++o) sum[o][t] = D::add(sum[o][t], wk[o], xk);
        }
    }
    if (whole < width) {
        T rest[D::STEP] = {};
        for (int o = 0; o < O; ++o) {
            std::memcpy(rest, w + o * width + whole, (width - whole) * sizeof(T));
            const auto wk = D::of(rest);
#pragma GCC unroll 8
            for (int t = 0; t < N; ++t)
                sum[o][t] = D::add(sum[o][t], wk, D::of_input(x + t * ldx + whole));
        }
    }
    for (int o = 0; o < O; ++o)
        for (int t = 0; t < N; ++t) sums[o * N + t] = total(sum[o][t]);
}

// As many outputs as fit, or one; returns how many.
template <typename T, int N>
inline i64 some(i64 left, const T* w, i64 width, const typename Dot<T>::Input* x, i64 ldx,
                float* sums) {
    constexpr int O = outputs_of(N);
    if (left < O) return tile<T, 1, N>(w, width, x, ldx, sums), 1;
    return tile<T, O, N>(w, width, x, ldx, sums), O;
}

template <typename T>
inline i64 some(i64 n, i64 left, const T* w, i64 width, const typename Dot<T>::Input* x, i64 ldx,
                float* sums) {
    switch (n) {
        case 1: return some<T, 1>(left, w, width, x, ldx, sums);
        case 2: return some<T, 2>(left, w, width, x, ldx, sums);
        case 3: return some<T, 3>(left, w, width, x, ldx, sums);
        case 4: return some<T, 4>(left, w, width, x, ldx, sums);
#if defined(__AVX512F__)
        case 5: return some<T, 5>(left, w, width, x, ldx, sums);
        case 6: return some<T, 6>(left, w, width, x, ldx, sums);
#endif
    }
    return left;
}

// ---- layers that share an input, with an adapter for each row -----------------------------------

struct Adapter {
    const float *down, *up;  // [rank, width], [outputs, rank]
    i64 rank;                // 0: this layer is not adapted
    float scale;
};
struct Layer {
    const void* weight;        // [outputs, width], or [width, outputs] if transposed; or blocks
    const void* bias;          // null, or in the format of the weight, or float32
    const Adapter* adapters;   // one for each adapter of the model
    i64 outputs, transposed, wide_bias;
    i64 kind;                  // the format of quantised blocks; 0: the weight is ordinary numbers
};
struct Layers {
    const Layer* layers;
    i64 count, width, adapters, most_rank;
};

template <typename T>
struct Call {
    const Layers& g;
    const typename Dot<T>::Input* x;
    const float* x32;      // the same in float32; null if nothing needs it
    i64 ldx, rows;
    const i64* adapter;    // of each row, -1 for none
    float* low;            // [layers, rows, most_rank]: adapters' inner products, scaled
    void* y;
    i64 ldy, wide_y;

    void put(const Layer& layer, i64 index, i64 column, i64 o, i64 t, float sum) const {
        if (layer.bias)
            sum += layer.wide_bias ? ((const float*)layer.bias)[o] : load((const T*)layer.bias + o);
        if (adapter && adapter[t] >= 0) {
            const Adapter& a = layer.adapters[adapter[t]];
            const float* mine = low + (index * rows + t) * g.most_rank;
            for (i64 r = 0; r < a.rank; ++r) sum += mine[r] * a.up[o * a.rank + r];
        }
        const i64 at = t * ldy + column + o;
        wide_y ? store((float*)y + at, sum) : store((T*)y + at, sum);
    }
};

// One row of one adapter's inner products, for all rows that use it.
template <typename T>
void inner(const Call<T>& c, i64 index, i64 which, i64 r) {
    const Adapter& a = c.g.layers[index].adapters[which];
    if (r >= a.rank) return;
    const float* down = a.down + r * c.g.width;
    for (i64 t = 0; t < c.rows; ++t) {
        if (c.adapter[t] != which) continue;
        const float* x = c.x32 + t * c.ldx;
        float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (i64 i = 0; i < c.g.width; ++i) sum += x[i] * down[i];
        c.low[(index * c.rows + t) * c.g.most_rank + r] = sum * a.scale;
    }
}

// The products of all rows with `count` weight rows of numbers; the first is output `first`.
template <typename T, typename W>
void with_rows(const Call<T>& c, i64 index, i64 column, i64 first, i64 count, const W* weights,
               const typename Dot<W>::Input* inputs) {
    const Layer& layer = c.g.layers[index];
    const i64 chunks = (c.rows + MOST_ROWS - 1) / MOST_ROWS;
    float sums[8 * MOST_ROWS];
    for (i64 i = 0, t0 = 0; i < chunks; ++i) {
        const i64 n = (c.rows - t0) / (chunks - i);
        for (i64 o = 0; o < count;) {
            const W* w = weights + o * c.g.width;
            const i64 many = some(n, count - o, w, c.g.width, inputs + t0 * c.ldx, c.ldx, sums);
            for (i64 j = 0; j < many; ++j)
                for (i64 t = 0; t < n; ++t)
                    c.put(layer, index, column, first + o + j, t0 + t, sums[j * n + t]);
            o += many;
        }
        t0 += n;
    }
}

template <typename T>
void some_outputs(const Call<T>& c, i64 index, i64 column, i64 first, i64 count) {
    const T* weight = (const T*)c.g.layers[index].weight;
    with_rows(c, index, column, first, count, weight + first * c.g.width, c.x);
}

// The same for quantised blocks: a few rows at a time become numbers, which stay in the cache.
template <typename T>
void some_blocks(const Call<T>& c, i64 index, i64 column, i64 first, i64 count) {
    const Layer& layer = c.g.layers[index];
    with_format(layer.kind, [&](auto format) {
        using Format = decltype(format);
        constexpr i64 AT_ONCE = 4;
        static thread_local std::vector<float> rows;
        rows.resize(AT_ONCE * c.g.width);
        const i64 blocks = c.g.width / Format::numbers;
        for (i64 o = 0; o < count; o += AT_ONCE) {
            const i64 many = std::min(AT_ONCE, count - o);
            const u8* from = (const u8*)layer.weight + (first + o) * blocks * Format::bytes;
            for (i64 b = 0; b < many * blocks; ++b)
                Format::expand(from + b * Format::bytes, rows.data() + b * Format::numbers);
            with_rows<T, float>(c, index, column, first + o, many, rows.data(), c.x32);
        }
    });
}

// The same for a transposed weight: four of its rows at a time are added to the sums.
template <typename T>
void some_columns(const Call<T>& c, i64 index, i64 column, i64 first, i64 count) {
    const Layer& layer = c.g.layers[index];
    std::vector<float> sums(c.rows * count);
    const i64 ld = layer.outputs, last = c.g.width - 1;
    for (i64 i = 0; i <= last; i += 4) {
        const T* w = (const T*)layer.weight + i * ld + first;
        const i64 a = std::min<i64>(1, last - i), b = std::min<i64>(2, last - i), n = last - i;
        for (i64 t = 0; t < c.rows; ++t) {
            const float* x = c.x32 + t * c.ldx + i;
            const float x1 = n > 0 ? x[1] : 0.0f, x2 = n > 1 ? x[2] : 0.0f,
                        x3 = n > 2 ? x[3] : 0.0f;
            const T *w1 = w + a * ld, *w2 = w + b * ld, *w3 = w + std::min<i64>(3, n) * ld;
            float* to = sums.data() + t * count;
#pragma omp simd
            for (i64 o = 0; o < count; ++o)
                to[o] += x[0] * load(w + o) + x1 * load(w1 + o) + x2 * load(w2 + o) +
                         x3 * load(w3 + o);
        }
    }
    for (i64 t = 0; t < c.rows; ++t)
        for (i64 o = 0; o < count; ++o)
            c.put(layer, index, column, first + o, t, sums[t * count + o]);
}

template <typename T>
void products(const Layers& g, const T* x, const i64* adapter, i64 rows, void* y, i64 ldy,
              i64 wide_y) {
    using Input = typename Dot<T>::Input;
    const i64 ldx = (g.width + Dot<T>::STEP - 1) / Dot<T>::STEP * Dot<T>::STEP;
    static thread_local std::vector<Input> converted;
    static thread_local std::vector<float> converted32, low;
    converted.assign(rows * ldx, Input{});
    for (i64 t = 0; t < rows; ++t)
        Dot<T>::convert(x + t * g.width, converted.data() + t * ldx, g.width);
    bool wide = adapter;
    for (i64 i = 0; i < g.count; ++i) wide = wide || g.layers[i].transposed || g.layers[i].kind;
    if (wide) {
        converted32.assign(rows * ldx, 0.0f);
        for (i64 t = 0; t < rows; ++t)
            for (i64 j = 0; j < g.width; ++j) converted32[t * ldx + j] = load(x + t * g.width + j);
    }
    if (adapter) low.assign(g.count * rows * g.most_rank, 0.0f);
    const Call<T> c{g,    converted.data(), converted32.data(), ldx, rows,
                    adapter, low.data(),       y,                  ldy, wide_y};
    i64 outputs = 0;
    for (i64 i = 0; i < g.count; ++i) outputs += g.layers[i].outputs;
#pragma omp parallel if (outputs * g.width >= 65536)
    {
        if (adapter) {
#pragma omp for schedule(static)
            for (i64 item = 0; item < g.count * g.adapters * g.most_rank; ++item)
                inner(c, item / g.most_rank / g.adapters, item / g.most_rank % g.adapters,
                      item % g.most_rank);
        }
        i64 column = 0;
        for (i64 i = 0; i < g.count; ++i) {
            const i64 block = g.layers[i].transposed ? 256 : 16;
#pragma omp for schedule(static) nowait
            for (i64 o = 0; o < g.layers[i].outputs; o += block) {
                const i64 count = std::min(block, g.layers[i].outputs - o);
                const Layer& layer = g.layers[i];
                if (layer.kind)
                    some_blocks(c, i, column, o, count);
                else if (layer.transposed)
                    some_columns(c, i, column, o, count);
                else
                    some_outputs(c, i, column, o, count);
            }
            column += g.layers[i].outputs;
        }
    }
}

// Up to how many rows these products are faster than a library's. Without instructions for bf16,
// libraries compute it far more slowly than float32.
inline i64 most_rows(float) { return 16; }
inline i64 most_rows(bf16) { return PAIRS ? 32 : 1 << 30; }

}  // namespace

#define EXPORT(SUFFIX, T)                                                                          \
    extern "C" void products_##SUFFIX(const Layers* layers, const T* x, const i64* adapter,        \
                                      i64 rows, void* y, i64 ldy, i64 wide) {                      \
        products<T>(*layers, x, adapter, rows, y, ldy, wide);                                      \
    }                                                                                              \
    extern "C" i64 most_rows_##SUFFIX() { return most_rows(T{}); }

EXPORT(bf16, bf16)
EXPORT(f32, float)
