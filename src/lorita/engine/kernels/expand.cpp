// Quantised blocks of a GGUF file expanded into float32 or bf16, a stretch of blocks at a time.
//
// Every number is computed in float32 in the order in which gguf-py computes it, and rounded once, so
// that the result is equal bit by bit; this file is compiled without fused or reordered arithmetic.

#include <type_traits>

#include "blocks.h"

namespace {

template <typename Format, typename Out>
void expand_all(Format, const u8* blocks, i64 count, Out* out) {
#pragma omp parallel for schedule(static) if (count * Format::numbers >= 65536)
    for (i64 block = 0; block < count; block++) {
        const u8* from = blocks + block * Format::bytes;
        Out* to = out + block * Format::numbers;
        if constexpr (std::is_same_v<Out, float>) {
            Format::expand(from, to);
        } else {
            alignas(64) float numbers[Format::numbers];
            Format::expand(from, numbers);
            for (int i = 0; i < Format::numbers; i++) store(to + i, numbers[i]);
        }
    }
}

template <typename Out>
void expand(const u8* blocks, i64 kind, i64 count, Out* out) {
    with_format(kind, [&](auto format) { expand_all(format, blocks, count, out); });
}

}  // namespace

extern "C" {

void expand_f32(const u8* blocks, i64 kind, i64 count, float* out) {
    expand(blocks, kind, count, out);
}
void expand_bf16(const u8* blocks, i64 kind, i64 count, bf16* out) {
    expand(blocks, kind, count, out);
}

}  // extern "C"
