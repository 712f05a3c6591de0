// The blocks of a text transformer for a few tokens at a time, on a processor.
//
// With few tokens a step is bound by reading the weights once and by the cost of calling many small operators. Here
// everything between two attentions is one call: output projection, residual, norm, gated MLP, residual, and the next
// block's norm, projections, head norms and rotation. Sums are float32 whatever the weights are; matrices of int8 are
// multiplied as they are, and the sum by the scale of its row. Where the processor multiplies pairs of bfloat16, what
// matrices of bfloat16 are multiplied with is rounded to bfloat16, as PyTorch does. Every product of a
// weight row and a token is summed in the same order however many tokens there are: what is computed here for a token
// does not depend on the batch that it is in.

#include "vectors.h"

namespace {

constexpr int TOKENS = LANES == 16 ? 6 : 3;
constexpr int OUTPUTS = 4;  // weight rows of a tile; with TOKENS, what the registers hold

// How numbers of w and of x are multiplied: STEP of both at a time.
template <class W, class X>
struct Dot {
    static constexpr int STEP = LANES;
    static vec read(const W *w) { return load(w); }
    static vec other(const X *x) { return load(x); }
    static vec add(vec a, vec b, vec c) { return fused(a, b, c); }
};

// What a product reads of a token.
template <class W>
struct Reads {
    using type = float;
};

#ifdef __AVX512BF16__
template <>
struct Dot<bf16, bf16> {
    static constexpr int STEP = 2 * LANES;
    static __m512bh read(const bf16 *w) { return (__m512bh)_mm512_loadu_si512(w); }
    static __m512bh other(const bf16 *x) { return read(x); }
    static vec add(__m512bh a, __m512bh b, vec c) { return (vec)_mm512_dpbf16_ps((__m512)c, a, b); }
};

template <>
struct Reads<bf16> {
    using type = bf16;
};
#endif

// Rounds a token to X where it lies in scratch; numbers are read before anything is written over them.
template <class X>
inline void pack(float *row, int64_t size) {
    if constexpr (!std::is_same_v<X, float>) {
        X *to = reinterpret_cast<X *>(row);
        int64_t k = 0;
#ifdef __AVX512BF16__
        for (; k + LANES <= size; k += LANES) {
            const __m256bh rounded = _mm512_cvtneps_pbh((__m512)load(row + k));
            std::memcpy(to + k, &rounded, sizeof rounded);
        }
#endif
        for (; k < size; k++) {
            float number;
            X rounded;
            std::memcpy(&number, row + k, sizeof number);
            put(&rounded, number);
            std::memcpy(to + k, &rounded, sizeof rounded);
        }
    }
}

// A token in float scratch, as products read it: begins where it began. STRIDE: what a number takes there.
template <class W>
constexpr int64_t STRIDE = sizeof(float) / sizeof(typename Reads<W>::type);

// y[o][t] = w[o] . x[t] for a tile, tokens `stride` apart; every (o, t) in the same order, whatever the tile. On the
// way, LINES cache lines a step are fetched from `ahead` on, where the rows of the next tile lie.
template <int O, int T, int LINES, class W, class X>
inline void tile(const W *w, int64_t size, const X *x, int64_t stride, const char *ahead, float (&y)[O][T]) {
    using D = Dot<W, X>;
    vec acc[O][T] = {};
    const int64_t whole = size / D::STEP * D::STEP;
    for (int64_t k = 0; k < whole; k += D::STEP) {
        decltype(D::read(w)) a[O];
        for (int o = 0; o < O; o++) a[o] = D::read(w + o * size + k);
        for (int line = 0; line < LINES; line++) __builtin_prefetch(ahead + (k / D::STEP * LINES + line) * 64);
        for (int t = 0; t < T; t++) {
            const auto b = D::other(x + t * stride + k);
            for (int o = 0; o < O; o++) acc[o][t] = D::add(a[o], b, acc[o][t]);
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
                for (int64_t k = whole; k < size; k++)
                    rest = std::fma(get(w + o * size + k), get(x + t * stride + k), rest);
                y[o][t] += rest;
            }
}

// Calls give(o + i, t, w[i] . x[t]) for O weight rows, which begin at w, and all tokens from t on. ahead: the next rows.
template <int O, int T, int LINES, class W, class X, class Give>
inline void tokens(const W *w, int64_t size, const X *x, int64_t stride, int64_t o, int64_t t, int64_t m,
                   const void *ahead, const Give &give) {
    for (; t + T <= m; t += T) {
        float y[O][T];
        const char *next = static_cast<const char *>(ahead);
        LINES && t == 0 ? tile<O, T, LINES>(w, size, x, stride, next, y)
                        : tile<O, T, 0>(w, size, x + t * stride, stride, next, y);
        for (int i = 0; i < O; i++)
            for (int j = 0; j < T; j++) give(o + i, t + j, y[i][j]);
    }
    if constexpr (T > 1)
        if (t < m) tokens<O, T - 1, LINES>(w, size, x, stride, o, t, m, ahead, give);
}

template <class W>
inline void unpack(const W *from, int64_t size, float *to) {
    int64_t k = 0;
    for (; k + LANES <= size; k += LANES) store(to + k, load(from + k));
    for (; k < size; k++) to[k] = get(from + k);
}

// Rows first to last of w [.., size] times every one of m tokens of x, which lie `stride` apart.
template <class W, class X, class Give>
inline void product(const W *w, int64_t size, const X *x, int64_t stride, int64_t m, int64_t first, int64_t last,
                    const Give &give) {
    constexpr int LINES = OUTPUTS * Dot<W, X>::STEP * sizeof(W) / 64;
    int64_t o = first;
    if (m == 1) {  // one token: more rows at once, so that more of memory is on its way
        for (; o + 2 * OUTPUTS <= last; o += 2 * OUTPUTS)
            tokens<2 * OUTPUTS, 1, 2 * LINES>(w + o * size, size, x, stride, o, 0, m, w + (o + 2 * OUTPUTS) * size, give);
    }
    if constexpr (!std::is_same_v<W, X>)
        if (m > TOKENS) {  // several tiles read the same rows: unpack them once
            float *rows = room(OUTPUTS * size);
            for (; o + OUTPUTS <= last; o += OUTPUTS) {
                unpack(w + o * size, OUTPUTS * size, rows);
                tokens<OUTPUTS, TOKENS, 0>(rows, size, x, stride, o, 0, m, nullptr, give);
            }
        }
    for (; o + OUTPUTS <= last; o += OUTPUTS)
        tokens<OUTPUTS, TOKENS, LINES>(w + o * size, size, x, stride, o, 0, m, w + (o + OUTPUTS) * size, give);
    for (; o < last; o++) tokens<1, TOKENS, 0>(w + o * size, size, x, stride, o, 0, m, nullptr, give);
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

}  // namespace

extern "C" {

// The weights of a block, [out, in] each; a bias may be null, and so may both head norms, and the scales [out] of
// matrices that are not int8.
struct Block {
    const void *attention_norm, *qkv, *qkv_bias, *q_norm, *k_norm, *out, *out_bias;
    const void *mlp_norm, *up, *up_bias, *down, *down_bias;
    const float *qkv_scale, *out_scale, *up_scale, *down_scale;
};

struct Shape {
    int64_t hidden, heads, kv_heads, head_dim, intermediate;
    float eps;
};

// rows x n tokens. x [tokens, hidden] float32 is the residual stream, changed in place. seen [rows, heads, n, head_dim]
// comes from attention; q [rows, heads, n, head_dim], k and v [rows, kv_heads, n, head_dim] go to it. cosine and sine
// [rows or 1, n, head_dim]. normed, wide and act are float32 scratch of hidden, (heads + 2 kv_heads) * head_dim and
// intermediate numbers for each token of a tile: so many pass all weights while what is made of them stays near.
struct Call {
    int64_t rows, n, turns, tile;  // turns: rows of cosine and sine
    float *x, *normed, *wide, *act;
    const void *seen;
    void *q, *k, *v;
    const void *cosine, *sine;
};

}  // extern "C"

namespace {

inline float scaled(float y, const float *scale, int64_t o) { return scale ? y * scale[o] : y; }

template <class W>
inline float ended(float y, const float *scale, const W *bias, int64_t o) {
    return bias ? scaled(y, scale, o) + get(bias + o) : scaled(y, scale, o);
}

// Tokens base .. base + m of a call, by every thread of a team. W: activations, norms and biases; Q: matrices.
template <class W, class Q>
void step(const Shape &s, const Block *done, const Block *next, const Call &c, int64_t base, int64_t m) {
    const int64_t d = s.head_dim, inner = s.heads * d, hidden = s.hidden, mid = s.intermediate;
    const int me = part(), all = parts();
    float *x = c.x + base * hidden;
    using X = typename Reads<Q>::type;
    // a product of what lies in scratch
    const auto multiply = [&](const Q *w, int64_t size, const float *from, int64_t first, int64_t last, const auto &give) {
        product(w, size, reinterpret_cast<const X *>(from), size * STRIDE<Q>, m, first, last, give);
    };
    if (done) {
        const W *seen = static_cast<const W *>(c.seen);
        for (int64_t i = share(m * s.heads, 1, me, all), end = share(m * s.heads, 1, me + 1, all); i < end; i++) {
            const int64_t t = i / s.heads, h = i % s.heads;
            const int64_t r = (base + t) / c.n, j = (base + t) % c.n;
            const W *from = seen + ((r * s.heads + h) * c.n + j) * d;
            X *to = reinterpret_cast<X *>(c.wide) + t * inner * STRIDE<Q> + h * d;
            for (int64_t k = 0; k < d; k++) put(to + k, get(from + k));
        }
#pragma omp barrier
        int64_t first = share(hidden, OUTPUTS, me, all), last = share(hidden, OUTPUTS, me + 1, all);
        const W *bias = static_cast<const W *>(done->out_bias);
        multiply(static_cast<const Q *>(done->out), inner, c.wide, first, last, [&](int64_t o, int64_t t, float y) {
            x[t * hidden + o] += ended(y, done->out_scale, bias, o);
        });
#pragma omp barrier
        for (int64_t t = share(m, 1, me, all); t < share(m, 1, me + 1, all); t++) {
            norm(x + t * hidden, static_cast<const W *>(done->mlp_norm), s.eps, hidden, c.normed + t * hidden);
            pack<X>(c.normed + t * hidden, hidden);
        }
#pragma omp barrier
        const int64_t from = share(mid, LANES, me, all), to = share(mid, LANES, me + 1, all);
        const Q *up = static_cast<const Q *>(done->up);
        const W *up_bias = static_cast<const W *>(done->up_bias);
        multiply(up, hidden, c.normed, from, to, [&](int64_t o, int64_t t, float y) {
            c.act[t * mid + o] = ended(y, done->up_scale, up_bias, o);
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
        multiply(up + mid * hidden, hidden, c.normed, from, to, [&](int64_t o, int64_t t, float y) {
            c.act[t * mid + o] *= ended(y, done->up_scale, up_bias, mid + o);
        });
#pragma omp barrier
        if constexpr (!std::is_same_v<X, float>) {
            for (int64_t t = share(m, 1, me, all); t < share(m, 1, me + 1, all); t++) pack<X>(c.act + t * mid, mid);
#pragma omp barrier
        }
        bias = static_cast<const W *>(done->down_bias);
        multiply(static_cast<const Q *>(done->down), mid, c.act, first, last, [&](int64_t o, int64_t t, float y) {
            x[t * hidden + o] += ended(y, done->down_scale, bias, o);
        });
#pragma omp barrier
    }
    if (next) {
        for (int64_t t = share(m, 1, me, all); t < share(m, 1, me + 1, all); t++) {
            norm(x + t * hidden, static_cast<const W *>(next->attention_norm), s.eps, hidden, c.normed + t * hidden);
            pack<X>(c.normed + t * hidden, hidden);
        }
#pragma omp barrier
        const int64_t heads = s.heads + 2 * s.kv_heads, turned = s.heads + s.kv_heads;
        const Q *qkv = static_cast<const Q *>(next->qkv);
        const W *bias = static_cast<const W *>(next->qkv_bias);
        const W *cosine = static_cast<const W *>(c.cosine), *sine = static_cast<const W *>(c.sine);
        for (int64_t h = share(heads, 1, me, all), end = share(heads, 1, me + 1, all); h < end; h++) {
            // the head's own piece of scratch: the products of all tokens, then norm and rotation in place
            float *head = c.wide + h * m * d;
            multiply(qkv, hidden, c.normed, h * d, (h + 1) * d, [&](int64_t o, int64_t t, float y) {
                head[t * d + o - h * d] = ended(y, next->qkv_scale, bias, o);
            });
            const bool query = h < s.heads;
            const int64_t group = query ? s.heads : s.kv_heads;
            const int64_t place = query ? h : h < turned ? h - s.heads : h - turned;
            W *out = static_cast<W *>(query ? c.q : h < turned ? c.k : c.v);
            const W *weight = static_cast<const W *>(query ? next->q_norm : h < turned ? next->k_norm : nullptr);
            for (int64_t t = 0; t < m; t++) {
                float *y = head + t * d;
                const int64_t r = (base + t) / c.n, j = (base + t) % c.n;
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

template <class W, class Q>
void step(const Shape &s, const Block *done, const Block *next, const Call &c, int threads) {
    const int64_t m = c.rows * c.n;
    (void)threads;
#pragma omp parallel num_threads(threads)
    for (int64_t base = 0; base < m; base += c.tile) {
        step<W, Q>(s, done, next, c, base, std::min(c.tile, m - base));
#pragma omp barrier
    }
}

template <class W>
void last_norm(const float *x, const W *weight, float eps, int64_t size, int64_t m, float *scratch, W *y) {
    for (int64_t t = 0; t < m; t++) {
        norm(x + t * size, weight, eps, size, scratch);
        for (int64_t k = 0; k < size; k++) put(y + t * size + k, scratch[k]);
    }
}

template <class W, class Q>
void linear(const Q *w, const float *scale, const W *x, float *scratch, int64_t m, int64_t tile, int64_t size,
            int64_t outputs, W *y, int threads) {
    (void)threads;
#pragma omp parallel num_threads(threads)
    for (int64_t base = 0; base < m; base += tile) {
        const int64_t tokens = std::min(tile, m - base), here = tokens * size;
        const W *from = x + base * size;
        W *to = y + base * outputs;
        const int me = part(), all = parts();
        const int64_t first = share(outputs, OUTPUTS, me, all), last = share(outputs, OUTPUTS, me + 1, all);
        const auto give = [&](int64_t o, int64_t t, float sum) { put(to + t * outputs + o, scaled(sum, scale, o)); };
        if constexpr (std::is_same_v<typename Reads<Q>::type, W>) {
            product(w, size, from, size, tokens, first, last, give);
        } else {
            for (int64_t i = share(here, LANES, me, all), end = share(here, LANES, me + 1, all); i < end; i++)
                scratch[i] = get(from + i);
#pragma omp barrier
            product(w, size, scratch, size, tokens, first, last, give);
#pragma omp barrier
        }
    }
}

}  // namespace

extern "C" {

void interlace_step(int is_bf16, int is_int8, const Shape *s, const Block *done, const Block *next, const Call *c,
                    int threads) {
    if (is_int8)
        is_bf16 ? step<bf16, int8_t>(*s, done, next, *c, threads) : step<float, int8_t>(*s, done, next, *c, threads);
    else
        is_bf16 ? step<bf16, bf16>(*s, done, next, *c, threads) : step<float, float>(*s, done, next, *c, threads);
}

void interlace_norm(int is_bf16, const float *x, const void *weight, float eps, int64_t size, int64_t m, float *scratch,
                    void *y) {
    if (is_bf16)
        last_norm(x, static_cast<const bf16 *>(weight), eps, size, m, scratch, static_cast<bf16 *>(y));
    else
        last_norm(x, static_cast<const float *>(weight), eps, size, m, scratch, static_cast<float *>(y));
}

// scale: of w's rows if w is int8; else null.
void interlace_linear(int is_bf16, const void *w, const float *scale, const void *x, float *scratch, int64_t m,
                      int64_t tile, int64_t size, int64_t outputs, void *y, int threads) {
    const auto run = [&](const auto *matrix, auto *out) {
        using W = std::remove_reference_t<decltype(*out)>;
        linear(matrix, scale, static_cast<const W *>(x), scratch, m, tile, size, outputs, out, threads);
    };
    if (is_bf16)
        scale ? run(static_cast<const int8_t *>(w), static_cast<bf16 *>(y))
              : run(static_cast<const bf16 *>(w), static_cast<bf16 *>(y));
    else
        scale ? run(static_cast<const int8_t *>(w), static_cast<float *>(y))
              : run(static_cast<const float *>(w), static_cast<float *>(y));
}
}
