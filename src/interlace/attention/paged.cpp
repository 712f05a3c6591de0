// Attention of many rows at once, whose keys lie in pages of a pool, on a processor.
//
// A task is a few queries of one row and the heads that share one head of keys: scores of all keys that are read, their
// softmax, the sum of values. A score is summed over the head dimension in one order; the softmax and the values are
// summed over the keys by their index in the row. A key that a query does not see is left out of its sums, not
// multiplied by nought. So a query's result is made of its own row's visible keys, bit for bit, whatever other rows and
// queries there are, wherever the pages lie and however many threads run.

#include "vectors.h"

extern "C" {

// A row: its pages, a mask [n, reads] of rows `stride` apart or null, and its queries start .. start + n.
struct Row {
    const int64_t *pages;
    const uint8_t *mask;
    int64_t start, n, reads, stride;
};

// q and out [heads, tokens, d]. k and v hold slots of kv_heads of d numbers; slot and head are their strides.
struct Call {
    const Row *rows;
    int64_t count, tokens, heads, kv_heads, d, page;
    int64_t k_slot, k_head, v_slot, v_head;
    const void *q, *k, *v;
    void *out;
};

}  // extern "C"

namespace {

typedef uint8_t bytes __attribute__((vector_size(LANES)));

constexpr int KEYS = 64;                      // keys of a tile: what stays near while all queries pass
constexpr int QUERIES = LANES == 16 ? 6 : 3;  // queries at once; with KEYS_AT_ONCE or WIDTH, what the registers hold
constexpr int KEYS_AT_ONCE = 4;
constexpr int WIDTH = 4;  // vectors of a value at once
constexpr int MOST = 48;  // queries of a task, unless one position has more heads

struct Task {
    const Row *row;
    int64_t head, first, count;  // the head of keys; positions of the row
};

// scores[t * stride + o] = key[o] . q[t] for every o < O and t < T.
template <int O, int T, class W>
inline void score(const W *const *key, const float *q, int64_t d, float *scores, int64_t stride) {
    vec acc[O][T] = {};
    const int64_t whole = d / LANES * LANES;
    for (int64_t k = 0; k < whole; k += LANES) {
        vec a[O];
        for (int o = 0; o < O; o++) a[o] = load(key[o] + k);
        for (int t = 0; t < T; t++) {
            const vec b = load(q + t * d + k);
            for (int o = 0; o < O; o++) acc[o][t] = fused(a[o], b, acc[o][t]);
        }
    }
    for (int t = 0; t < T; t++) {
        float *to = scores + t * stride;
        if constexpr (O == 4) {
            const quad four = sums(acc[0][t], acc[1][t], acc[2][t], acc[3][t]);
            std::memcpy(to, &four, sizeof four);
        } else {
            for (int o = 0; o < O; o++) to[o] = sum(acc[o][t]);
        }
        if (whole < d)
            for (int o = 0; o < O; o++) {
                float rest = 0;
                for (int64_t k = whole; k < d; k++) rest = std::fma(get(key[o] + k), q[t * d + k], rest);
                to[o] += rest;
            }
    }
}

// The scores of n keys and all queries from t on.
template <int T, class W>
inline void scores(const W *const *key, int64_t n, const float *q, int64_t t, int64_t count, int64_t d, float *to,
                   int64_t stride) {
    for (; t + T <= count; t += T) {
        int64_t j = 0;
        for (; j + KEYS_AT_ONCE <= n; j += KEYS_AT_ONCE)
            score<KEYS_AT_ONCE, T>(key + j, q + t * d, d, to + t * stride + j, stride);
        for (; j < n; j++) score<1, T>(key + j, q + t * d, d, to + t * stride + j, stride);
    }
    if constexpr (T > 1)
        if (t < count) scores<T - 1>(key, n, q, t, count, d, to, stride);
}

// out[t] += weight[t][j] * value[j] for every j in turn that t sees, C vectors of them. who[j]: a bit for every t.
template <int T, int C, class W>
inline void add(const W *const *value, int64_t n, const uint8_t *who, const float *weight, int64_t stride, float *out,
                int64_t d) {
    vec acc[T][C];
    for (int t = 0; t < T; t++)
        for (int c = 0; c < C; c++) acc[t][c] = load(out + t * d + c * LANES);
    for (int64_t j = 0; j < n; j++) {
        if (who[j] == (1 << T) - 1) {
            vec p[T];
            for (int t = 0; t < T; t++) p[t] = vec{} + weight[t * stride + j];
            for (int c = 0; c < C; c++) {
                const vec v = load(value[j] + c * LANES);
                for (int t = 0; t < T; t++) acc[t][c] = fused(p[t], v, acc[t][c]);
            }
        } else if (who[j]) {
            for (int t = 0; t < T; t++)
                if (who[j] >> t & 1) {
                    const vec p = vec{} + weight[t * stride + j];
                    for (int c = 0; c < C; c++) acc[t][c] = fused(p, load(value[j] + c * LANES), acc[t][c]);
                }
        }
    }
    for (int t = 0; t < T; t++)
        for (int c = 0; c < C; c++) store(out + t * d + c * LANES, acc[t][c]);
}

// The same of the n keys of a tile that begins at `first`, for all queries from t on.
template <int T, class W>
inline void values(const W *const *value, int64_t first, int64_t n, const uint8_t *const *sight, const float *weight,
                   int64_t t, int64_t count, int64_t stride, float *out, int64_t d) {
    for (; t + T <= count; t += T) {
        uint8_t who[KEYS] = {};
        for (int i = 0; i < T; i++)
            for (int64_t j = 0; j < n; j++) who[j] |= sight[t + i][first + j] << i;
        const W *from[KEYS];
        std::memcpy(from, value, n * sizeof *from);
        const float *p = weight + t * stride + first;
        float *to = out + t * d;
        int64_t k = 0;
        const auto step = [&](int64_t by) {
            for (int64_t j = 0; j < n; j++) from[j] += by;
            k += by;
        };
        for (; k + WIDTH * LANES <= d; step(WIDTH * LANES)) add<T, WIDTH>(from, n, who, p, stride, to + k, d);
        for (; k + LANES <= d; step(LANES)) add<T, 1>(from, n, who, p, stride, to + k, d);
        if (k < d)
            for (int i = 0; i < T; i++)
                for (int64_t j = 0; j < n; j++)
                    if (who[j] >> i & 1)
                        for (int64_t r = 0; r < d - k; r++)
                            to[i * d + k + r] = std::fma(p[i * stride + j], get(from[j] + r), to[i * d + k + r]);
    }
    if constexpr (T > 1)
        if (t < count) values<T - 1>(value, first, n, sight, weight, t, count, stride, out, d);
}

// Where n keys of a row from j on lie.
template <class W>
inline void places(const Row &row, int64_t page, const W *pool, int64_t slot, int64_t j, int64_t n, const W **to) {
    int64_t which = j / page, offset = j % page;
    for (int64_t i = 0; i < n; i++) {
        to[i] = pool + (row.pages[which] * page + offset) * slot;
        if (++offset == page) which++, offset = 0;
    }
}

// What several groups of queries pass, copied side by side as float32: strides of a pool would evict each other.
template <class W>
inline void pack(const W *const *from, int64_t n, int64_t d, float *to, const float **where) {
    for (int64_t j = 0; j < n; j++, to += d) {
        int64_t k = 0;
        for (; k + LANES <= d; k += LANES) store(to + k, load(from[j] + k));
        for (; k < d; k++) to[k] = get(from[j] + k);
        where[j] = to;
    }
}

inline vec only(const uint8_t *see, vec yes, vec no) {
    bytes b;
    std::memcpy(&b, see, sizeof b);
    return __builtin_convertvector(b, ints) != 0 ? yes : no;
}

// Scores become e^(score - largest) where seen; their sum, in lanes by the index of the key.
inline float soften(float *p, const uint8_t *see, const uint8_t *tiles, int64_t stride, float scale) {
    const vec none = vec{} - INFINITY;
    vec top = none;
    for (int64_t j = 0; j < stride; j += LANES) {
        if (!tiles[j / KEYS]) continue;
        const vec s = only(see + j, load(p + j) * scale, none);
        top = s > top ? s : top;
    }
    float largest = top[0];
    for (int i = 1; i < LANES; i++) largest = std::max(largest, float(top[i]));
    vec total = {};
    for (int64_t j = 0; j < stride; j += LANES) {
        if (!tiles[j / KEYS]) continue;
        const vec e = only(see + j, exponential(load(p + j) * scale - largest), vec{});
        store(p + j, e);
        total += e;
    }
    return sum(total);
}

template <class Q, class W>
void attend(const Call &c, const Task &task) {
    const Row &row = *task.row;
    const int64_t d = c.d, shared = c.heads / c.kv_heads, count = task.count * shared;
    const int64_t n = (row.reads + KEYS - 1) / KEYS, stride = n * KEYS, kinds = row.mask ? task.count : 1;
    const W *keys = static_cast<const W *>(c.k) + task.head * c.k_head;
    const W *worth = static_cast<const W *>(c.v) + task.head * c.v_head;
    float *q = room(count * (2 * d + stride) + KEYS * d), *out = q + count * d, *near = out + count * d;
    float *p = near + KEYS * d;
    // what every position sees, up to whole tiles; which tiles anyone sees
    static thread_local std::vector<uint8_t> flags;
    static thread_local std::vector<const uint8_t *> sight;
    flags.assign(kinds * stride + n, 0);
    sight.resize(count);
    uint8_t *see = flags.data(), *tiles = see + kinds * stride;
    for (int64_t i = 0; i < kinds; i++)
        if (row.mask)
            std::memcpy(see + i * stride, row.mask + (task.first + i) * row.stride, row.reads);
        else
            std::memset(see, 1, row.reads);
    for (int64_t t = 0; t < n; t++)
        for (int64_t i = 0; i < kinds && !tiles[t]; i++)
            tiles[t] = std::memchr(see + i * stride + t * KEYS, 1, KEYS) != nullptr;
    // queries in the order of positions, the heads of a position beside each other
    for (int64_t i = 0; i < count; i++) {
        const int64_t head = task.head * shared + i % shared, token = row.start + task.first + i / shared;
        const Q *from = static_cast<const Q *>(c.q) + (head * c.tokens + token) * d;
        for (int64_t k = 0; k < d; k++) q[i * d + k] = get(from + k);
        sight[i] = see + (row.mask ? i / shared : 0) * stride;
    }
    std::fill(out, out + count * d, 0.0f);
    const W *at[KEYS];
    const float *beside[KEYS];
    for (int64_t t = 0; t < n; t++) {
        if (!tiles[t]) continue;
        const int64_t j = t * KEYS, here = std::min<int64_t>(KEYS, row.reads - j);
        places(row, c.page, keys, c.k_slot, j, here, at);
        if (count <= QUERIES) {
            scores<QUERIES>(at, here, q, 0, count, d, p + j, stride);
        } else {
            pack(at, here, d, near, beside);
            scores<QUERIES>(beside, here, q, 0, count, d, p + j, stride);
        }
    }
    float *total = q;  // of every query, in the place of queries that are done with
    const float scale = 1 / std::sqrt(float(d));
    for (int64_t i = 0; i < count; i++) total[i * d] = soften(p + i * stride, sight[i], tiles, stride, scale);
    for (int64_t t = 0; t < n; t++) {
        if (!tiles[t]) continue;
        const int64_t j = t * KEYS, here = std::min<int64_t>(KEYS, row.reads - j);
        places(row, c.page, worth, c.v_slot, j, here, at);
        if (count <= QUERIES) {
            values<QUERIES>(at, j, here, sight.data(), p, 0, count, stride, out, d);
        } else {
            pack(at, here, d, near, beside);
            values<QUERIES>(beside, j, here, sight.data(), p, 0, count, stride, out, d);
        }
    }
    for (int64_t i = 0; i < count; i++) {
        const int64_t head = task.head * shared + i % shared, token = row.start + task.first + i / shared;
        Q *to = static_cast<Q *>(c.out) + (head * c.tokens + token) * d;
        const float sum = total[i * d];
        for (int64_t k = 0; k < d; k++) put(to + k, sum == 0 ? 0.0f : out[i * d + k] / sum);
    }
}

template <class Q, class W>
void attend_all(const Call &c, int threads) {
    std::vector<Task> tasks;
    const int64_t step = std::max<int64_t>(1, MOST / (c.heads / c.kv_heads));
    for (int64_t r = 0; r < c.count; r++)
        for (int64_t first = 0; first < c.rows[r].n; first += step)
            for (int64_t head = 0; head < c.kv_heads; head++)
                tasks.push_back({c.rows + r, head, first, std::min(step, c.rows[r].n - first)});
    (void)threads;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (size_t i = 0; i < tasks.size(); i++) attend<Q, W>(c, tasks[i]);
}

}  // namespace

extern "C" {

void interlace_attend(int q_is_bf16, int k_is_bf16, const Call *c, int threads) {
    if (q_is_bf16)
        k_is_bf16 ? attend_all<bf16, bf16>(*c, threads) : attend_all<bf16, float>(*c, threads);
    else
        k_is_bf16 ? attend_all<float, bf16>(*c, threads) : attend_all<float, float>(*c, threads);
}
}
