// The blocks of a text transformer for a few tokens at a time, on a processor.
//
// With few tokens a step is bound by reading the weights once and by the cost of calling many small operators. Here
// everything between two attentions is one call: output projection, residual, norm, gated MLP, residual, and the next
// block's norm, projections, head norms and rotation. Sums are float32 whatever the weights are. Every product of a
// weight row and a token is summed in the same order however many tokens there are: what is computed here for a token
// does not depend on the batch that it is in.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>
#ifdef _OPENMP
#include <omp.h>
#endif
#ifdef __FMA__
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16, TOKENS = 6;
#else
constexpr int LANES = 8, TOKENS = 3;
#endif
constexpr int OUTPUTS = 4;  // weight rows of a tile; with TOKENS, what the registers hold

typedef float vec __attribute__((vector_size(LANES * 4)));
typedef float quad __attribute__((vector_size(16)));
typedef int32_t ints __attribute__((vector_size(LANES * 4)));
typedef uint32_t words __attribute__((vector_size(LANES * 4)));
typedef uint16_t halves __attribute__((vector_size(LANES * 2)));

struct bf16 {
    uint16_t bits;
};

inline vec load(const float *p) {
    vec v;
    std::memcpy(&v, p, sizeof v);
    return v;
}

inline vec load(const bf16 *p) {
    halves h;
    std::memcpy(&h, p, sizeof h);
    words w = __builtin_convertvector(h, words) << 16;
    vec v;
    std::memcpy(&v, &w, sizeof v);
    return v;
}

inline void store(float *p, vec v) { std::memcpy(p, &v, sizeof v); }

inline float get(const float *p) { return *p; }

inline float get(const bf16 *p) {
    uint32_t w = uint32_t(p->bits) << 16;
    float f;
    std::memcpy(&f, &w, sizeof f);
    return f;
}

inline void put(float *p, float f) { *p = f; }

inline void put(bf16 *p, float f) {
    uint32_t w;
    std::memcpy(&w, &f, sizeof w);
    if ((w & 0x7fffffff) > 0x7f800000) {
        p->bits = uint16_t(w >> 16) | 0x40;  // NaN stays NaN
        return;
    }
    p->bits = uint16_t((w + 0x7fff + ((w >> 16) & 1)) >> 16);  // to the nearest, ties to even
}

// a b + c. Compilers decide case by case whether to fuse it, and then equal tokens would not get equal numbers.
inline vec fused(vec a, vec b, vec c) {
#if defined(__AVX512F__)
    return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
    return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    return a * b + c;
#endif
}

// Sums of lanes: halves are added until four lanes are left, and those as (0 + 1) + (2 + 3). One order for all.
inline quad fold(vec v) {
    quad part[LANES / 4];
    std::memcpy(part, &v, sizeof v);
    for (int count = LANES / 8; count > 0; count /= 2)
        for (int i = 0; i < count; i++) part[i] += part[i + count];
    return part[0];
}

inline float sum(vec v) {
    const quad q = fold(v);
    return (q[0] + q[1]) + (q[2] + q[3]);
}

// The sums of four vectors at once, by turning them.
inline quad sums(vec a, vec b, vec c, vec d) {
    const quad p = fold(a), q = fold(b), r = fold(c), s = fold(d);
    const quad pq = __builtin_shufflevector(p, q, 0, 2, 4, 6) + __builtin_shufflevector(p, q, 1, 3, 5, 7);
    const quad rs = __builtin_shufflevector(r, s, 0, 2, 4, 6) + __builtin_shufflevector(r, s, 1, 3, 5, 7);
    return __builtin_shufflevector(pq, rs, 0, 2, 4, 6) + __builtin_shufflevector(pq, rs, 1, 3, 5, 7);
}

// e^x to about 1e-7, for every lane: 2^round(x / ln 2) times a polynomial of the rest.
inline vec exponential(vec x) {
    const vec top = vec{} + 88.0f, low = vec{} - 87.0f;
    x = x > top ? top : x;
    x = x < low ? low : x;
    const vec magic = vec{} + 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number
    const vec n = fused(x, vec{} + 1.44269504088896341f, magic) - magic;
    vec r = fused(n, vec{} - 0.693359375f, x);
    r = fused(n, vec{} + 2.12194440e-4f, r);
    vec p = vec{} + 1.9875691500e-4f;
    p = fused(p, r, vec{} + 1.3981999507e-3f);
    p = fused(p, r, vec{} + 8.3334519073e-3f);
    p = fused(p, r, vec{} + 4.1665795894e-2f);
    p = fused(p, r, vec{} + 1.6666665459e-1f);
    p = fused(p, r, vec{} + 5.0000001201e-1f);
    p = fused(p * r, r, r) + 1.0f;
    ints exponent = (__builtin_convertvector(n, ints) + 127) << 23;
    vec scale;
    std::memcpy(&scale, &exponent, sizeof scale);
    return p * scale;
}

