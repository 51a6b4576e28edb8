#include "work.h"

#include <cstring>

namespace {

constexpr int64_t kChunkBytes = 1 << 18;  // Of weights, that a thread takes at a time in a step.

constexpr int64_t kMostBlocks = 8;       // That a thread takes at a time in a large product.

const Kernels* best() {
  for (const Kernels* found : {amx_kernels(), avx512_kernels(), avx2_kernels(), neon_kernels()})
    if (found != nullptr) return found;
  return portable_kernels();
}

Memory<int8_t> scratch;

constexpr int kMessage = 256;
thread_local char message[kMessage];

}  // namespace

void set_message(const char* text) noexcept {
  std::strncpy(message, text, kMessage - 1);
  message[kMessage - 1] = 0;
}

AURIS_API int32_t auris_abi() { return AURIS_ABI; }

AURIS_API const char* auris_message() { return message; }

const Kernels* kernels = best();
std::mutex turn;
Activations activations;

void quantize(const auris_matrix& matrix, int64_t count, int64_t i, const float* x) {
  if (is_float(matrix)) return;
  const int64_t stride = padded(matrix.columns);
  kernels->quantize(x, matrix.width, matrix.columns,
                    activations.codes.of(count * stride) + i * stride,
                    activations.scales.of(count) + i, activations.sums.of(count) + i);
}

void reserve(const auris_matrix& matrix, int64_t count) {
  if (is_float(matrix)) return;
  activations.codes.of(count * padded(matrix.columns));
  activations.scales.of(count);
  activations.sums.of(count);
}

void lay(const auris_matrix& matrix, int64_t count, int threads) {
  activations.are_laid = !is_float(matrix) && is_laid(count);
  if (!activations.are_laid) return;
  const int64_t blocks = (count + kLaid - 1) / kLaid, stride = kLaid * padded(matrix.columns);
  int8_t* laid = activations.laid.of(blocks * kLaid * matrix.columns);
  Pool::instance().run(blocks > 2 ? threads : 1, blocks, [&](int64_t block, int) {
    const int64_t rest = count - block * kLaid;
    kernels->lay(activations.codes.data() + block * stride, rest < kLaid ? static_cast<int>(rest) : kLaid,
                 matrix.columns, laid + block * kLaid * matrix.columns);
  });
}

void multiply_rows(const auris_matrix& matrix, const Rows& rows, int64_t count, int first, int last,
                   float* out, int64_t stride, bool add, int8_t* scratch) {
  if (is_float(matrix))
    return kernels->float_products(&matrix, rows.x, rows.stride, count, first, last, out, stride,
                                   add, scratch);
  const Codes x = {activations.codes.data(), activations.scales.data(), activations.sums.data(), count,
                   activations.are_laid ? activations.laid.data() : nullptr};
  kernels->products(&matrix, x, first, last, out, stride, add, scratch);
}

void multiply(const auris_matrix& matrix, const Rows& rows, int64_t count, float* out, bool add,
              int threads) {
  lay(matrix, count, threads);
  const int64_t bytes_each = row_bytes(matrix) * (matrix.lower == nullptr ? 1 : 2);
  // Whole blocks, of which all but the first are fetched ahead.
  int64_t chunk = kRowBlock;
  while (chunk < kMostBlocks * kRowBlock && 8 * chunk * threads <= matrix.rows) chunk *= 2;
  if (count <= kSomeRows) {
    chunk = kChunkBytes / bytes_each;
    if (chunk > matrix.rows / (4 * threads)) chunk = matrix.rows / (4 * threads);
    if (chunk < 8) chunk = 8;
  }
  const int64_t chunks = (matrix.rows + chunk - 1) / chunk;
  const int64_t bytes = scratch_bytes(matrix);
  int8_t* room = scratch.of(bytes * threads);
  // Chunks that a thread takes one after the other mostly follow each other in memory, too: what is
  // fetched ahead at the end of one is what the thread needs next.
  const int64_t share = (chunks + threads - 1) / threads;
  Pool::instance().run(threads, share * threads, [&](int64_t index, int worker) {
    const int64_t first = (index % threads * share + index / threads) * chunk;
    if (first >= matrix.rows) return;
    const int64_t end = first + chunk < matrix.rows ? first + chunk : matrix.rows;
    multiply_rows(matrix, rows, count, static_cast<int>(first), static_cast<int>(end), out + first,
                  matrix.rows, add, room + bytes * worker);
  });
}

AURIS_API const char* auris_instructions() { return kernels->name; }

AURIS_API int32_t auris_use(const char* name) {
  bool has = false;
  call([&] {
    for (const Kernels* found :
         {amx_kernels(), avx512_kernels(), avx2_kernels(), neon_kernels(), portable_kernels()}) {
      if (found == nullptr || std::strcmp(found->name, name) != 0) continue;
      kernels = found;
      has = true;
    }
  });
  return has;
}

AURIS_API int32_t auris_products(const auris_matrix* matrix, const float* x, int64_t count,
                                 float* out, int32_t threads) {
  return call([&] {
    reserve(*matrix, count);
    each(threads, count, [&](int64_t i) { quantize(*matrix, count, i, x + i * matrix->width); });
    multiply(*matrix, {x, matrix->width}, count, out, false, threads);
  });
}
