// The best row of a vocabulary, and what the softmax over all rows makes of it.
//
// For one x in two stages: estimates from upper halves, which bound every score, and exact scores
// of those rows alone that could matter. What is found is what exact scores of all rows would give;
// only the normalizer of the softmax may be off, by a bound that is checked. Where so many rows
// could matter that nothing would be spared, all are read at once. For several x, which share what
// is read anyway, all scores are computed, a chunk of rows at a time, and none is kept.
#include <cmath>
#include <limits>
#include <mutex>
#include <vector>

#include "work.h"

namespace {

constexpr int kChunk = 1024;          // Rows of the vocabulary that a thread takes at a time.
constexpr float kNormalizer = 0.02f;  // Most that a log-probability may be off.
constexpr float kMargin = 8.f;        // Rows so far below the best one weigh next to nothing.
constexpr int kFewOf = 4;  // Reading here and there pays where it is a fourth of the rows at most.
constexpr float kAll = std::numeric_limits<float>::infinity();

Memory<int32_t> uppers;
Memory<float> middles, reaches, scores;
Memory<int8_t> scratch;
std::vector<Outstanding> found;
std::vector<float> leasts;
std::vector<int32_t> counts;

struct Answer {
  int32_t token;
  float logprob, gap;
  int32_t read;
  float off;  // Most that the log-probability may be off.
};

// What stands out in all chunks, whose masses are relative to their own first.
Answer combined(const Outstanding* chunks, int64_t count) {
  Outstanding best = chunks[0];
  for (int64_t chunk = 1; chunk < count; ++chunk) {
    const Outstanding& one = chunks[chunk];
    const bool better = one.first > best.first;
    const float lesser = better ? best.first : one.first;
    best.second = better ? one.second : best.second;
    if (lesser > best.second) best.second = lesser;
    if (better) best.first = one.first, best.place = static_cast<int>(chunk) * kChunk + one.place;
  }
  double sums[3] = {};
  for (int64_t chunk = 0; chunk < count; ++chunk) {
    const double weight = std::exp(static_cast<double>(chunks[chunk].first) - best.first);
    for (int i = 0; i < 3; ++i) sums[i] += chunks[chunk].masses[i] * weight;
  }
  const double below = std::log(sums[0] / sums[1]), above = std::log(sums[2] / sums[0]);
  return {best.place, -static_cast<float>(std::log(sums[0])), best.first - best.second, 0,
          static_cast<float>(below > above ? below : above)};
}

const int8_t* codes(const auris_matrix& matrix, int64_t i) {
  return activations.codes.of(0) + i * padded(matrix.columns);
}

int64_t chunks_of(const auris_matrix& matrix) { return (matrix.rows + kChunk - 1) / kChunk; }

int end_of(const auris_matrix& matrix, int64_t chunk) {
  const int64_t end = (chunk + 1) * kChunk;
  return static_cast<int>(end < matrix.rows ? end : matrix.rows);
}

// One x, which is the first of the activations.
class TwoStages {
 public:
  TwoStages(const auris_matrix& matrix, int threads)
      : matrix_(matrix),
        threads_(threads),
        chunks_(chunks_of(matrix)),
        scale_(activations.scales.of(0)[0]),
        upper_(uppers.of(matrix.rows)),
        middle_(middles.of(matrix.rows)),
        reach_(reaches.of(matrix.rows)) {
    found.resize(chunks_);
    leasts.resize(chunks_);
    counts.assign(chunks_, 0);
  }

  Answer run() {
    estimate();
    float least = -kAll;
    for (int64_t chunk = 0; chunk < chunks_; ++chunk)
      if (leasts[chunk] > least) least = leasts[chunk];
    float threshold = least - kMargin;
    if (likely(threshold) > matrix_.rows / kFewOf) threshold = -kAll;
    Answer answer = refined(threshold);
    if (!(answer.off <= kNormalizer)) answer = refined(-kAll);
    return answer;
  }

