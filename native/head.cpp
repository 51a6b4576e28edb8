// The best row of a vocabulary in two stages: estimates from upper halves, which bound every score,
// and exact scores of those rows alone that could matter. What is found is what exact scores of all
// rows would give; only the normalizer of the softmax may be off, by a bound that is checked.
#include <cmath>
#include <limits>
#include <mutex>
#include <vector>

#include "work.h"

namespace {

constexpr int kChunk = 1024;         // Rows of the vocabulary that a thread takes at a time.
constexpr float kNormalizer = 0.02f;  // Most that a log-probability may be off.
constexpr float kAll = std::numeric_limits<float>::infinity();

// How far below the least score of the best row others are read, one after the other until the
// normalizer is near enough: those that may win or nearly so, those that weigh something, and all.
constexpr float kMargins[] = {0.01f, 8.f, kAll};
constexpr int kRounds = 3;

// Largest, and next to it.
struct Top {
  float first = -kAll, second = -kAll;
  int place = -1;

  void take(float value, int n) {
    if (!(value > second)) return;  // So it is for nearly all.
    if (value > first) {
      second = first;
      first = value;
      place = n;
    } else {
      second = value;
    }
  }
};

// What is known of a chunk of rows.
struct Found {
  Top least, most;  // Of the scores that rows have at least, and at most.
  float masses[3];
  int32_t read;
};

// What is known of one x.
struct State {
  bool open;        // Whether more of its rows are to be read.
  float threshold;  // Of the scores that are.
  Top best;
  float logprob;
  int32_t read;
};

Memory<int32_t> uppers;
Memory<float> middles, reaches, norms;
std::vector<Found> found;
std::vector<State> states;

class Best {
 public:
  Best(const auris_matrix& matrix, int64_t count, int threads)
      : matrix_(matrix),
        count_(count),
        threads_(threads),
        chunks_((matrix.rows + kChunk - 1) / kChunk),
        upper_(uppers.of(count * chunks_ * kChunk)),
        middle_(middles.of(count * chunks_ * kChunk)),
        reach_(reaches.of(count * chunks_ * kChunk)),
        norms_(norms.of(count)) {
    found.resize(count * chunks_);
    states.resize(count);
    for (int64_t i = 0; i < count; ++i) norms_[i] = norm(codes(i));
  }

  void run(bool exact) {
    estimate();
    for (int64_t i = 0; i < count_; ++i)
      states[i] = {!std::isnan(scale(i)), 0.f, Top(), 0.f, 0};
    bool some = true;
    for (int round = exact ? kRounds - 1 : 0; some && round < kRounds; ++round) {
      for (int64_t i = 0; i < count_; ++i) aim(i, kMargins[round]);
      read();
      weigh();
      some = false;
      for (int64_t i = 0; i < count_; ++i) some |= states[i].open && !settle(i);
    }
  }

  void tell(int64_t i, int32_t* token, float* logprob, float* gap, int32_t* read) const {
    const State& state = states[i];
    const bool strange = std::isnan(scale(i));
    const float none = std::numeric_limits<float>::quiet_NaN();
    *token = strange ? 0 : state.best.place;
    *logprob = strange ? none : state.logprob;
    *gap = strange ? none : state.best.first - state.best.second;
    *read = state.read;
  }

 private:

  void estimate() {
    Pool::instance().run(threads_, chunks_, [&](int64_t chunk, int) {
      const int first = static_cast<int>(chunk) * kChunk, last = end(chunk);
      const int64_t place = chunk * count_ * kChunk;
      kernels->estimate(&matrix_, codes(0), activations.scales.of(0), activations.sums.of(0), norms_,
                        count_, first, last, kChunk, upper_ + place, middle_ + place,
                        reach_ + place);
      for (int64_t i = 0; i < count_; ++i) {
        Found& one = at(i, chunk);
        one.least = Top();
        one.read = 0;
        const int64_t at_first = part(i, chunk);
        for (int n = first; n < last; ++n)
          one.least.take(middle_[at_first + n - first] - reach_[at_first + n - first], n);
      }
    });
  }

  // Where half of all rows would be read, all are, at once.
  void aim(int64_t i, float margin) {
    State& state = states[i];
    if (state.read > matrix_.rows / 2) margin = kAll;
    state.threshold = top(i, &Found::least).first - margin;
  }

