// Causal attention within packed rows, without the matrix of scores ever being in memory: blocks of
// it are computed, used and discarded, forward and backward (FlashAttention-2: Dao, 2023).
//
// Written for short rows and small heads, where a library's matrix products are too small to be
// fast. Needs AVX2 or AVX-512, and AVX512_BF16 for bf16. Where the processor has a matrix unit
// (AMX), bf16 is left to torch's products, which use it. reference.py says what is computed.
//
// A block has up to 64 queries, which are the columns of every matrix here: softmax is then one
// operation on LANES columns at a time. The G query heads that share a key/value head count as G
// queries per token.

#if defined(__AVX2__) && defined(__FMA__) && defined(_OPENMP)
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "lanes.h"

namespace {

constexpr i64 QUERIES = 64, KEYS = 64;
constexpr float NEVER = -3e38f;  // the score of a key that a query does not attend to

// ---- one key/value head of one row --------------------------------------------------------------

struct How {
    i64 kv, group, d, window;
    const float* slopes;
    float scale, cap;
};

template <typename T>
struct Head {
    const T *q, *k, *v, *out, *grad;
    T *to_out, *d_q, *d_k, *d_v;
    float* lse;  // for each query: log of the sum of exponentials
    const float* slopes;  // of this head's queries, or null
    i64 length;   // keys
    i64 skipped;  // keys before the first query: the beginning that a row shares with others
};

// Shared by the threads that compute one head.
template <typename T>
struct Shared {
    std::vector<cell> turned;      // V (forward) or K (backward) as [d, keys], cells of keys
    std::vector<float> d_k, d_v;  // one sum per thread
    int threads = 1;
};

// Private to each thread.
struct Scratch {
    std::vector<cell> q_turned, g_turned, q_pairs, g_pairs, s_pairs;
    std::vector<float> scores, d_probs, sum;
    std::vector<uint16_t> probs, d_scores;
    alignas(64) float slope[QUERIES], lse[QUERIES], delta[QUERIES], top[QUERIES], total[QUERIES];
    alignas(64) int32_t place[QUERIES], low[QUERIES];

    Scratch(i64 d, i64 width)
        : q_turned(d * QUERIES), g_turned(d * QUERIES), q_pairs(d * QUERIES), g_pairs(d * QUERIES),
          s_pairs(KEYS * QUERIES), scores(KEYS * QUERIES), d_probs(KEYS * QUERIES),
          sum(d * QUERIES), probs(KEYS * QUERIES * width), d_scores(KEYS * QUERIES * width) {}
};

// The queries of one block: which they are, and which keys they attend to.
struct Block {
    i64 first, count, padded, keys_from, keys_to;

