// What attention.cpp and int8.cpp are made of: the formats of numbers, e to the x, small products and
// transpositions, LANES numbers at a time. For processors with AVX2 or AVX-512; the two differ only
// in vectors_*.h.

#pragma once

#if defined(__AVX512F__) && defined(__AVX512BW__)
#include "vectors_avx512.h"
#else
#include "vectors_avx2.h"
#endif

#include <algorithm>

namespace {

// ---- the formats of numbers ---------------------------------------------------------------------

struct bf16 {
    uint16_t bits;
};

template <typename T>
struct Format;

template <>
struct Format<float> {
    static constexpr i64 PER_CELL = 1;
    using Sum = float;
    static ints multiply_add(ints sum, ints a, ints b) {
        return as_cells(fused(as_floats(sum), as_floats(a), as_floats(b)));
    }
    // LANES cells, each of one number from every row that shares a cell.
    static ints cells(floats row, floats) { return as_cells(row); }
    static void store(float* to, floats v) { ::store(to, v); }
    static floats load(const float* from) { return ::load(from); }
};

#if defined(__AVX512BF16__) && !defined(__AMX_BF16__)
template <>
struct Format<bf16> {
    static constexpr i64 PER_CELL = 2;
    using Sum = float;
    static ints multiply_add(ints sum, ints a, ints b) {
        return as_cells(_mm512_dpbf16_ps(as_floats(sum), (__m512bh)a, (__m512bh)b));
    }
    static ints cells(floats row0, floats row1) {
        ints two = (ints)_mm512_cvtne2ps_pbh(row1, row0);
        // Number i of the first, then number i of the second.
        const ints count = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
        const ints order = _mm512_or_epi32(
            count, _mm512_slli_epi32(_mm512_add_epi32(count, _mm512_set1_epi32(LANES)), 16));
        return _mm512_permutexvar_epi16(order, two);
    }
    static void store(bf16* to, floats v) {
        _mm256_storeu_si256((__m256i*)to, (__m256i)_mm512_cvtneps_pbh(v));
    }
    static floats load(const bf16* from) {
        ints wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)from));
        return as_floats(_mm512_slli_epi32(wide, 16));
    }
};
#endif

template <>
struct Format<int16_t> {
    static constexpr i64 PER_CELL = 2;
    using Sum = int32_t;
    static ints multiply_add(ints sum, ints a, ints b) { return add_products(sum, a, b); }
};

// ---- e to the x, tanh ---------------------------------------------------------------------------

// The order of the operands keeps a NaN, which reveals a diverged run.
inline floats exponential(floats x) {
    x = larger(all(-200.0f), x);
    x = smaller(all(88.0f), x);
    floats n = rounded(x * 1.44269504088896341f);
    floats r = x - n * 0.693359375f + n * 2.12194440e-4f;
    floats p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return times_two_to(p, n);
}
inline floats hyperbolic_tangent(floats x) {
    x = larger(all(-9.0f), x);
    x = smaller(all(9.0f), x);
    floats e = exponential(x * 2.0f);
    return (e - 1.0f) / (e + 1.0f);
}

// ---- small products: C [m, n] (+)= A [m, cells] · B [cells, n] ----------------------------------

template <typename T>
using sum_of = typename Format<T>::Sum;  // what C holds, 32 bits each

template <typename T, int ROWS, int VECTORS, bool ADD>
inline void tile(const cell* a, i64 lda, const cell* b, i64 ldb, sum_of<T>* c, i64 ldc, i64 cells) {
    ints sum[ROWS][VECTORS];  // all in registers: the loops below have to be unrolled
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; ++v)
            sum[i][v] = ADD ? load_cells(c + i * ldc + v * LANES) : no_cells();
    for (i64 k = 0; k < cells; ++k) {
        ints bk[VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; ++v) bk[v] = load_cells(b + k * ldb + v * LANES);
#pragma GCC unroll 8
        for (int i = 0; i < ROWS; ++i) {
            ints ak = all_cells(a[i * lda + k]);
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; ++v)
                sum[i][v] = Format<T>::multiply_add(sum[i][v], ak, bk[v]);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; ++v) store_cells(c + i * ldc + v * LANES, sum[i][v]);
}

template <typename T, int VECTORS, bool ADD>
void columns(const cell* a, i64 lda, const cell* b, i64 ldb, sum_of<T>* c, i64 ldc, i64 m,
             i64 cells) {
    i64 i = 0;
    for (; i + 6 <= m; i += 6)
        tile<T, 6, VECTORS, ADD>(a + i * lda, lda, b, ldb, c + i * ldc, ldc, cells);
    const cell* rest = a + i * lda;
    sum_of<T>* to = c + i * ldc;
    switch (m - i) {
        case 5: return tile<T, 5, VECTORS, ADD>(rest, lda, b, ldb, to, ldc, cells);
        case 4: return tile<T, 4, VECTORS, ADD>(rest, lda, b, ldb, to, ldc, cells);
        case 3: return tile<T, 3, VECTORS, ADD>(rest, lda, b, ldb, to, ldc, cells);
        case 2: return tile<T, 2, VECTORS, ADD>(rest, lda, b, ldb, to, ldc, cells);
        case 1: return tile<T, 1, VECTORS, ADD>(rest, lda, b, ldb, to, ldc, cells);
    }
}

// n is a multiple of LANES.
template <typename T, bool ADD>
void multiply(const cell* a, i64 lda, const cell* b, i64 ldb, sum_of<T>* c, i64 ldc, i64 m, i64 n,
              i64 cells) {
    i64 j = 0;
    for (; j + WIDEST * LANES <= n; j += WIDEST * LANES)
        columns<T, WIDEST, ADD>(a, lda, b + j, ldb, c + j, ldc, m, cells);
    switch ((n - j) / LANES) {
        case 3: return columns<T, 3, ADD>(a, lda, b + j, ldb, c + j, ldc, m, cells);
        case 2: return columns<T, 2, ADD>(a, lda, b + j, ldb, c + j, ldc, m, cells);
        case 1: return columns<T, 1, ADD>(a, lda, b + j, ldb, c + j, ldc, m, cells);
    }
}

// ---- moving numbers into the order that the products need ---------------------------------------

// [rows, width] cells -> [width, rows]; columns up to the next multiple of LANES become zero.
inline void transpose(const cell* from, i64 ld_from, i64 rows, i64 width, cell* to, i64 ld_to) {
    for (i64 r = 0; r < rows; r += LANES)
        for (i64 w = 0; w < width; w += LANES) {
            ints x[LANES];
            for (i64 i = 0; i < LANES; ++i)
                x[i] = r + i < rows ? first_cells(from + (r + i) * ld_from + w, width - w)
                                    : no_cells();
            transpose_square(x);
            for (i64 i = 0; i < std::min(LANES, width - w); ++i)
                store_cells(to + (w + i) * ld_to + r, x[i]);
        }
}

// [rows, d] numbers -> [rows / PER_CELL, d] cells of adjacent rows; zeros past the end.
template <typename T>
void pair_rows(const T* from, i64 rows, i64 padded, i64 d, cell* to) {
    constexpr i64 P = Format<T>::PER_CELL;
    for (i64 r = 0; r < padded; r += P)
        for (i64 j = 0; j < d; j += LANES) {
            floats low = zeros(), high = low;
            if (r < rows) low = Format<T>::load(from + r * d + j);
            if (r + 1 < rows) high = Format<T>::load(from + (r + 1) * d + j);
            store_cells(to + r / P * d + j, Format<T>::cells(low, high));
        }
}

inline i64 up(i64 n, i64 to) { return (n + to - 1) / to * to; }

}  // namespace
