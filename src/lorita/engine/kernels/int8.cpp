// Products of 16-bit numbers with a weight of 8-bit numbers, for processors whose float32 products
// are slower than those of 16-bit integers: AVX2, or AVX-512 without its 8-bit products.
//
// C [rows, n] = scales of the rows * sums over k * scales of the columns. A weight [outputs, inputs]
// serves both directions: forward, k are its inputs and n its outputs; backward, the reverse. Sums
// over K_BLOCK numbers are exact in 32 bits, and those sums are added in float32, so numbers may use
// all 16 bits. reference.py says what is computed.

#if defined(__AVX2__) && defined(__FMA__)
#include <algorithm>
#include <cstring>
#include <vector>

#include "lanes.h"

namespace {

constexpr i64 K_BLOCK = 512;  // 512 * 127 * 32767 is less than 2^31
constexpr i64 PANEL = WIDEST * LANES;  // columns that a product's tile has
constexpr i64 COLUMNS = 64;  // columns that share a block of rows in the cache
constexpr i64 ROWS = 96;     // rows of such a block, a multiple of a tile's six

struct Weight {
    const int8_t* values;
    i64 outputs, inputs;
};

// `count` bytes, and zeros up to 2 * LANES.
inline const int8_t* padded(const int8_t* from, i64 count, int8_t* room) {
    if (count >= 2 * LANES) return from;
    std::memset(room, 0, 2 * LANES);
    if (count > 0) std::memcpy(room, from, count);
    return room;
}

// Inputs of LANES outputs as cells [inputs / 2, LANES] of adjacent inputs, in a panel.
void pack_forward(const Weight& w, i64 first, cell* to) {
    int8_t room[2 * LANES];
    for (i64 k = 0; k < w.inputs; k += 2 * LANES) {
        ints x[LANES];
        for (i64 i = 0; i < LANES; ++i) {
            const i64 count = first + i < w.outputs ? w.inputs - k : 0;
            x[i] = paired(padded(w.values + (first + i) * w.inputs + k, count, room));
        }
        transpose_square(x);
        for (i64 i = 0; i < std::min(LANES, (w.inputs - k + 1) / 2); ++i)
            store_cells(to + (k / 2 + i) * PANEL, x[i]);
    }
}

// All outputs of LANES inputs as cells [outputs / 2, LANES] of adjacent outputs, in a panel.
void pack_backward(const Weight& w, i64 first, cell* to) {
    int8_t room[2 * LANES];
    for (i64 k = 0; k < w.outputs; k += 2) {
        const int8_t* row = w.values + k * w.inputs + first;
        const ints low = widened(padded(row, w.inputs - first, room));
        const i64 count = k + 1 < w.outputs ? w.inputs - first : 0;
        const ints high = widened(padded(row + w.inputs, count, room));
        store_cells(to + k / 2 * PANEL, both_halves(low, high));
    }
}

// Adds the exact sums to the sums so far, or writes them.
void add_up(const int32_t* exact, float* sums, i64 count, bool first) {
    for (i64 j = 0; j < count; j += LANES) {
        const floats v = converted(load_cells(exact + j));
        store(sums + j, first ? v : v + load(sums + j));
    }
}

void product(const int16_t* x, i64 rows, i64 k, i64 n, const Weight& w, bool backward,
             const float* row_scale, const float* column_scale, float* out) {
    const i64 cells = (k + 1) / 2, groups = (n + COLUMNS - 1) / COLUMNS;
#pragma omp parallel
    {
        std::vector<cell> packed(cells * COLUMNS);
        std::vector<int32_t> exact(ROWS * PANEL);
        std::vector<float> sums(ROWS * PANEL);
#pragma omp for schedule(dynamic)
        for (i64 group = 0; group < groups; ++group) {
            const i64 from = group * COLUMNS, until = std::min(n, from + COLUMNS);
            for (i64 c = from; c < until; c += LANES) {
                cell* to = packed.data() + (c - from) / PANEL * cells * PANEL + (c - from) % PANEL;
                backward ? pack_backward(w, c, to) : pack_forward(w, c, to);
            }
            for (i64 r = 0; r < rows; r += ROWS)
                for (i64 c = from; c < until; c += PANEL) {
                    const i64 m = std::min(ROWS, rows - r), width = std::min(PANEL, until - c);
                    const cell* a = (const cell*)x + r * cells;
                    const cell* b = packed.data() + (c - from) * cells;
                    for (i64 p = 0; p < cells; p += K_BLOCK / 2) {
                        multiply<int16_t, false>(a + p, cells, b + p * PANEL, PANEL, exact.data(),
                                                 PANEL, m, PANEL, std::min(K_BLOCK / 2, cells - p));
                        add_up(exact.data(), sums.data(), m * PANEL, p == 0);
                    }
                    for (i64 i = 0; i < m; ++i) {
                        float* to = out + (r + i) * n + c;
                        const float* sum = sums.data() + i * PANEL;
                        for (i64 j = 0; j < width; ++j)
                            to[j] = sum[j] * row_scale[r + i] *
                                    (column_scale ? column_scale[c + j] : 1.0f);
                    }
                }
        }
    }
}

}  // namespace

// x [rows, inputs] -> out [rows, outputs]; rows of x begin at even numbers.
extern "C" void int8_forward_f32(const int16_t* x, const int8_t* weight, const float* row_scale,
                                 const float* column_scale, float* out, i64 rows, i64 outputs,
                                 i64 inputs) {
    product(x, rows, inputs, outputs, {weight, outputs, inputs}, false, row_scale, column_scale, out);
}
// x [rows, outputs] -> out [rows, inputs]
extern "C" void int8_backward_f32(const int16_t* x, const int8_t* weight, const float* row_scale,
                                  float* out, i64 rows, i64 outputs, i64 inputs) {
    product(x, rows, outputs, inputs, {weight, outputs, inputs}, true, row_scale, nullptr, out);
}
#endif