    template <typename T>
    Block(const Head<T>& head, const How& how, i64 index, Scratch& s) {
        first = index * QUERIES;
        count = std::min(QUERIES, (head.length - head.skipped) * how.group - first);
        padded = up(count, LANES);
        for (i64 c = 0; c < padded; ++c) {
            const i64 token = head.skipped + (first + c) / how.group;
            const bool real = c < count;
            s.place[c] = real ? token : -1;
            s.low[c] = how.window > 0 ? std::max<i64>(-1, token - how.window) : -1;
            s.slope[c] = head.slopes ? head.slopes[(first + c) % how.group] : 0.0f;
        }
        keys_from = s.low[0] + 1;
        keys_from -= keys_from % 2;  // whole cells
        keys_to = s.place[count - 1] + 1;
    }
};

template <typename T>
i64 num_blocks(const Head<T>& head, const How& how) {
    return ((head.length - head.skipped) * how.group + QUERIES - 1) / QUERIES;
}

// The scores of LANES queries for one key, and which of the queries attend to it.
template <bool CAP>
inline floats score(floats raw, i64 key, const Scratch& s, i64 c, const How& how, mask* seen,
                    floats* slope_of_cap) {
    floats v = raw * how.scale;
    if (CAP) {
        floats t = hyperbolic_tangent(v * (1.0f / how.cap));
        *slope_of_cap = 1.0f - t * t;
        v = t * how.cap;
    }
    ints place = load_cells(s.place + c), at = all_cells((int)key);
    *seen = both(greater(place, all_cells((int)key - 1)), greater(at, load_cells(s.low + c)));
    return v + load(s.slope + c) * converted(less(at, place));
}

// Turns scores [m, padded] of the keys from k0 on into probabilities in s_pairs, and rescales the
// sums so far.
template <typename T, bool CAP>
void online_softmax(Scratch& s, const Block& b, const How& how, i64 k0, i64 m) {
    constexpr i64 P = Format<T>::PER_CELL;
    for (i64 c = 0; c < b.padded; c += LANES) {
        floats top = load(s.top + c), before = top, unused;
        for (i64 i = 0; i < m; ++i) {
            float* at = s.scores.data() + i * b.padded + c;
            mask seen;
            floats v = score<CAP>(load(at), k0 + i, s, c, how, &seen, &unused);
            v = chosen(seen, v, all(NEVER));
            top = larger(top, v);
            store(at, v);
        }
        const floats factor = exponential(before - top);
        floats total = load(s.total + c) * factor;
        for (i64 i = 0; i < m; i += P) {
            const float* at = s.scores.data() + i * b.padded + c;
            floats p0 = exponential(load(at) - top), p1 = zeros();
            if (P == 2 && i + 1 < m) p1 = exponential(load(at + b.padded) - top);
            total = total + p0 + p1;
            store_cells(s.s_pairs.data() + i / P * b.padded + c, Format<T>::cells(p0, p1));
        }
        store(s.top + c, top);
        store(s.total + c, total);
        if (differ(factor, all(1.0f)))
            for (i64 j = 0; j < how.d; ++j) {
                float* at = s.sum.data() + j * b.padded + c;
                store(at, load(at) * factor);
            }
    }
}

// Writes the sums [d, padded] as rows [count, d].
template <typename T>
void write_rows(Scratch& s, const Block& b, i64 d, T* to) {
    float* rows = (float*)s.g_turned.data();
    transpose((const cell*)s.sum.data(), b.padded, d, b.padded, (cell*)rows, d);
    for (i64 c = 0; c < b.count; ++c)
        for (i64 j = 0; j < d; j += LANES)
            Format<T>::store(to + (b.first + c) * d + j, load(rows + c * d + j));
}

template <typename T, bool CAP>
void forward_block(const Head<T>& head, const Shared<T>& shared, const How& how, i64 index,
                   Scratch& s) {
    constexpr i64 P = Format<T>::PER_CELL;
    const i64 d = how.d, cells = d / P, ld = up(head.length, LANES * P) / P;
    const Block b(head, how, index, s);
    transpose((const cell*)(head.q + b.first * d), cells, b.count, cells, s.q_turned.data(),
              b.padded);
    std::fill(s.sum.begin(), s.sum.begin() + d * b.padded, 0.0f);
    std::fill(s.top, s.top + QUERIES, NEVER);
    std::fill(s.total, s.total + QUERIES, 0.0f);
    for (i64 k0 = b.keys_from; k0 < b.keys_to; k0 += KEYS) {
        const i64 m = std::min(KEYS, b.keys_to - k0);
        multiply<T, false>((const cell*)(head.k + k0 * d), cells, s.q_turned.data(), b.padded,
                           s.scores.data(), b.padded, m, b.padded, cells);
        online_softmax<T, CAP>(s, b, how, k0, m);
        multiply<T, true>(shared.turned.data() + k0 / P, ld, s.s_pairs.data(), b.padded,
                          s.sum.data(), b.padded, d, b.padded, (m + P - 1) / P);
    }
    for (i64 c = 0; c < b.padded; c += LANES) {
        const floats inverse = 1.0f / load(s.total + c);
        for (i64 j = 0; j < d; ++j) {
            float* at = s.sum.data() + j * b.padded + c;
            store(at, load(at) * inverse);
        }
    }
    for (i64 c = 0; c < b.count; ++c) head.lse[b.first + c] = s.top[c] + std::log(s.total[c]);
    write_rows(s, b, d, head.to_out);
}

// From the scores and the gradient of the probabilities: the probabilities, and the gradient of the
// raw scores.
template <typename T, bool CAP>
void softmax_back(Scratch& s, const Block& b, const How& how, i64 k0, i64 m) {
    constexpr i64 P = Format<T>::PER_CELL;
    T *probs = (T*)s.probs.data(), *d_scores = (T*)s.d_scores.data();
    for (i64 c = 0; c < b.padded; c += LANES) {
        const floats lse = load(s.lse + c), delta = load(s.delta + c);
        // A query with a single key puts all weight on it: no gradient, not even a rounding error.
        const mask chooses = greater(
            load_cells(s.place + c),
            added(load_cells(s.low + c), all_cells(1)));
        for (i64 i = 0; i < m; i += P) {
            floats ds[2] = {zeros(), zeros()};
            for (i64 r = 0; r < P && i + r < m; ++r) {
                const i64 at = (i + r) * b.padded + c;
                mask seen;
                floats bend = all(1.0f);
                floats v = score<CAP>(load(s.scores.data() + at), k0 + i + r, s, c, how,
                                      &seen, &bend);
                floats p = or_zero(seen, exponential(v - lse));
                floats slope = p * bend * how.scale;
                ds[r] = or_zero(chooses, slope * (load(s.d_probs.data() + at) - delta));
                Format<T>::store(probs + at, p);
                Format<T>::store(d_scores + at, ds[r]);
            }
            store_cells(s.s_pairs.data() + i / P * b.padded + c,
                                Format<T>::cells(ds[0], ds[1]));
        }
    }
}

template <typename T, bool CAP>
void backward_block(const Head<T>& head, const Shared<T>& shared, const How& how, i64 index,
                    Scratch& s, float* d_k, float* d_v) {
    constexpr i64 P = Format<T>::PER_CELL;
    const i64 d = how.d, cells = d / P, ld = up(head.length, LANES * P) / P;
    const Block b(head, how, index, s);
    const T *q = head.q + b.first * d, *g = head.grad + b.first * d, *o = head.out + b.first * d;
    for (i64 c = 0; c < b.padded; ++c) {
        floats dot = zeros();
        for (i64 j = 0; c < b.count && j < d; j += LANES)
            dot = dot + Format<T>::load(g + c * d + j) * Format<T>::load(o + c * d + j);
        s.delta[c] = total_of(dot);
        s.lse[c] = c < b.count ? head.lse[b.first + c] : 0.0f;
    }
    transpose((const cell*)q, cells, b.count, cells, s.q_turned.data(), b.padded);
    transpose((const cell*)g, cells, b.count, cells, s.g_turned.data(), b.padded);
    pair_rows<T>(q, b.count, b.padded, d, s.q_pairs.data());
    pair_rows<T>(g, b.count, b.padded, d, s.g_pairs.data());
    std::fill(s.sum.begin(), s.sum.begin() + d * b.padded, 0.0f);
    for (i64 k0 = b.keys_from; k0 < b.keys_to; k0 += KEYS) {
        const i64 m = std::min(KEYS, b.keys_to - k0), n = b.padded;
        multiply<T, false>((const cell*)(head.k + k0 * d), cells, s.q_turned.data(), n,
                           s.scores.data(), n, m, n, cells);
        multiply<T, false>((const cell*)(head.v + k0 * d), cells, s.g_turned.data(), n,
                           s.d_probs.data(), n, m, n, cells);
        softmax_back<T, CAP>(s, b, how, k0, m);
        multiply<T, true>((const cell*)s.probs.data(), n / P, s.g_pairs.data(), d, d_v + k0 * d, d,
                          m, d, n / P);
        multiply<T, true>((const cell*)s.d_scores.data(), n / P, s.q_pairs.data(), d, d_k + k0 * d,
                          d, m, d, n / P);
        multiply<T, true>(shared.turned.data() + k0 / P, ld, s.s_pairs.data(), n, s.sum.data(), n,
                          d, n, (m + P - 1) / P);
    }
    write_rows(s, b, d, head.d_q);
}

// ---- a head by one thread, or by all threads together -------------------------------------------

inline void together(int threads) {
    if (threads > 1) {
#pragma omp barrier
    }
}

// Keys or values [length, d] as [d, keys]: this thread's share of the columns.
template <typename T>
void turn(const T* from, i64 length, i64 d, Shared<T>& shared, int me) {
    constexpr i64 P = Format<T>::PER_CELL, STEP = LANES * P;
    const i64 padded = up(length, STEP), ld = padded / P;
    std::vector<cell> pairs(LANES * d);
    for (i64 r = me * STEP; r < padded; r += shared.threads * STEP) {
        pair_rows<T>(from + r * d, length - r, STEP, d, pairs.data());
        transpose(pairs.data(), d, LANES, d, shared.turned.data() + r / P, ld);
    }
}

template <typename T>
void prepare(Shared<T>& shared, const Head<T>& head, const How& how, bool backward) {
    constexpr i64 P = Format<T>::PER_CELL;
    shared.turned.resize(how.d * (up(head.length, LANES * P) / P));
    if (!backward) return;
    shared.d_k.resize(shared.threads * head.length * how.d);
    shared.d_v.resize(shared.threads * head.length * how.d);
}

template <typename T, bool CAP>
void forward_head(const Head<T>& head, Shared<T>& shared, const How& how, Scratch& s, int me) {
    turn(head.v, head.length, how.d, shared, me);
    together(shared.threads);
    for (i64 i = me; i < num_blocks(head, how); i += shared.threads)
        forward_block<T, CAP>(head, shared, how, i, s);
    together(shared.threads);
}

template <typename T, bool CAP>
void backward_head(const Head<T>& head, Shared<T>& shared, const How& how, Scratch& s, int me) {
    const i64 size = head.length * how.d;
    float *d_k = shared.d_k.data() + me * size, *d_v = shared.d_v.data() + me * size;
    std::fill(d_k, d_k + size, 0.0f);
    std::fill(d_v, d_v + size, 0.0f);
    turn(head.k, head.length, how.d, shared, me);
    together(shared.threads);
    for (i64 i = me; i < num_blocks(head, how); i += shared.threads)
        backward_block<T, CAP>(head, shared, how, i, s, d_k, d_v);
    together(shared.threads);
    for (i64 j = me * LANES; j < size; j += shared.threads * LANES) {
        floats k = zeros(), v = k;
        for (int t = 0; t < shared.threads; ++t) {  // a fixed order
            k = k + load(shared.d_k.data() + t * size + j);
            v = v + load(shared.d_v.data() + t * size + j);
        }
        Format<T>::store(head.d_k + j, k);
        Format<T>::store(head.d_v + j, v);
    }
    together(shared.threads);
}

// Whether one thread per head takes no longer than all threads on one head after another, in units
// of the longest head. The last block of a head has twice the work of the average block.
inline bool a_thread_each(i64 heads, i64 blocks, i64 threads) {
    const i64 rounds = (heads + threads - 1) / threads;
    return rounds <= heads * std::max(1.0 / threads, 2.0 / blocks);
}

template <typename T, bool CAP, typename Get>
void all_heads(i64 heads, const How& how, bool backward, Get head_of) {
    const bool alone = a_thread_each(heads, num_blocks(head_of(0), how), omp_get_max_threads());
    Shared<T> common;
    auto run = [&](const Head<T>& head, Shared<T>& shared, Scratch& s, int me) {
        backward ? backward_head<T, CAP>(head, shared, how, s, me)
                 : forward_head<T, CAP>(head, shared, how, s, me);
    };
#pragma omp parallel
    {
        Scratch s(how.d, sizeof(T) / 2);
        if (alone) {
            Shared<T> own;
#pragma omp for schedule(dynamic)
            for (i64 i = 0; i < heads; ++i) {
                const Head<T> head = head_of(i);
                prepare(own, head, how, backward);
                run(head, own, s, 0);
            }
        } else {
            for (i64 i = 0; i < heads; ++i) {
                const Head<T> head = head_of(i);
#pragma omp single
                {
                    common.threads = omp_get_num_threads();
                    prepare(common, head, how, backward);
                }
                run(head, common, s, omp_get_thread_num());
            }
        }
    }
}

// Row r of `rows`, most work first, has `lengths[r]` keys, the first in slot key_first[r] +
// h*key_step[r] for head h. Its queries are those after the first `skipped[r]`, from slot first[r] +
// h*step[r] on.
template <typename T>
void attention(const T* q, const T* k, const T* v, const T* out, const T* grad, T* to_out, T* d_q,
               T* d_k, T* d_v, float* lse, const i64* first, const i64* step, const i64* key_first,
               const i64* key_step, const i64* lengths, const i64* skipped, i64 rows, How how,
               bool backward) {
    auto head_of = [=](i64 i) {
        const i64 r = i / how.kv, h = i % how.kv, slot = first[r] + h * step[r];
        const i64 keys = (key_first[r] + h * key_step[r]) * how.d;
        const i64 queries = slot * how.d * how.group;
        Head<T> head{};
        head.q = q + queries, head.k = k + keys, head.v = v + keys;
        head.length = lengths[r], head.skipped = skipped[r];
        head.lse = lse + slot * how.group;
        head.slopes = how.slopes ? how.slopes + h * how.group : nullptr;
        if (backward) {
            head.out = out + queries, head.grad = grad + queries;
            head.d_q = d_q + queries, head.d_k = d_k + keys, head.d_v = d_v + keys;
        } else {
            head.to_out = to_out + queries;
        }
        return head;
    };
    how.cap > 0.0f ? all_heads<T, true>(rows * how.kv, how, backward, head_of)
                   : all_heads<T, false>(rows * how.kv, how, backward, head_of);
}

}  // namespace

