// Few random numbers for each of many points, on a processor: those that hashlib's BLAKE2b and PyTorch's generator give.
//
// Seeding a generator costs more than the number that is wanted of it, and of the 624 words of a Mersenne Twister the
// first number needs two of the first and one of the middle: only these are made.

#include <cstdint>

namespace {

constexpr uint64_t START[8] = {0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
                               0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179};
constexpr uint8_t ORDER[10][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0}};

inline uint64_t turned(uint64_t x, int by) { return x >> by | x << (64 - by); }

inline void mix(uint64_t &a, uint64_t &b, uint64_t &c, uint64_t &d, uint64_t x, uint64_t y) {
    a += b + x, d = turned(d ^ a, 32), c += d, b = turned(b ^ c, 24);
    a += b + y, d = turned(d ^ a, 16), c += d, b = turned(b ^ c, 63);
}

// BLAKE2b (RFC 7693) of four numbers, 8 bytes of it.
uint64_t digest(const int64_t *point) {
    uint64_t m[16] = {}, v[16];
    for (int i = 0; i < 4; i++) m[i] = uint64_t(point[i]);
    const uint64_t first = START[0] ^ 0x01010008;
    for (int i = 0; i < 8; i++) v[i] = i ? START[i] : first, v[i + 8] = START[i];
    v[12] ^= 32, v[14] = ~v[14];
    for (int round = 0; round < 12; round++) {
        const uint8_t *s = ORDER[round % 10];
        for (int i = 0; i < 4; i++) mix(v[i], v[i + 4], v[i + 8], v[i + 12], m[s[2 * i]], m[s[2 * i + 1]]);
        for (int i = 0; i < 4; i++)
            mix(v[i], v[(i + 1) % 4 + 4], v[(i + 2) % 4 + 8], v[(i + 3) % 4 + 12], m[s[8 + 2 * i]], m[s[9 + 2 * i]]);
    }
    return first ^ v[0] ^ v[8];
}

constexpr int64_t MIDDLE = 397, WORDS = 624;

// The first n <= WORDS - MIDDLE numbers of MT19937.
template <class Give>
void numbers(uint32_t seed, int64_t n, const Give &give) {
    uint32_t words[WORDS];
    words[0] = seed;
    for (int64_t i = 1; i < MIDDLE + n; i++)
        words[i] = 1812433253u * (words[i - 1] ^ words[i - 1] >> 30) + uint32_t(i);
    for (int64_t i = 0; i < n; i++) {
        const uint32_t both = (words[i] & 0x80000000u) | (words[i + 1] & 0x7fffffffu);
        uint32_t y = words[i + MIDDLE] ^ both >> 1 ^ (both & 1 ? 0x9908b0dfu : 0);
        y ^= y >> 11, y ^= y << 7 & 0x9d2c5680u, y ^= y << 15 & 0xefc60000u, y ^= y >> 18;
        give(i, y);
    }
}

}  // namespace

extern "C" {

// n numbers of every point (seed, unit, step, use): uniform float32 in [0, 1), or with a vocabulary int64 below it.
void interlace_noise(const int64_t *points, int64_t count, int64_t n, int64_t vocabulary, void *out) {
    for (int64_t p = 0; p < count; p++, points += 4) {
        float *uniform = static_cast<float *>(out) + p * n;
        int64_t *token = static_cast<int64_t *>(out) + p * n;
        numbers(uint32_t(digest(points) >> 1), n, [&](int64_t i, uint32_t y) {
            if (vocabulary)
                token[i] = y % vocabulary;
            else
                uniform[i] = float(y & 0xffffff) / float(1 << 24);
        });
    }
}
}
