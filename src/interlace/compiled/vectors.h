// Vectors of float32; bfloat16 read and written as float32, int8 read so: what the compiled sources share.
//
// Every sum is taken in one fixed order, so that equal inputs give equal bits.

#pragma once

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
constexpr int LANES = 16;
#else
constexpr int LANES = 8;
#endif

typedef float vec __attribute__((vector_size(LANES * 4)));
typedef float quad __attribute__((vector_size(16)));
typedef int32_t ints __attribute__((vector_size(LANES * 4)));
typedef uint32_t words __attribute__((vector_size(LANES * 4)));
typedef uint16_t halves __attribute__((vector_size(LANES * 2)));
typedef int8_t octets __attribute__((vector_size(LANES)));

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

inline vec load(const int8_t *p) {
    octets b;
    std::memcpy(&b, p, sizeof b);
    return __builtin_convertvector(__builtin_convertvector(b, ints), vec);
}

inline void store(float *p, vec v) { std::memcpy(p, &v, sizeof v); }

inline float get(const float *p) { return *p; }

inline float get(const bf16 *p) {
    uint32_t w = uint32_t(p->bits) << 16;
    float f;
    std::memcpy(&f, &w, sizeof f);
    return f;
}

inline float get(const int8_t *p) { return *p; }

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

// A thread's own room.
inline float *room(int64_t size) {
    static thread_local std::vector<float> numbers;
    if (int64_t(numbers.size()) < size) numbers.resize(size);
    return numbers.data();
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
