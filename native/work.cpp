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
  const int64_t blocks = (count + kLaid - 1) / kLaid;
  int8_t* laid = activations.laid.of(blocks * kLaid * matrix.columns);
  Pool::instance().run(blocks > 2 ? threads : 1, blocks, [&](int64_t block, int) {
    lay_block(activations.codes.data(), count, matrix.columns, block, laid);
  });
}

static Codes codes_of(int64_t count) {
  return {activations.codes.data(), activations.scales.data(), activations.sums.data(), count,
          activations.are_laid ? activations.laid.data() : nullptr};
}

void multiply_rows(const auris_matrix& matrix, const Rows& rows, int64_t count, int first, int last,
                   float* out, int64_t stride, bool add, int8_t* scratch) {
  if (is_float(matrix))
    return kernels->float_products(&matrix, rows.x, rows.stride, count, first, last, out, stride,
                                   add, scratch);
  kernels->products(&matrix, codes_of(count), first, last, out, stride, add, scratch);
}

// Calls work(first, last, scratch) for chunks of rows. Those that a thread takes one after the other
// mostly follow each other in memory, too: what is fetched ahead at the end of one is what the thread
// needs next.
template <typename Work>
static void each_chunk(const auris_matrix& matrix, int64_t rows, int64_t chunk, int threads,
                       const Work& work) {
  const int64_t chunks = (rows + chunk - 1) / chunk, bytes = scratch_bytes(matrix);
  if (threads > chunks) threads = static_cast<int>(chunks);
  if (threads < 1) return;
  int8_t* room = scratch.of(bytes * threads);
  const int64_t share = (chunks + threads - 1) / threads;
  Pool::instance().run(threads, share * threads, [&](int64_t index, int worker) {
    const int64_t first = (index % threads * share + index / threads) * chunk;
    if (first >= rows) return;
    const int64_t last = first + chunk < rows ? first + chunk : rows;
    work(static_cast<int>(first), static_cast<int>(last), room + bytes * worker);
  });
}

// Whole blocks of rows for a thread, of which all but the first are fetched ahead.
static int64_t large_chunk(int64_t rows, int threads) {
  int64_t chunk = kRowBlock;
  while (chunk < kMostBlocks * kRowBlock && 8 * chunk * threads <= rows) chunk *= 2;
  return chunk;
}

void multiply(const auris_matrix& matrix, const Rows& rows, int64_t count, float* out, bool add,
              int threads) {
  lay(matrix, count, threads);
  int64_t chunk = large_chunk(matrix.rows, threads);
  if (count <= kSomeRows) {
    const int64_t bytes_each = row_bytes(matrix) * (matrix.lower == nullptr ? 1 : 2);
    chunk = kChunkBytes / bytes_each;
    if (chunk > matrix.rows / (4 * threads)) chunk = matrix.rows / (4 * threads);
    if (chunk < 8) chunk = 8;
    if (activations.are_laid) chunk = (chunk + kRowBlock - 1) / kRowBlock * kRowBlock;
  }
  each_chunk(matrix, matrix.rows, chunk, threads, [&](int first, int last, int8_t* room) {
    multiply_rows(matrix, rows, count, first, last, out + first, matrix.rows, add, room);
  });
}

bool multiply_gated(const auris_matrix& matrix, int64_t count, float* out, int threads) {
  if (kernels->gated_products == nullptr || is_float(matrix) || !is_laid(count)) return false;
  lay(matrix, count, threads);
  const int64_t half = matrix.rows / 2;
  each_chunk(matrix, half, large_chunk(half, threads), threads, [&](int first, int last, int8_t* room) {
    kernels->gated_products(&matrix, codes_of(count), first, last, out + first, matrix.rows, room);
  });
  return true;
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
