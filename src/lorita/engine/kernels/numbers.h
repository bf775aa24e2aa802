// One number at a time: the two formats in memory, e to the x, tanh and sigmoid, for loops that the
// compiler vectorises. What native.cpp is made of.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

using i64 = int64_t;

struct bf16 {
    uint16_t bits;
};

static inline float load(const float* p) { return *p; }
static inline float load(const bf16* p) {
    uint32_t u = static_cast<uint32_t>(p->bits) << 16;
    float f;
    std::memcpy(&f, &u, 4);
    return f;
}
static inline void store(float* p, float f) { *p = f; }
static inline void store(bf16* p, float f) {
    uint32_t u;
    std::memcpy(&u, &f, 4);
    // Round to nearest even; a NaN stays a NaN.
    uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    p->bits = static_cast<uint16_t>(f != f ? (u >> 16) | 0x40u : rounded);
}

// exp in float32: 2^n times a polynomial, relative error below 3e-7. std::exp does not vectorise on
// every system.
static inline float fast_exp(float x) {
    x = x < -87.0f ? -87.0f : (x > 88.0f ? 88.0f : x);
    float n = std::nearbyint(x * 1.44269504088896341f);
    float r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    int32_t e = static_cast<int32_t>(n) + 127;
    uint32_t u = static_cast<uint32_t>(e) << 23;
    float s;
    std::memcpy(&s, &u, 4);
    return p * s;
}
static inline float fast_tanh(float x) {
    x = x < -9.0f ? -9.0f : (x > 9.0f ? 9.0f : x);
    float e = fast_exp(2.0f * x);
    return (e - 1.0f) / (e + 1.0f);
}
static inline float sigmoid(float x) { return 1.0f / (1.0f + fast_exp(-x)); }