 private:
  void estimate() {
    const float size = norm();
    Pool::instance().run(threads_, chunks_, [&](int64_t chunk, int) {
      const int64_t first = chunk * kChunk;
      leasts[chunk] = kernels->estimate(&matrix_, codes(matrix_, 0), scale_,
                                        activations.sums.of(0)[0], size, static_cast<int>(first),
                                        end_of(matrix_, chunk), upper_ + first, middle_ + first,
                                        reach_ + first);
    });
  }

  float norm() const {
    int64_t squares = 0;
    const int8_t* x = codes(matrix_, 0);
    for (int k = 0; k < matrix_.columns; ++k) squares += x[k] * x[k];
    return std::sqrt(static_cast<float>(squares));
  }

  int likely(float threshold) const {
    int some = 0;
    for (int n = 0; n < matrix_.rows; ++n) some += middle_[n] + reach_[n] >= threshold ? 1 : 0;
    return some;
  }

  Answer refined(float threshold) {
    const bool all = threshold == -kAll;
    Pool::instance().run(threads_, chunks_, [&](int64_t chunk, int) {
      const int64_t first = chunk * kChunk;
      const int end = end_of(matrix_, chunk);
      counts[chunk] += kernels->refine(&matrix_, codes(matrix_, 0), scale_, static_cast<int>(first),
                                       end, threshold, upper_ + first, middle_ + first,
                                       reach_ + first);
      found[chunk] = kernels->outstanding(middle_ + first, all ? nullptr : reach_ + first,
                                          end - static_cast<int>(first));
    });
    Answer answer = combined(found.data(), chunks_);
    for (const int32_t count : counts) answer.read += count;
    return answer;
  }

  const auris_matrix& matrix_;
  const int threads_;
  const int64_t chunks_;
  const float scale_;
  int32_t* upper_;
  float *middle_, *reach_;
};

// All scores of `count` x; what stands out of x i's lies from found[i * chunks] on.
void whole(const auris_matrix& matrix, const float* x, int64_t count, int threads) {
  const int64_t chunks = chunks_of(matrix), bytes = scratch_bytes(matrix);
  found.resize(count * chunks);
  int8_t* room = scratch.of(bytes * threads);
  float* part = scores.of(count * kChunk * threads);
  lay(matrix, count, threads);
  Pool::instance().run(threads, chunks, [&](int64_t chunk, int worker) {
    const int first = static_cast<int>(chunk) * kChunk, end = end_of(matrix, chunk);
    float* out = part + count * kChunk * worker;
    multiply_rows(matrix, {x, matrix.width}, count, first, end, out, kChunk, false,
                  room + bytes * worker);
    for (int64_t i = 0; i < count; ++i)
      found[i * chunks + chunk] = kernels->outstanding(out + i * kChunk, nullptr, end - first);
  });
}

// Whether all of x i are numbers.
bool is_number(const auris_matrix& matrix, const float* x, int64_t i) {
  const float most = is_float(matrix) ? kernels->largest_size(x + i * matrix.width, matrix.width)
                                      : activations.scales.data()[i];
  return !std::isnan(most);
}

}  // namespace

void best_rows(const auris_matrix& matrix, const float* x, int64_t count, bool exact,
               auris_choice* choices, int threads) {
  reserve(matrix, count);
  each(threads, count, [&](int64_t i) { quantize(matrix, count, i, x + i * matrix.width); });
  const bool two_stages = count == 1 && !exact && matrix.lower != nullptr;
  if (!two_stages) whole(matrix, x, count, threads);
  for (int64_t i = 0; i < count; ++i) {
    const float none = std::numeric_limits<float>::quiet_NaN();
    Answer answer = {0, none, none, 0, 0.f};
    if (is_number(matrix, x, i)) {
      const int64_t chunks = chunks_of(matrix);
      answer = two_stages ? TwoStages(matrix, threads).run()
                          : combined(found.data() + i * chunks, chunks);
      if (!two_stages) answer.read = matrix.rows;
    }
    choices[i] = {answer.token, answer.logprob, answer.gap, answer.read};
  }
}

AURIS_API int32_t auris_best(const auris_matrix* matrix, const float* x, int64_t count,
                             int32_t exact, auris_choice* choices, int32_t threads) {
  return call([&] { best_rows(*matrix, x, count, exact != 0, choices, threads); });
}
