// Sixteen numbers at a time: the two formats in memory, e to the x, small products and
// transpositions, for processors with AVX-512. What attention.cpp is made of.

#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstdint>

namespace {

using i64 = int64_t;
using cell = uint32_t;  // one operand of a multiply-add: a float32 or two bf16 numbers
constexpr i64 LANES = 16;

// ---- the two formats of numbers -----------------------------------------------------------------

struct bf16 {
    uint16_t bits;
};

template <typename T>
struct Format;

template <>
struct Format<float> {
    static constexpr i64 PER_CELL = 1;
    static __m512 multiply_add(__m512 sum, __m512i a, __m512i b) {
        return _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), sum);
    }
    // 16 cells, each of one number from every row that shares a cell.
    static __m512i cells(__m512 row, __m512) { return _mm512_castps_si512(row); }
    static void store(float* to, __m512 v) { _mm512_storeu_ps(to, v); }
    static __m512 load(const float* from) { return _mm512_loadu_ps(from); }
};

#if defined(__AVX512BF16__) && !defined(__AMX_BF16__)
template <>
struct Format<bf16> {
    static constexpr i64 PER_CELL = 2;
    static __m512 multiply_add(__m512 sum, __m512i a, __m512i b) {
        return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
    }
    static __m512i cells(__m512 row0, __m512 row1) {
        __m512i both = (__m512i)_mm512_cvtne2ps_pbh(row1, row0);
        // Number i of the first, then number i of the second.
        const __m512i count =
            _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
        const __m512i order = _mm512_or_epi32(
            count, _mm512_slli_epi32(_mm512_add_epi32(count, _mm512_set1_epi32(LANES)), 16));
        return _mm512_permutexvar_epi16(order, both);
    }
    static void store(bf16* to, __m512 v) {
        _mm256_storeu_si256((__m256i*)to, (__m256i)_mm512_cvtneps_pbh(v));
    }
    static __m512 load(const bf16* from) {
        __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)from));
        return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
    }
};
#endif

// ---- e to the x, tanh ---------------------------------------------------------------------------

// The order of the operands keeps a NaN, which reveals a diverged run.
inline __m512 exp16(__m512 x) {
    x = _mm512_max_ps(_mm512_set1_ps(-200.0f), x);
    x = _mm512_min_ps(_mm512_set1_ps(88.0f), x);
    __m512 n = _mm512_roundscale_ps(x * 1.44269504088896341f, 8);
    __m512 r = x - n * 0.693359375f + n * 2.12194440e-4f;
    __m512 p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return _mm512_scalef_ps(p, n);
}
inline __m512 tanh16(__m512 x) {
    x = _mm512_max_ps(_mm512_set1_ps(-9.0f), x);
    x = _mm512_min_ps(_mm512_set1_ps(9.0f), x);
    __m512 e = exp16(x * 2.0f);
    return (e - 1.0f) / (e + 1.0f);
}

// ---- small products: C [m, n] (+)= A [m, cells] · B [cells, n] ----------------------------------

template <typename T, int ROWS, int VECTORS, bool ADD>
inline void tile(const cell* a, i64 lda, const cell* b, i64 ldb, float* c, i64 ldc, i64 cells) {
    __m512 sum[ROWS][VECTORS];  // all in registers: the loops below have to be unrolled
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; ++v)
            sum[i][v] = ADD ? _mm512_loadu_ps(c + i * ldc + v * LANES) : _mm512_setzero_ps();
    for (i64 k = 0; k < cells; ++k) {
        __m512i bk[VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; ++v) bk[v] = _mm512_loadu_si512(b + k * ldb + v * LANES);
#pragma GCC unroll 8
        for (int i = 0; i < ROWS; ++i) {
            __m512i ak = _mm512_set1_epi32(a[i * lda + k]);
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; ++v)
                sum[i][v] = Format<T>::multiply_add(sum[i][v], ak, bk[v]);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; ++v) _mm512_storeu_ps(c + i * ldc + v * LANES, sum[i][v]);
}

