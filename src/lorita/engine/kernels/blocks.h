// Quantised blocks of GGUF files: for each format, how a block becomes numbers.
//
// Every number is computed in float32 in the order in which gguf-py computes it.
// Formats: https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h

#pragma once

#include "numbers.h"


namespace {

using u8 = uint8_t;
using i8 = int8_t;

inline uint16_t u16_at(const u8* p) { return static_cast<uint16_t>(p[0] | (p[1] << 8)); }
inline uint32_t u32_at(const u8* p) {
    return p[0] | (p[1] << 8) | (p[2] << 16) | (static_cast<uint32_t>(p[3]) << 24);
}

// An IEEE half, subnormal, infinite or not a number, as float32.
inline float half_at(const u8* p) {
    uint32_t bits = u16_at(p);
    uint32_t sign = (bits & 0x8000u) << 16, rest = bits & 0x7fffu;
    float value;
    if (rest >= 0x7c00u) {
        uint32_t u = sign | 0x7f800000u | ((rest & 0x3ffu) << 13);
        std::memcpy(&value, &u, 4);
    } else if (rest < 0x400u) {
        value = static_cast<float>(rest) * 5.9604644775390625e-8f;  // 2^-24
        value = sign ? -value : value;
    } else {
        uint32_t u = sign | ((rest << 13) + 0x38000000u);
        std::memcpy(&value, &u, 4);
    }
    return value;
}

// For formats whose loops the compiler does not turn into vectors by itself.
using bytes16 = u8 __attribute__((vector_size(16)));
using signed8 = i8 __attribute__((vector_size(8)));
using ints8 = int32_t __attribute__((vector_size(32)));
using floats8 = float __attribute__((vector_size(32)));

inline bytes16 bytes_at(const u8* p) {
    bytes16 v;
    std::memcpy(&v, p, 16);
    return v;
}
inline floats8 numbers_at(const i8* q) {
    signed8 v;
    std::memcpy(&v, q, 8);
    return __builtin_convertvector(__builtin_convertvector(v, ints8), floats8);
}

// 16 whole numbers q become scale * q, or that and a number that is added.
inline void put16(bytes16 q, float scale, float* y) {
    i8 whole[16];
    std::memcpy(whole, &q, 16);
    for (int i = 0; i < 16; i += 8) {
        const floats8 out = scale * numbers_at(whole + i);
        std::memcpy(y + i, &out, 32);
    }
}
inline void put16_more(bytes16 q, float scale, float added, float* y) {
    i8 whole[16];
    std::memcpy(whole, &q, 16);
    for (int i = 0; i < 16; i += 8) {
        const floats8 out = scale * numbers_at(whole + i) + added;
        std::memcpy(y + i, &out, 32);
    }
}
// One struct per format: numbers and bytes of a block, and how a block becomes numbers.

struct Q4_0 {
    static constexpr int numbers = 32, bytes = 18;
    static void expand(const u8* b, float* y) {
        const float d = half_at(b);
        const bytes16 q = bytes_at(b + 2);
        put16((q & 15) - 8, d, y);
        put16((q >> 4) - 8, d, y + 16);
    }
};

struct Q4_1 {
    static constexpr int numbers = 32, bytes = 20;
    static void expand(const u8* b, float* y) {
        const float d = half_at(b), m = half_at(b + 2);
        const bytes16 q = bytes_at(b + 4);
        put16_more(q & 15, d, m, y);
        put16_more(q >> 4, d, m, y + 16);
    }
};

struct Q5_0 {
    static constexpr int numbers = 32, bytes = 22;
    static void expand(const u8* b, float* y) {
        float d = half_at(b);
        uint32_t high = u32_at(b + 2);
        for (int i = 0; i < 16; i++) {
            int low = (b[6 + i] & 15) | (((high >> i) & 1) << 4);
            int up = (b[6 + i] >> 4) | (((high >> (16 + i)) & 1) << 4);
            y[i] = d * static_cast<float>(low - 16);
            y[16 + i] = d * static_cast<float>(up - 16);
        }
    }
};

struct Q5_1 {
    static constexpr int numbers = 32, bytes = 24;
    static void expand(const u8* b, float* y) {
        float d = half_at(b), m = half_at(b + 2);
        uint32_t high = u32_at(b + 4);
        for (int i = 0; i < 16; i++) {
            int low = (b[8 + i] & 15) | (((high >> i) & 1) << 4);
            int up = (b[8 + i] >> 4) | (((high >> (16 + i)) & 1) << 4);
            y[i] = d * static_cast<float>(low) + m;
            y[16 + i] = d * static_cast<float>(up) + m;
        }
    }
};

struct Q8_0 {
    static constexpr int numbers = 32, bytes = 34;
    static void expand(const u8* b, float* y) {
        float d = half_at(b);
        for (int i = 0; i < 32; i++) y[i] = static_cast<float>(static_cast<i8>(b[2 + i])) * d;
    }
};

struct Q2_K {
    static constexpr int numbers = 256, bytes = 84;
    static void expand(const u8* b, float* y) {
        const u8 *scales = b, *low = b + 16;
        float d = half_at(b + 80), least = half_at(b + 82);
        for (int group = 0; group < 16; group++) {  // of 16 numbers
            float scale = d * static_cast<float>(scales[group] & 15);
            float minimum = least * static_cast<float>(scales[group] >> 4);
            const u8* q = low + 32 * (group / 8) + 16 * (group % 2);
            int shift = 2 * ((group / 2) % 4);
            for (int i = 0; i < 16; i++)
                y[16 * group + i] = scale * static_cast<float>((q[i] >> shift) & 3) - minimum;
        }
    }
};

struct Q3_K {
    static constexpr int numbers = 256, bytes = 110;
    static void expand(const u8* b, float* y) {
        const u8 *mask = b, *low = b + 32, *scales = b + 96;
        float d = half_at(b + 108);
        for (int group = 0; group < 16; group++) {
            int part = scales[group % 8] >> (4 * (group / 8));
            int top = scales[8 + group % 4] >> (2 * (group / 4));
            float scale = d * static_cast<float>(((part & 15) | ((top & 3) << 4)) - 32);
            const u8* q = low + 32 * (group / 8) + 16 * (group % 2);
            const u8* h = mask + 16 * (group % 2);
            int shift = 2 * ((group / 2) % 4), bit = group / 2;
            for (int i = 0; i < 16; i++) {
                int less = ((h[i] >> bit) & 1) ? 0 : 4;
                y[16 * group + i] = scale * static_cast<float>(((q[i] >> shift) & 3) - less);
            }
        }
    }
};

// The scales and minima of Q4_K and Q5_K, six bits each, packed into twelve bytes.
inline void six_bits(const u8* p, int group, int& scale, int& minimum) {
    if (group < 4) {
        scale = p[group] & 63;
        minimum = p[4 + group] & 63;
    } else {
        scale = (p[4 + group] & 15) | ((p[group - 4] >> 6) << 4);
        minimum = (p[4 + group] >> 4) | ((p[group] >> 6) << 4);
    }
}

struct Q4_K {
    static constexpr int numbers = 256, bytes = 144;
    static void expand(const u8* b, float* y) {
        float d = half_at(b), least = half_at(b + 2);
        for (int group = 0; group < 8; group++) {  // of 32 numbers
            int s, m;
            six_bits(b + 4, group, s, m);
            float scale = d * static_cast<float>(s), minimum = least * static_cast<float>(m);
            const u8* q = b + 16 + 32 * (group / 2);
            int shift = 4 * (group % 2);
            for (int i = 0; i < 32; i++)
                y[32 * group + i] = scale * static_cast<float>((q[i] >> shift) & 15) - minimum;
        }
    }
};

struct Q5_K {
    static constexpr int numbers = 256, bytes = 176;
    static void expand(const u8* b, float* y) {
        float d = half_at(b), least = half_at(b + 2);
        const u8* high = b + 16;
        for (int group = 0; group < 8; group++) {
            int s, m;
            six_bits(b + 4, group, s, m);
            float scale = d * static_cast<float>(s), minimum = least * static_cast<float>(m);
            const u8* q = b + 48 + 32 * (group / 2);
            int shift = 4 * (group % 2);
            for (int i = 0; i < 32; i++) {
                int value = ((q[i] >> shift) & 15) | (((high[i] >> group) & 1) << 4);
                y[32 * group + i] = scale * static_cast<float>(value) - minimum;
            }
        }
    }
};

struct Q6_K {
    static constexpr int numbers = 256, bytes = 210;
    static void expand(const u8* b, float* y) {
        const u8 *low = b, *high = b + 128, *scales = b + 192;
        float d = half_at(b + 208);
        for (int group = 0; group < 16; group++) {
            float scale = d * static_cast<float>(static_cast<i8>(scales[group]));
            int part = group / 8, row = (group / 2) % 4, side = 16 * (group % 2);
            const u8* q = low + 64 * part + 32 * (row % 2) + side;
            const u8* h = high + 32 * part + side;
            int shift = 4 * (row / 2), place = 2 * row;
            for (int i = 0; i < 16; i++) {
                int value = ((q[i] >> shift) & 15) | (((h[i] >> place) & 3) << 4);
                y[16 * group + i] = scale * static_cast<float>(value - 32);
            }
        }
    }
};

constexpr i8 LEVELS[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

inline bytes16 levels_of(bytes16 q) {
    bytes16 v;
    for (int i = 0; i < 16; i++) v[i] = static_cast<u8>(LEVELS[q[i]]);
    return v;
}

struct IQ4_NL {
    static constexpr int numbers = 32, bytes = 18;
    static void expand(const u8* b, float* y) {
        const float d = half_at(b);
        const bytes16 q = bytes_at(b + 2);
        put16(levels_of(q & 15), d, y);
        put16(levels_of(q >> 4), d, y + 16);
    }
};

struct IQ4_XS {
    static constexpr int numbers = 256, bytes = 136;
    static void expand(const u8* b, float* y) {
        const float d = half_at(b);
        const int top = u16_at(b + 2);
        for (int group = 0; group < 8; group++) {
            const int low = (b[4 + group / 2] >> (4 * (group % 2))) & 15;
            const int s = (low | (((top >> (2 * group)) & 3) << 4)) - 32;
            const float scale = d * static_cast<float>(s);
            const bytes16 q = bytes_at(b + 8 + 16 * group);
            put16(levels_of(q & 15), scale, y + 32 * group);
            put16(levels_of(q >> 4), scale, y + 32 * group + 16);
        }
    }
};

// Calls ``f`` with the format of this number in enum ggml_type; false for one that is not here.
template <typename F>
inline bool with_format(i64 kind, F f) {
    switch (kind) {
        case 2: return f(Q4_0{}), true;
        case 3: return f(Q4_1{}), true;
        case 6: return f(Q5_0{}), true;
        case 7: return f(Q5_1{}), true;
        case 8: return f(Q8_0{}), true;
        case 10: return f(Q2_K{}), true;
        case 11: return f(Q3_K{}), true;
        case 12: return f(Q4_K{}), true;
        case 13: return f(Q5_K{}), true;
        case 14: return f(Q6_K{}), true;
        case 20: return f(IQ4_NL{}), true;
        case 23: return f(IQ4_XS{}), true;
    }
    return false;
}

}  // namespace
