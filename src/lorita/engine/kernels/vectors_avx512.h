// Vectors of sixteen numbers, for processors with AVX-512: what lanes.h is made of. vectors_avx2.h
// has the same names.

#pragma once

#include <immintrin.h>

#include <cstdint>

namespace {

using i64 = int64_t;
using cell = uint32_t;  // one operand of a multiply-add: a float32 or two 16-bit numbers
constexpr i64 LANES = 16;
constexpr int WIDEST = 4;  // vectors in a row of a product's tile: as many as the registers hold

using floats = __m512;
using ints = __m512i;
using mask = __mmask16;

inline floats zeros() { return _mm512_setzero_ps(); }
inline floats all(float x) { return _mm512_set1_ps(x); }
inline floats load(const float* from) { return _mm512_loadu_ps(from); }
inline void store(float* to, floats v) { _mm512_storeu_ps(to, v); }
inline floats fused(floats sum, floats a, floats b) { return _mm512_fmadd_ps(a, b, sum); }
inline floats larger(floats a, floats b) { return _mm512_max_ps(a, b); }
inline floats smaller(floats a, floats b) { return _mm512_min_ps(a, b); }
inline floats rounded(floats v) { return _mm512_roundscale_ps(v, 8); }
inline floats times_two_to(floats v, floats n) { return _mm512_scalef_ps(v, n); }
inline float total_of(floats v) { return _mm512_reduce_add_ps(v); }

inline ints no_cells() { return _mm512_setzero_si512(); }
inline ints all_cells(int32_t x) { return _mm512_set1_epi32(x); }
inline ints load_cells(const void* from) { return _mm512_loadu_si512(from); }
inline void store_cells(void* to, ints v) { _mm512_storeu_si512(to, v); }
inline ints added(ints a, ints b) { return _mm512_add_epi32(a, b); }
inline ints less(ints a, ints b) { return _mm512_sub_epi32(a, b); }
inline floats as_floats(ints bits) { return _mm512_castsi512_ps(bits); }
inline ints as_cells(floats bits) { return _mm512_castps_si512(bits); }
inline floats converted(ints v) { return _mm512_cvtepi32_ps(v); }

// Bytes as 32-bit numbers, and twice as many bytes as pairs of 16-bit numbers.
inline ints widened(const int8_t* from) {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)from));
}
inline ints paired(const int8_t* from) {
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i*)from));
}
// Both 16-bit numbers of a cell are multiplied, and the two products added to the sum.
inline ints add_products(ints sum, ints a, ints b) {
#if defined(__AVX512VNNI__)
    return _mm512_dpwssd_epi32(sum, a, b);
#else
    return _mm512_add_epi32(sum, _mm512_madd_epi16(a, b));
#endif
}
inline ints both_halves(ints low, ints high) {
    return _mm512_mask_blend_epi16(0xaaaaaaaa, low, _mm512_slli_epi32(high, 16));
}

inline mask greater(ints a, ints b) { return _mm512_cmpgt_epi32_mask(a, b); }
inline mask both(mask a, mask b) { return a & b; }
inline floats chosen(mask m, floats yes, floats no) { return _mm512_mask_blend_ps(m, no, yes); }
inline floats or_zero(mask m, floats v) { return _mm512_maskz_mov_ps(m, v); }
inline bool differ(floats a, floats b) { return _mm512_cmpneq_ps_mask(a, b) != 0; }

// The first `count` of the cells, and zeros.
inline ints first_cells(const cell* from, i64 count) {
    const mask some = count >= LANES ? 0xffff : (1u << count) - 1;
    return _mm512_maskz_loadu_epi32(some, from);
}

// Sixteen rows of sixteen cells become columns.
inline void transpose_square(ints* x) {
    ints y[LANES];
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
        ints a = _mm512_shuffle_i32x4(x[j], x[j + 4], 0x88);
        ints b = _mm512_shuffle_i32x4(x[j], x[j + 4], 0xdd);
        ints c = _mm512_shuffle_i32x4(x[j + 8], x[j + 12], 0x88);
        ints d = _mm512_shuffle_i32x4(x[j + 8], x[j + 12], 0xdd);
        y[j] = _mm512_shuffle_i32x4(a, c, 0x88);
        y[j + 8] = _mm512_shuffle_i32x4(a, c, 0xdd);
        y[j + 4] = _mm512_shuffle_i32x4(b, d, 0x88);
        y[j + 12] = _mm512_shuffle_i32x4(b, d, 0xdd);
    }
    for (int i = 0; i < 16; ++i) x[i] = y[i];
}

}  // namespace