#define EXPORT(SUFFIX, T)                                                                          \
    extern "C" void attention_##SUFFIX(                                                            \
        const T* q, const T* k, const T* v, T* out, float* lse, const i64* first, const i64* step, \
        const i64* key_first, const i64* key_step, const i64* lengths, const i64* skipped,         \
        i64 rows, i64 kv, i64 group, i64 d, i64 window, const float* slopes, float scale,          \
        float cap) {                                                                               \
        attention<T>(q, k, v, nullptr, nullptr, out, nullptr, nullptr, nullptr, lse, first, step,  \
                     key_first, key_step, lengths, skipped, rows,                                  \
                     {kv, group, d, window, slopes, scale, cap}, false);                           \
    }                                                                                              \
    extern "C" void attention_back_##SUFFIX(                                                       \
        const T* q, const T* k, const T* v, const T* out, const T* grad, T* d_q, T* d_k, T* d_v,   \
        float* lse, const i64* first, const i64* step, const i64* key_first, const i64* key_step,  \
        const i64* lengths, const i64* skipped, i64 rows, i64 kv, i64 group, i64 d, i64 window,    \
        const float* slopes, float scale, float cap) {                                             \
        attention<T>(q, k, v, out, grad, nullptr, d_q, d_k, d_v, lse, first, step, key_first,      \
                     key_step, lengths, skipped, rows,                                             \
                     {kv, group, d, window, slopes, scale, cap}, true);                            \
    }

EXPORT(f32, float)
#if defined(__AVX512BF16__) && !defined(__AMX_BF16__)
EXPORT(bf16, bf16)
#endif
#endif