// y[o][t] = w[o] . x[t] for a tile; every (o, t) in the same order, whatever the tile. On the way, LINES cache lines a
// step are fetched from `ahead` on, where the rows of the next tile lie.
template <int O, int T, int LINES, class W>
inline void tile(const W *w, int64_t size, const float *x, const char *ahead, float (&y)[O][T]) {
    vec acc[O][T] = {};
    const int64_t whole = size / LANES * LANES;
    for (int64_t k = 0; k < whole; k += LANES) {
        vec a[O];
        for (int o = 0; o < O; o++) a[o] = load(w + o * size + k);
        for (int line = 0; line < LINES; line++) __builtin_prefetch(ahead + (k / LANES * LINES + line) * 64);
        for (int t = 0; t < T; t++) {
            const vec b = load(x + t * size + k);
            for (int o = 0; o < O; o++) acc[o][t] = fused(a[o], b, acc[o][t]);
        }
    }
    for (int t = 0; t < T; t++) {
        if constexpr (O % 4 == 0) {
            for (int o = 0; o < O; o += 4) {
                const quad four = sums(acc[o][t], acc[o + 1][t], acc[o + 2][t], acc[o + 3][t]);
                for (int i = 0; i < 4; i++) y[o + i][t] = four[i];
            }
        } else {
            for (int o = 0; o < O; o++) y[o][t] = sum(acc[o][t]);
        }
    }
    if (whole < size)
        for (int o = 0; o < O; o++)
            for (int t = 0; t < T; t++) {
                float rest = 0;
                for (int64_t k = whole; k < size; k++) rest = std::fma(get(w + o * size + k), x[t * size + k], rest);
                y[o][t] += rest;
            }
}

// Calls give(o + i, t, w[i] . x[t]) for O weight rows, which begin at w, and all tokens from t on. ahead: the next rows.
template <int O, int T, int LINES, class W, class Give>
inline void tokens(const W *w, int64_t size, const float *x, int64_t o, int64_t t, int64_t m, const void *ahead,
                   const Give &give) {
    for (; t + T <= m; t += T) {
        float y[O][T];
        const char *next = static_cast<const char *>(ahead);
        LINES && t == 0 ? tile<O, T, LINES>(w, size, x, next, y) : tile<O, T, 0>(w, size, x + t * size, next, y);
        for (int i = 0; i < O; i++)
            for (int j = 0; j < T; j++) give(o + i, t + j, y[i][j]);
    }
    if constexpr (T > 1)
        if (t < m) tokens<O, T - 1, LINES>(w, size, x, o, t, m, ahead, give);
}

// A thread's own room.
inline float *room(int64_t size) {
    static thread_local std::vector<float> numbers;
    if (int64_t(numbers.size()) < size) numbers.resize(size);
    return numbers.data();
}

template <class W>
inline void unpack(const W *from, int64_t size, float *to) {
    int64_t k = 0;
    for (; k + LANES <= size; k += LANES) store(to + k, load(from + k));
    for (; k < size; k++) to[k] = get(from + k);
}

// Rows first to last of w [.., size] times every token of x [m, size].
template <class W, class Give>
inline void product(const W *w, int64_t size, const float *x, int64_t m, int64_t first, int64_t last, const Give &give) {
    constexpr int LINES = OUTPUTS * LANES * sizeof(W) / 64;
    int64_t o = first;
    if (m == 1) {  // one token: more rows at once, so that more of memory is on its way
        for (; o + 2 * OUTPUTS <= last; o += 2 * OUTPUTS)
            tokens<2 * OUTPUTS, 1, 2 * LINES>(w + o * size, size, x, o, 0, m, w + (o + 2 * OUTPUTS) * size, give);
    }
    if constexpr (!std::is_same_v<W, float>)
        if (m > TOKENS) {  // several tiles read the same rows: unpack them once
            float *rows = room(OUTPUTS * size);
            for (; o + OUTPUTS <= last; o += OUTPUTS) {
                unpack(w + o * size, OUTPUTS * size, rows);
                tokens<OUTPUTS, TOKENS, 0>(rows, size, x, o, 0, m, nullptr, give);
            }
        }
    for (; o + OUTPUTS <= last; o += OUTPUTS)
        tokens<OUTPUTS, TOKENS, LINES>(w + o * size, size, x, o, 0, m, w + (o + OUTPUTS) * size, give);
    for (; o < last; o++) tokens<1, TOKENS, 0>(w + o * size, size, x, o, 0, m, nullptr, give);
}

