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

// Largest, and next to it.
struct Top {
  float first = -kAll, second = -kAll;
  int place = -1;

  void take(float value, int n) {
    if (value > first) {
      second = first;
      first = value;
      place = n;
    } else if (value > second) {
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

Memory<float> middles, reaches, norms;
std::vector<Found> found;

class Best {
 public:
  Best(const auris_matrix& matrix, int64_t count, int threads)
      : matrix_(matrix),
        count_(count),
        threads_(threads),
        chunks_((matrix.rows + kChunk - 1) / kChunk),
        middle_(middles.of(count * matrix.rows)),
        reach_(reaches.of(count * matrix.rows)),
        norms_(norms.of(count)) {
    found.resize(count * chunks_);
    for (int64_t i = 0; i < count; ++i) norms_[i] = norm(codes(i));
  }

  void estimate() {
    Pool::instance().run(threads_, chunks_, [&](int64_t chunk, int) {
      const int first = static_cast<int>(chunk) * kChunk, last = end(chunk);
      kernels->estimate(&matrix_, activations.codes.of(0), activations.scales.of(0),
                        activations.sums.of(0), norms_, count_, first, last, middle_, reach_);
      for (int64_t i = 0; i < count_; ++i) {
        Found& one = at(i, chunk);
        one.least = Top();
        one.read = 0;
        for (int n = first; n < last; ++n) one.least.take(middle(i)[n] - reach(i)[n], n);
      }
    });
  }

  void choose(int64_t i, bool exact, int32_t* token, float* logprob, float* gap, int32_t* read) {
    const float least = top(i, &Found::least).first;
    *read = 0;
    if (std::isnan(activations.scales.of(0)[i])) {
      *token = 0;
      *logprob = *gap = std::numeric_limits<float>::quiet_NaN();
      return;
    }
    for (const float margin : kMargins) {
      if (exact && margin != kAll) continue;
      read_from(i, least - margin);
      const Top best = top(i, &Found::most);
      *token = best.place;
      *gap = best.first - best.second;
      const float off = normalize(i, best.first, logprob);
      if (off <= kNormalizer) break;
    }
    for (int64_t chunk = 0; chunk < chunks_; ++chunk) *read += at(i, chunk).read;
  }

 private:
  int end(int64_t chunk) const {
    const int64_t last = (chunk + 1) * kChunk;
    return static_cast<int>(last < matrix_.rows ? last : matrix_.rows);
  }

  const int8_t* codes(int64_t i) const {
    return activations.codes.of(0) + i * padded(matrix_.columns);
  }
  float* middle(int64_t i) const { return middle_ + i * matrix_.rows; }
  float* reach(int64_t i) const { return reach_ + i * matrix_.rows; }
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

  // Exact scores of all rows that may have `least` or more; a row that has one reaches nowhere.
  void read_from(int64_t i, float least) {
    float *middles = middle(i), *reaches = reach(i);
    const float scale = activations.scales.of(0)[i];
    const int32_t sum = activations.sums.of(0)[i];
    Pool::instance().run(threads_, chunks_, [&](int64_t chunk, int) {
      Found& one = at(i, chunk);
      one.most = Top();
      for (int n = static_cast<int>(chunk) * kChunk; n < end(chunk); ++n) {
        if (reaches[n] > 0.f && middles[n] + reaches[n] >= least) {
          middles[n] = kernels->exact(&matrix_, codes(i), scale, sum, n);
          reaches[n] = 0.f;
          ++one.read;
        }
        one.most.take(middles[n] + reaches[n], n);
      }
    });
  }

  // Log-probability of the score `best`; returns how far it may be off.
  float normalize(int64_t i, float best, float* logprob) {
    Pool::instance().run(threads_, chunks_, [&](int64_t chunk, int) {
      const int64_t first = chunk * kChunk;
      kernels->masses(middle(i) + first, reach(i) + first, end(chunk) - static_cast<int>(first),
                      best, at(i, chunk).masses);
    });
    double sums[3] = {};
    for (int64_t chunk = 0; chunk < chunks_; ++chunk)
      for (int k = 0; k < 3; ++k) sums[k] += at(i, chunk).masses[k];
    *logprob = -static_cast<float>(std::log(sums[0]));
    const double below = std::log(sums[0] / sums[1]), above = std::log(sums[2] / sums[0]);
    return static_cast<float>(below > above ? below : above);
  }

  const auris_matrix& matrix_;
  const int64_t count_;
  const int threads_;
  const int64_t chunks_;
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
  best.estimate();
  for (int64_t i = 0; i < count; ++i)
    best.choose(i, exact != 0, token + i, logprob + i, gap + i, read + i);
}
