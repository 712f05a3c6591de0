// What is chosen between two forwards, on a processor: the likeliest token, a drawn one, the best of some cells; and how
// sure a prediction is.
//
// A choice is one pass over the numbers and one call, in place of many small operators. Ties are broken as PyTorch's
// operators break them, so that both choose the same.

#include "vectors.h"

namespace {

constexpr int64_t STRETCH = 128;  // tokens whose weights are summed before they are cumulated

// Where rising numbers first pass a goal, before the last of them is reached; `before`: the number in front of it.
inline int64_t passed(const double *rising, int64_t n, double goal, double &before) {
    goal = std::max(0.0, std::min(goal, std::nextafter(rising[n - 1], 0.0)));
    const int64_t found = std::min<int64_t>(std::upper_bound(rising, rising + n, goal) - rising, n - 1);
    before = found ? rising[found - 1] : 0.0;
    return found;
}

inline bool greater(float a, float b) { return a > b || (a != a && b == b); }  // NaN is the greatest

constexpr float NEVER = -1e4f;  // what a logit of -infinity is taken for: its probability is 0, and 0 times it is 0
constexpr int64_t WORTH = 1 << 16;  // numbers from which on a second thread is worth its start

// The greatest number of a row; of NaN among others, nothing is said.
inline float greatest(const float *x, int64_t n) {
    vec most = vec{} - INFINITY;
    int64_t k = 0;
    for (; k + LANES <= n; k += LANES) {
        const vec v = load(x + k);
        most = v > most ? v : most;
    }
    float best = -INFINITY;
    for (int i = 0; i < LANES; i++) best = std::max(best, most[i]);
    for (; k < n; k++) best = x[k] > best ? x[k] : best;
    return best;
}

}  // namespace

extern "C" {

// The place of the greatest number of every row of x [m, n], the first of equal ones.
void interlace_best(const float *x, int64_t m, int64_t n, int64_t *out) {
    for (int64_t r = 0; r < m; r++, x += n) {
        vec most = vec{} - INFINITY;
        ints odd = {};
        int64_t k = 0;
        for (; k + LANES <= n; k += LANES) {
            const vec v = load(x + k);
            most = v > most ? v : most;
            odd |= v != v;
        }
        float best = -INFINITY;
        bool strange = false;
        for (int i = 0; i < LANES; i++) best = std::max(best, most[i]), strange |= odd[i] != 0;
        for (; k < n; k++) best = x[k] > best ? x[k] : best, strange |= x[k] != x[k];
        k = 0;
        while (k < n - 1 && (strange ? x[k] == x[k] : x[k] != best)) k++;
        out[r] = k;
    }
}

// Of every row of x [m, n]: its greatest number, the logarithm of the sum of e^(x - greatest), and the entropy of
// softmax(x) in nats. NaN in a row is NaN in the last two.
void interlace_sureness(const float *x, int64_t m, int64_t n, float *most, float *rest, float *entropy, int threads) {
    (void)threads;
#pragma omp parallel for num_threads(threads) if (m * n > WORTH)
    for (int64_t r = 0; r < m; r++) {
        const float *row = x + r * n, top = greatest(row, n);
        vec weight = {}, weighed = {};
        const auto add = [&](vec below, vec kept) {
            const vec low = vec{} + NEVER;
            below = below < low ? low : below;
            const vec e = exponential(below) * kept;
            weight += e;
            weighed = fused(e, below, weighed);
        };
        int64_t k = 0;
        for (; k + LANES <= n; k += LANES) add(load(row + k) - top, vec{} + 1.0f);
        if (k < n) {
            vec last = {}, kept = {};
            for (int i = 0; k + i < n; i++) last[i] = row[k + i] - top, kept[i] = 1.0f;
            add(last, kept);
        }
        const float total = sum(weight);
        most[r] = top;
        rest[r] = std::log(total);
        entropy[r] = rest[r] - sum(weighed) / total;
    }
}

// The token at which the cumulated weights [m, n] pass uniform [m] times their sum; never one of weight 0.
void interlace_draw(const float *weights, const float *uniform, int64_t m, int64_t n, int64_t *out) {
    const int64_t stretches = (n + STRETCH - 1) / STRETCH;
    std::vector<double> sums(stretches), inside(STRETCH);
    for (int64_t r = 0; r < m; r++, weights += n) {
        double total = 0, before;
        for (int64_t s = 0; s < stretches; s++) {
            const float *from = weights + s * STRETCH;
            const int64_t count = std::min(STRETCH, n - s * STRETCH);
            double lanes[8] = {};
            int64_t k = 0;
            for (; k + 8 <= count; k += 8)
                for (int i = 0; i < 8; i++) lanes[i] += from[k + i];
            for (; k < count; k++) lanes[0] += from[k];
            for (int i = 0; i < 8; i++) total += lanes[i];
            sums[s] = total;
        }
        const double goal = double(uniform[r]) * total;
        const int64_t which = passed(sums.data(), stretches, goal, before);
        const float *from = weights + which * STRETCH;
        const int64_t count = std::min(STRETCH, n - which * STRETCH);
        double along = 0;
        for (int64_t k = 0; k < count; k++) inside[k] = along += from[k];
        out[r] = which * STRETCH + passed(inside.data(), count, goal - before, before);
    }
}

// Which open cells [m, n] are among the count [m] greatest of their row; those that are not open count as -infinity.
void interlace_top(const bool *open, const float *score, const int64_t *count, int64_t m, int64_t n, bool *out) {
    std::vector<int64_t> order(n);
    float *of = room(n);
    for (int64_t r = 0; r < m; r++, open += n, score += n, out += n) {
        for (int64_t i = 0; i < n; i++) order[i] = i, of[i] = open[i] ? score[i] : -INFINITY, out[i] = false;
        const int64_t most = std::max<int64_t>(0, std::min(count[r], n));
        std::partial_sort(order.begin(), order.begin() + most, order.end(), [&](int64_t a, int64_t b) {
            return greater(of[a], of[b]) || (!greater(of[b], of[a]) && a < b);
        });
        for (int64_t i = 0; i < most; i++) out[order[i]] = open[order[i]];
    }
}
}
