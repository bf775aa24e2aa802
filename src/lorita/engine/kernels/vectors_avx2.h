// Vectors of eight numbers, for processors with AVX2 and FMA: what lanes.h is made of.
// vectors_avx512.h has the same names.

#pragma once

#include <immintrin.h>

#include <cstdint>

namespace {

using i64 = int64_t;
using cell = uint32_t;  // one operand of a multiply-add: a float32 or two 16-bit numbers
constexpr i64 LANES = 8;
constexpr int WIDEST = 2;  // vectors in a row of a product's tile: as many as the registers hold

using floats = __m256;
using ints = __m256i;
using mask = __m256i;

inline floats zeros() { return _mm256_setzero_ps(); }
inline floats all(float x) { return _mm256_set1_ps(x); }
inline floats load(const float* from) { return _mm256_loadu_ps(from); }
inline void store(float* to, floats v) { _mm256_storeu_ps(to, v); }
inline floats fused(floats sum, floats a, floats b) { return _mm256_fmadd_ps(a, b, sum); }
inline floats larger(floats a, floats b) { return _mm256_max_ps(a, b); }
inline floats smaller(floats a, floats b) { return _mm256_min_ps(a, b); }
inline floats rounded(floats v) { return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | 8); }
// For whole n up to 127. Two factors, because 2^n alone may be too small for a float; below -250 the
// product is zero in any case.
inline floats times_two_to(floats v, floats n) {
    const ints whole = _mm256_max_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(-250));
    const ints half = _mm256_srai_epi32(whole, 1), bias = _mm256_set1_epi32(127);
    auto power = [&](ints e) {
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(e, bias), 23));
    };
    return v * power(half) * power(_mm256_sub_epi32(whole, half));
}
inline float total_of(floats v) {
    __m128 sum = _mm256_castps256_ps128(v) + _mm256_extractf128_ps(v, 1);
    sum = sum + _mm_movehl_ps(sum, sum);
    return sum[0] + sum[1];
}

inline ints no_cells() { return _mm256_setzero_si256(); }
inline ints all_cells(int32_t x) { return _mm256_set1_epi32(x); }
inline ints load_cells(const void* from) { return _mm256_loadu_si256((const __m256i*)from); }
inline void store_cells(void* to, ints v) { _mm256_storeu_si256((__m256i*)to, v); }
inline ints added(ints a, ints b) { return _mm256_add_epi32(a, b); }
inline ints less(ints a, ints b) { return _mm256_sub_epi32(a, b); }
inline floats as_floats(ints bits) { return _mm256_castsi256_ps(bits); }
inline ints as_cells(floats bits) { return _mm256_castps_si256(bits); }
inline floats converted(ints v) { return _mm256_cvtepi32_ps(v); }

// Bytes as 32-bit numbers, and twice as many bytes as pairs of 16-bit numbers.
inline ints widened(const int8_t* from) {
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)from));
}
inline ints paired(const int8_t* from) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)from));
}
// Both 16-bit numbers of a cell are multiplied, and the two products added to the sum.
inline ints add_products(ints sum, ints a, ints b) {
#if defined(__AVXVNNI__)
    return _mm256_dpwssd_avx_epi32(sum, a, b);
#else
    return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
#endif
}
inline ints both_halves(ints low, ints high) {
    return _mm256_blend_epi16(low, _mm256_slli_epi32(high, 16), 0xaa);
}

inline mask greater(ints a, ints b) { return _mm256_cmpgt_epi32(a, b); }
inline mask both(mask a, mask b) { return _mm256_and_si256(a, b); }
inline floats chosen(mask m, floats yes, floats no) {
    return _mm256_blendv_ps(no, yes, _mm256_castsi256_ps(m));
}
inline floats or_zero(mask m, floats v) { return _mm256_and_ps(_mm256_castsi256_ps(m), v); }
inline bool differ(floats a, floats b) {
    return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_NEQ_UQ)) != 0;
}

// The first `count` of the cells, and zeros.
inline ints first_cells(const cell* from, i64 count) {
    const ints place = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const ints some = _mm256_cmpgt_epi32(_mm256_set1_epi32(count < LANES ? (int)count : 8), place);
    return _mm256_maskload_epi32((const int*)from, some);
}

// Eight rows of eight cells become columns.
inline void transpose_square(ints* x) {
    ints y[LANES];
    for (int i = 0; i < 8; i += 2) {
        y[i] = _mm256_unpacklo_epi32(x[i], x[i + 1]);
        y[i + 1] = _mm256_unpackhi_epi32(x[i], x[i + 1]);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; ++j) {
            x[i + 2 * j] = _mm256_unpacklo_epi64(y[i + j], y[i + j + 2]);
            x[i + 2 * j + 1] = _mm256_unpackhi_epi64(y[i + j], y[i + j + 2]);
        }
    for (int j = 0; j < 4; ++j) {  // swap halves of 4 by 4
        y[j] = _mm256_permute2x128_si256(x[j], x[j + 4], 0x20);
        y[j + 4] = _mm256_permute2x128_si256(x[j], x[j + 4], 0x31);
    }
    for (int i = 0; i < 8; ++i) x[i] = y[i];
}

}  // namespace