template <class W>
inline void norm(const float *x, const W *weight, float eps, int64_t size, float *y) {
    vec squares = {};
    const int64_t whole = size / LANES * LANES;
    for (int64_t k = 0; k < whole; k += LANES) {
        const vec v = load(x + k);
        squares = fused(v, v, squares);
    }
    float total = sum(squares);
    for (int64_t k = whole; k < size; k++) total = std::fma(x[k], x[k], total);
    const float r = 1.0f / std::sqrt(total / float(size) + eps);
    for (int64_t k = 0; k < whole; k += LANES) store(y + k, load(x + k) * r * load(weight + k));
    for (int64_t k = whole; k < size; k++) y[k] = x[k] * r * get(weight + k);
}

inline int64_t share(int64_t count, int64_t unit, int part, int parts) {
    const int64_t units = (count + unit - 1) / unit;
    return std::min(count, units * part / parts * unit);
}

inline int part() {
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

inline int parts() {
#ifdef _OPENMP
    return omp_get_num_threads();
#else
    return 1;
#endif
}

}  // namespace

extern "C" {

// The weights of a block, [out, in] each; a bias may be null, and so may both head norms.
struct Block {
    const void *attention_norm, *qkv, *qkv_bias, *q_norm, *k_norm, *out, *out_bias;
    const void *mlp_norm, *up, *up_bias, *down, *down_bias;
};

struct Shape {
    int64_t hidden, heads, kv_heads, head_dim, intermediate;
    float eps;
};

// rows x n tokens. x [tokens, hidden] float32 is the residual stream, changed in place. seen [rows, heads, n, head_dim]
// comes from attention; q [rows, heads, n, head_dim], k and v [rows, kv_heads, n, head_dim] go to it. cosine and sine
// [rows or 1, n, head_dim]. normed, wide and act are float32 scratch of hidden, (heads + 2 kv_heads) * head_dim and
// intermediate numbers a token.
struct Call {
    int64_t rows, n, turns;  // turns: rows of cosine and sine
    float *x, *normed, *wide, *act;
    const void *seen;
    void *q, *k, *v;
    const void *cosine, *sine;
};

}  // extern "C"

