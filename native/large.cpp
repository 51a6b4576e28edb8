// Large integer products by a function of the caller, where one is set: for units of the processor
// that the kernels do not use. Sums of integers are exact, activations are quantized and sums are
// scaled as in the kernels, so the bits are the same.
#include <stdexcept>
#include <vector>

#include "work.h"

namespace {

constexpr int64_t kRows = 4096;    // Output rows that the function gets at a time at most,
constexpr int64_t kTokens = 1024;  // and tokens: what is in memory between the steps stays small.

auris_multiplier multiplier = nullptr;
int64_t least_tokens = 0;

// What a thread needs.
struct Room {
  Memory<int8_t> unpacked;
  Memory<int32_t> sums;
};

std::vector<Room> rooms;

// Rows first..last as bytes, side by side.
const int8_t* unpack(const auris_matrix& matrix, int64_t first, int64_t last, Room& room) {
  if (is_plain(matrix)) return static_cast<const int8_t*>(matrix.codes) + first * matrix.columns;
  int8_t* bytes = room.unpacked.of((last - first) * matrix.columns);
  for (int64_t n = first; n < last; ++n)
    kernels->unpack(&matrix, static_cast<int>(n), bytes + (n - first) * matrix.columns);
  return bytes;
}

// The sums [count, rows] of activations and of `rows` rows of a matrix, which lie at `weights`.
void call_multiplier(const int8_t* codes, int64_t count, const auris_matrix& matrix,
                     const int8_t* weights, int64_t rows, int32_t* sums) {
  const int64_t columns = matrix.columns;
  if (!multiplier(codes, count, padded(columns), weights, rows, columns, sums))
    throw std::runtime_error("the caller's function for large products failed");
}

void multiply_part(const auris_matrix& matrix, int64_t count, int64_t first, int64_t last,
                   float* out, bool add, Room& room) {
  const int64_t stride = padded(matrix.columns), rows = last - first;
  const int8_t* weights = unpack(matrix, first, last, room);
  const float* scales = activations.scales.data();
  for (int64_t begin = 0; begin < count; begin += kTokens) {
    const int64_t tokens = count - begin < kTokens ? count - begin : kTokens;
    int32_t* sums = room.sums.of(tokens * rows);
    const int8_t* codes = activations.codes.data() + begin * stride;
    call_multiplier(codes, tokens, matrix, weights, rows, sums);
    for (int64_t i = 0; i < tokens; ++i)
      kernels->scale_sums(sums + i * rows, scales[begin + i], matrix.scale + first,
                          static_cast<int>(rows), out + (begin + i) * matrix.rows + first, add);
  }
}

}  // namespace

bool multiply_patches(const auris_matrix& taps, const int8_t* patches, const float* scales,
                      int64_t count, int32_t* sums, float* out) {
  if (multiplier == nullptr || count < least_tokens || !is_plain(taps)) return false;
  const auto* weights = static_cast<const int8_t*>(taps.codes);
  call_multiplier(patches, count, taps, weights, taps.rows, sums);
  for (int64_t i = 0; i < count; ++i)
    kernels->scale_sums(sums + i * taps.rows, scales[i], taps.scale, taps.rows, out + i * taps.rows,
                        false);
  return true;
}

bool multiply_large(const auris_matrix& matrix, int64_t count, float* out, bool add, int threads) {
  if (multiplier == nullptr || count < least_tokens || is_float(matrix)) return false;
  if (static_cast<int>(rooms.size()) < threads) rooms.resize(threads);
  // A part for each thread, of whole blocks.
  const int64_t share = (matrix.rows + threads - 1) / threads;
  const int64_t blocks = (share + kRowBlock - 1) / kRowBlock * kRowBlock;
  const int64_t part = blocks < kRows ? blocks : kRows;
  Pool::instance().run(threads, (matrix.rows + part - 1) / part, [&](int64_t index, int worker) {
    const int64_t end = (index + 1) * part < matrix.rows ? (index + 1) * part : matrix.rows;
    multiply_part(matrix, count, index * part, end, out, add, rooms[worker]);
  });
  return true;
}

AURIS_API int32_t auris_multiply_with(auris_multiplier function, int64_t least) {
  return call([&] {
    multiplier = function;
    least_tokens = function == nullptr ? 0 : least;
  });
}

AURIS_API int64_t auris_least_large() { return least_tokens; }