  // Exact scores of all rows that may have the threshold or more; one that has an exact score
  // reaches nowhere.
  void read() {
    Pool::instance().run(threads_, chunks_, [&](int64_t chunk, int) {
      for (int64_t i = 0; i < count_; ++i)
        if (states[i].open) read_part(i, chunk);
    });
  }

  void read_part(int64_t i, int64_t chunk) {
    Found& one = at(i, chunk);
    one.most = Top();
    const int first = static_cast<int>(chunk) * kChunk, last = end(chunk);
    const float threshold = states[i].threshold;
    const int32_t* upper = upper_ + part(i, chunk);
    float *score = middle_ + part(i, chunk), *off = reach_ + part(i, chunk);
    for (int n = first; n < last; ++n, ++upper, ++score, ++off) {
      if (*score + *off >= threshold && *off > 0.f) {
        *score = kernels->exact(&matrix_, codes(i), scale(i), *upper, n);
        *off = 0.f;
        ++one.read;
      }
      one.most.take(*score + *off, n);
    }
  }

  void weigh() {
    for (int64_t i = 0; i < count_; ++i)
      if (states[i].open) states[i].best = top(i, &Found::most);
    Pool::instance().run(threads_, chunks_, [&](int64_t chunk, int) {
      const int first = static_cast<int>(chunk) * kChunk;
      for (int64_t i = 0; i < count_; ++i)
        if (states[i].open)
          kernels->masses(middle_ + part(i, chunk), reach_ + part(i, chunk), end(chunk) - first,
                          states[i].best.first, at(i, chunk).masses);
    });
  }

  // The log-probability of the best; whether it is near enough.
  bool settle(int64_t i) {
    State& state = states[i];
    double sums[3] = {};
    state.read = 0;
    for (int64_t chunk = 0; chunk < chunks_; ++chunk) {
      for (int k = 0; k < 3; ++k) sums[k] += at(i, chunk).masses[k];
      state.read += at(i, chunk).read;
    }
    state.logprob = -static_cast<float>(std::log(sums[0]));
    const double below = std::log(sums[0] / sums[1]), above = std::log(sums[2] / sums[0]);
    state.open = !(below <= kNormalizer && above <= kNormalizer);
    return !state.open;
  }

  int end(int64_t chunk) const {
    const int64_t last = (chunk + 1) * kChunk;
    return static_cast<int>(last < matrix_.rows ? last : matrix_.rows);
  }

  const int8_t* codes(int64_t i) const {
    return activations.codes.of(0) + i * padded(matrix_.columns);
  }
  float scale(int64_t i) const { return activations.scales.of(0)[i]; }
  // Where the numbers of a chunk of one x begin: those of all of them lie side by side.
  int64_t part(int64_t i, int64_t chunk) const { return (chunk * count_ + i) * kChunk; }
  Found& at(int64_t i, int64_t chunk) const { return found[i * chunks_ + chunk]; }

  float norm(const int8_t* codes) const {
    int64_t squares = 0;
    for (int k = 0; k < matrix_.columns; ++k) squares += codes[k] * codes[k];
    return std::sqrt(static_cast<float>(squares));
  }

  Top top(int64_t i, Top Found::* which) const {
    Top best;
    for (int64_t chunk = 0; chunk < chunks_; ++chunk) {
      const Top& one = at(i, chunk).*which;
      best.take(one.first, one.place);
      best.take(one.second, -1);
    }
    return best;
  }

  const auris_matrix& matrix_;
  const int64_t count_;
  const int threads_;
  const int64_t chunks_;
  int32_t* upper_;
  float *middle_, *reach_, *norms_;
};

}  // namespace

AURIS_API void auris_best(const auris_matrix* matrix, const float* x, int64_t count, int32_t exact,
                          int32_t* token, float* logprob, float* gap, int32_t* read,
                          int32_t threads) {
  const std::lock_guard<std::mutex> lock(turn);
  reserve(*matrix, count);
  each(threads, count, [&](int64_t i) { quantize(*matrix, count, i, x + i * matrix->width); });
  Best best(*matrix, count, threads);
  best.run(exact != 0);
  for (int64_t i = 0; i < count; ++i)
    best.tell(i, token + i, logprob + i, gap + i, read + i);
}