namespace {

template <class W>
void step(const Shape &s, const Block *done, const Block *next, const Call &c, int threads) {
    const int64_t m = c.rows * c.n, d = s.head_dim, inner = s.heads * d, hidden = s.hidden, mid = s.intermediate;
    (void)threads;
#pragma omp parallel num_threads(threads)
    {
        const int me = part(), all = parts();
        if (done) {
            const W *seen = static_cast<const W *>(c.seen);
            for (int64_t i = share(m * s.heads, 1, me, all), end = share(m * s.heads, 1, me + 1, all); i < end; i++) {
                const int64_t t = i / s.heads, h = i % s.heads, r = t / c.n, j = t % c.n;
                const W *from = seen + ((r * s.heads + h) * c.n + j) * d;
                for (int64_t k = 0; k < d; k++) c.wide[t * inner + h * d + k] = get(from + k);
            }
#pragma omp barrier
            int64_t first = share(hidden, OUTPUTS, me, all), last = share(hidden, OUTPUTS, me + 1, all);
            const W *bias = static_cast<const W *>(done->out_bias);
            product(static_cast<const W *>(done->out), inner, c.wide, m, first, last, [&](int64_t o, int64_t t, float y) {
                c.x[t * hidden + o] += bias ? y + get(bias + o) : y;
            });
#pragma omp barrier
            for (int64_t t = share(m, 1, me, all); t < share(m, 1, me + 1, all); t++)
                norm(c.x + t * hidden, static_cast<const W *>(done->mlp_norm), s.eps, hidden, c.normed + t * hidden);
#pragma omp barrier
            const int64_t from = share(mid, LANES, me, all), to = share(mid, LANES, me + 1, all);
            const W *up = static_cast<const W *>(done->up), *up_bias = static_cast<const W *>(done->up_bias);
            product(up, hidden, c.normed, m, from, to, [&](int64_t o, int64_t t, float y) {
                c.act[t * mid + o] = up_bias ? y + get(up_bias + o) : y;
            });
            for (int64_t t = 0; t < m; t++) {
                float *gate = c.act + t * mid;
                int64_t o = from;
                for (; o + LANES <= to; o += LANES) {
                    const vec g = load(gate + o);
                    store(gate + o, g / (exponential(-g) + 1.0f));
                }
                for (; o < to; o++) {
                    float one[LANES] = {gate[o]};
                    const vec g = load(one);
                    store(one, g / (exponential(-g) + 1.0f));
                    gate[o] = one[0];
                }
            }
            product(up + mid * hidden, hidden, c.normed, m, from, to, [&](int64_t o, int64_t t, float y) {
                c.act[t * mid + o] *= up_bias ? y + get(up_bias + mid + o) : y;
            });
#pragma omp barrier
            bias = static_cast<const W *>(done->down_bias);
            product(static_cast<const W *>(done->down), mid, c.act, m, first, last, [&](int64_t o, int64_t t, float y) {
                c.x[t * hidden + o] += bias ? y + get(bias + o) : y;
            });
#pragma omp barrier
        }
        if (next) {
            for (int64_t t = share(m, 1, me, all); t < share(m, 1, me + 1, all); t++)
                norm(c.x + t * hidden, static_cast<const W *>(next->attention_norm), s.eps, hidden, c.normed + t * hidden);
#pragma omp barrier
            const int64_t heads = s.heads + 2 * s.kv_heads, turned = s.heads + s.kv_heads;
            const W *qkv = static_cast<const W *>(next->qkv), *bias = static_cast<const W *>(next->qkv_bias);
            const W *cosine = static_cast<const W *>(c.cosine), *sine = static_cast<const W *>(c.sine);
            for (int64_t h = share(heads, 1, me, all), end = share(heads, 1, me + 1, all); h < end; h++) {
                // the head's own piece of scratch: the products of all tokens, then norm and rotation in place
                float *head = c.wide + h * m * d;
                product(qkv, hidden, c.normed, m, h * d, (h + 1) * d, [&](int64_t o, int64_t t, float y) {
                    head[t * d + o - h * d] = bias ? y + get(bias + o) : y;
                });
                const bool query = h < s.heads;
                const int64_t group = query ? s.heads : s.kv_heads;
                const int64_t place = query ? h : h < turned ? h - s.heads : h - turned;
                W *out = static_cast<W *>(query ? c.q : h < turned ? c.k : c.v);
                const W *weight = static_cast<const W *>(query ? next->q_norm : h < turned ? next->k_norm : nullptr);
                for (int64_t t = 0; t < m; t++) {
                    float *y = head + t * d;
                    const int64_t r = t / c.n, j = t % c.n;
                    W *to = out + ((r * group + place) * c.n + j) * d;
                    if (weight) norm(y, weight, s.eps, d, y);
                    if (h >= turned) {
                        for (int64_t k = 0; k < d; k++) put(to + k, y[k]);
                        continue;
                    }
                    const W *cos = cosine + ((c.turns > 1 ? r : 0) * c.n + j) * d;
                    const W *sin = sine + ((c.turns > 1 ? r : 0) * c.n + j) * d;
                    for (int64_t k = 0; k < d / 2; k++) {
                        const float one = y[k], two = y[k + d / 2];
                        put(to + k, one * get(cos + k) + two * get(sin + k));
                        put(to + k + d / 2, two * get(cos + k + d / 2) + one * get(sin + k + d / 2));
                    }
                }
            }
        }
    }
}

template <class W>
void last_norm(const float *x, const W *weight, float eps, int64_t size, int64_t m, float *scratch, W *y) {
    for (int64_t t = 0; t < m; t++) {
        norm(x + t * size, weight, eps, size, scratch);
        for (int64_t k = 0; k < size; k++) put(y + t * size + k, scratch[k]);
    }
}

template <class W>
void linear(const W *w, const W *x, float *scratch, int64_t m, int64_t size, int64_t outputs, W *y, int threads) {
    for (int64_t i = 0; i < m * size; i++) scratch[i] = get(x + i);
    (void)threads;
#pragma omp parallel num_threads(threads)
    {
        const int64_t first = share(outputs, OUTPUTS, part(), parts()), last = share(outputs, OUTPUTS, part() + 1, parts());
        product(w, size, scratch, m, first, last, [&](int64_t o, int64_t t, float sum) {
            put(y + t * outputs + o, sum);
        });
    }
}

}  // namespace

extern "C" {

void interlace_step(int is_bf16, const Shape *s, const Block *done, const Block *next, const Call *c, int threads) {
    is_bf16 ? step<bf16>(*s, done, next, *c, threads) : step<float>(*s, done, next, *c, threads);
}

void interlace_norm(int is_bf16, const float *x, const void *weight, float eps, int64_t size, int64_t m, float *scratch,
                    void *y) {
    if (is_bf16)
        last_norm(x, static_cast<const bf16 *>(weight), eps, size, m, scratch, static_cast<bf16 *>(y));
    else
        last_norm(x, static_cast<const float *>(weight), eps, size, m, scratch, static_cast<float *>(y));
}

void interlace_linear(int is_bf16, const void *w, const void *x, float *scratch, int64_t m, int64_t size,
                      int64_t outputs, void *y, int threads) {
    if (is_bf16)
        linear(static_cast<const bf16 *>(w), static_cast<const bf16 *>(x), scratch, m, size, outputs,
               static_cast<bf16 *>(y), threads);
    else
        linear(static_cast<const float *>(w), static_cast<const float *>(x), scratch, m, size, outputs,
               static_cast<float *>(y), threads);
}
}