template <typename T, int VECTORS, bool ADD>
void columns(const cell* a, i64 lda, const cell* b, i64 ldb, float* c, i64 ldc, i64 m, i64 cells) {
    i64 i = 0;
    for (; i + 6 <= m; i += 6)
        tile<T, 6, VECTORS, ADD>(a + i * lda, lda, b, ldb, c + i * ldc, ldc, cells);
    const cell* rest = a + i * lda;
    float* to = c + i * ldc;
    switch (m - i) {
        case 5: return tile<T, 5, VECTORS, ADD>(rest, lda, b, ldb, to, ldc, cells);
        case 4: return tile<T, 4, VECTORS, ADD>(rest, lda, b, ldb, to, ldc, cells);
        case 3: return tile<T, 3, VECTORS, ADD>(rest, lda, b, ldb, to, ldc, cells);
        case 2: return tile<T, 2, VECTORS, ADD>(rest, lda, b, ldb, to, ldc, cells);
        case 1: return tile<T, 1, VECTORS, ADD>(rest, lda, b, ldb, to, ldc, cells);
    }
}

// n is a multiple of 16.
template <typename T, bool ADD>
void multiply(const cell* a, i64 lda, const cell* b, i64 ldb, float* c, i64 ldc, i64 m, i64 n,
              i64 cells) {
    i64 j = 0;
    for (; j + 4 * LANES <= n; j += 4 * LANES)
        columns<T, 4, ADD>(a, lda, b + j, ldb, c + j, ldc, m, cells);
    switch ((n - j) / LANES) {
        case 3: return columns<T, 3, ADD>(a, lda, b + j, ldb, c + j, ldc, m, cells);
        case 2: return columns<T, 2, ADD>(a, lda, b + j, ldb, c + j, ldc, m, cells);
        case 1: return columns<T, 1, ADD>(a, lda, b + j, ldb, c + j, ldc, m, cells);
    }
}

// ---- moving numbers into the order that the products need ---------------------------------------

// [rows, width] cells -> [width, rows]; columns up to the next multiple of 16 become zero.
void transpose(const cell* from, i64 ld_from, i64 rows, i64 width, cell* to, i64 ld_to) {
    for (i64 r = 0; r < rows; r += LANES)
        for (i64 w = 0; w < width; w += LANES) {
            __m512i x[LANES], y[LANES];
            const __mmask16 some = width - w >= LANES ? 0xffff : (1u << (width - w)) - 1;
            for (i64 i = 0; i < LANES; ++i)
                x[i] = r + i < rows
                           ? _mm512_maskz_loadu_epi32(some, from + (r + i) * ld_from + w)
                           : _mm512_setzero_si512();
            for (int i = 0; i < 16; i += 2) {
                y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
                y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
            }
            for (int i = 0; i < 16; i += 4)
                for (int j = 0; j < 2; ++j) {
                    x[i + 2 * j] = _mm512_unpacklo_epi64(y[i + j], y[i + j + 2]);
                    x[i + 2 * j + 1] = _mm512_unpackhi_epi64(y[i + j], y[i + j + 2]);
                }
            for (int j = 0; j < 4; ++j) {  // swap quarters of 4 by 4
                __m512i a = _mm512_shuffle_i32x4(x[j], x[j + 4], 0x88);
                __m512i b = _mm512_shuffle_i32x4(x[j], x[j + 4], 0xdd);
                __m512i c = _mm512_shuffle_i32x4(x[j + 8], x[j + 12], 0x88);
                __m512i d = _mm512_shuffle_i32x4(x[j + 8], x[j + 12], 0xdd);
                y[j] = _mm512_shuffle_i32x4(a, c, 0x88);
                y[j + 8] = _mm512_shuffle_i32x4(a, c, 0xdd);
                y[j + 4] = _mm512_shuffle_i32x4(b, d, 0x88);
                y[j + 12] = _mm512_shuffle_i32x4(b, d, 0xdd);
            }
            for (i64 i = 0; i < std::min(LANES, width - w); ++i)
                _mm512_storeu_si512(to + (w + i) * ld_to + r, y[i]);
        }
}

// [rows, d] numbers -> [rows / PER_CELL, d] cells of adjacent rows; zeros past the end.
template <typename T>
void pair_rows(const T* from, i64 rows, i64 padded, i64 d, cell* to) {
    constexpr i64 P = Format<T>::PER_CELL;
    for (i64 r = 0; r < padded; r += P)
        for (i64 j = 0; j < d; j += LANES) {
            __m512 low = _mm512_setzero_ps(), high = low;
            if (r < rows) low = Format<T>::load(from + r * d + j);
            if (r + 1 < rows) high = Format<T>::load(from + (r + 1) * d + j);
            _mm512_storeu_si512(to + r / P * d + j, Format<T>::cells(low, high));
        }
}

inline i64 up(i64 n, i64 to) { return (n + to - 1) / to * to; }

}  // namespace
