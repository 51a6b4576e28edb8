// AVX-512 with VNNI, and AMX for products of integers with several activations: an instruction
// multiplies a tile of 16 rows of 64 weights with one of 64 numbers of 16 activations. 8-bit weights are
// multiplied where they lie, others are unpacked first.
#include "kernels.h"

#if defined(__x86_64__) && defined(__linux__) && (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)

#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,prfchw,amx-tile,amx-int8"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,prfchw,amx-tile,amx-int8")
#endif

namespace {
namespace amx {

constexpr int kSide = 16;   // Rows of a tile, and activations.
constexpr int kDepth = 64;  // Bytes of its rows: columns of weights.
constexpr int kTile = kSide * kDepth;
static_assert(kSide == kLaid && 2 * kSide == kRowBlock, "two tiles of weights are a block of rows");

const Kernels* avx512 = nullptr;  // What everything else is computed by.

#include "transpose.inc"

// Eight tiles of 16 rows of 64 bytes, for this thread.
void configure() {
  struct alignas(64) {
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t bytes[16] = {};
    uint8_t rows[16] = {};
  } tiles;
  for (int tile = 0; tile < 8; ++tile) tiles.bytes[tile] = kDepth, tiles.rows[tile] = kSide;
  __asm__ volatile("" : : "r"(&tiles) : "memory");  // GCC takes only the first bytes for read.
  _tile_loadconfig(&tiles);
}

void lay(const int8_t* codes, int count, int columns, int8_t* out) {
  const int64_t stride = padded(columns);
  for (int k = 0; k < columns; k += kDepth, out += kTile) {
    __m512i rows[kSide], transposed[kSide];
    for (int i = 0; i < kSide; ++i)
      rows[i] = i < count ? _mm512_loadu_si512(codes + i * stride + k) : _mm512_setzero_si512();
    transpose_words(rows, transposed);
    for (int i = 0; i < kSide; ++i) _mm512_storeu_si512(out + kDepth * i, transposed[i]);
  }
}

// Where products go.
struct Target {
  const auris_matrix* matrix;
  const Codes* x;
  float* out;
  int64_t stride;
  int first;  // The output row that `out` begins with.
  bool add, gated;

  // Fetches what is going to be overwritten by 32 rows of weights for some activations.
  void fetch(int n, int64_t row, int64_t end) const {
    for (; row < end && row < x->count; ++row) {
      float* place = out + row * stride + n - first;
      __builtin_prefetch(place, 1, 2);
      if (!gated) __builtin_prefetch(place + kSide, 1, 2);
    }
  }

  // The sums of 16 rows of weights from n on, of which those in `wanted` exist, for 16 activations, as
  // numbers: values [activations, rows].
  void scale(const int32_t* sums, int n, __mmask16 wanted, int64_t row, __m512* values) const {
    __m512i rows[kSide], dots[kSide];
    for (int i = 0; i < kSide; ++i) rows[i] = _mm512_load_si512(sums + kSide * i);
    transpose_words(rows, dots);
    const __m512 scales = _mm512_maskz_loadu_ps(wanted, matrix->scale + n);
    for (int i = 0; i < kSide && row + i < x->count; ++i)
      values[i] = _mm512_mul_ps(_mm512_cvtepi32_ps(dots[i]),
                                _mm512_mul_ps(_mm512_set1_ps(x->scales[row + i]), scales));
  }

  // The same, put in their place, of `width` rows.
  void put(const int32_t* sums, int n, int width, int64_t row) const {
    const __mmask16 wanted = static_cast<__mmask16>((1u << width) - 1u);
    __m512 values[kSide];
    scale(sums, n, wanted, row, values);
    float* place = out + row * stride + n - first;
    for (int i = 0; i < kSide && row + i < x->count; ++i, place += stride) {
      const __m512 before = add ? _mm512_maskz_loadu_ps(wanted, place) : _mm512_setzero_ps();
      _mm512_mask_storeu_ps(place, wanted, add ? _mm512_add_ps(before, values[i]) : values[i]);
    }
  }

  // silu of the first sums times the second ones.
  void put_gated(const int32_t* gates, const int32_t* ups, int n, int width, int64_t row) const {
    const __mmask16 wanted = static_cast<__mmask16>((1u << width) - 1u);
    __m512 values[kSide] = {}, factors[kSide] = {};
    scale(gates, n, wanted, row, values);
    scale(ups, n + matrix->rows / 2, wanted, row, factors);
    avx512->swiglu(reinterpret_cast<float*>(values), reinterpret_cast<float*>(factors), kSide * kSide);
    float* place = out + row * stride + n - first;
    for (int i = 0; i < kSide && row + i < x->count; ++i, place += stride)
      _mm512_mask_storeu_ps(place, wanted, values[i]);
  }
};

// The sums of two times 16 rows of weights for two times 16 activations, until they are put in their
// place: that is done a part at a time between the products that come next, whose instructions take
// other parts of the processor. `rows`: where the 16 rows begin, and how many of them are wanted.
struct Pending {
  alignas(64) int32_t sums[4][kSide * kSide];
  int rows[2], widths[2], next = 4;
  int64_t row;

  // Puts tiles up to, but without, `end`.
  void put(int end, const Target& target) {
    for (; next < end; ++next) {
      const int lower = next / 2;
      const int64_t place = row + kSide * (next % 2);
      if (!target.gated && widths[lower] > 0)
        target.put(sums[next], rows[lower], widths[lower], place);
      if (target.gated && lower == 1)
        target.put_gated(sums[next - 2], sums[next], rows[0], widths[0], place);
    }
  }
};

// Products of some rows of weights with all activations: two times 16 rows, which follow each other or
// are gates and what they multiply, are multiplied with two times 16 activations at a time.
class Product {
 public:
  Product(const Target& target, int8_t* scratch)
      : target_(target),
        matrix_(*target.matrix),
        blocks_((target.x->count + kSide - 1) / kSide),
        scratch_(scratch) {}

  void run(int first, int last) {
    const int block = target_.gated ? kSide : kRowBlock;
    for (int n = first; n < last; n += block) {
      const int width = last - n < block ? last - n : block;
      const int rows[2] = {n, n + (target_.gated ? matrix_.rows / 2 : kSide)};
      const int upper = width < kSide ? width : kSide;
      const int widths[2] = {upper, target_.gated ? upper : width - upper};
      fetch_after(n + width, rows[1] - n);
      for (int half = 0; half < 2; ++half) find(half, rows[half], widths[half]);
      for (int64_t pair = 0; pair < blocks_; pair += 2, current_ ^= 1) {
        multiply(n, pair);
        Pending& now = pending_[current_];
        for (int half = 0; half < 2; ++half) now.rows[half] = rows[half], now.widths[half] = widths[half];
        now.row = pair * kSide;
        now.next = 0;
      }
    }
    pending_[current_ ^ 1].put(4, target_);
  }

 private:
  // The weights that were found, times the activations of two blocks, or of the last one.
  void multiply(int n, int64_t block) {
    const int steps = matrix_.columns / kDepth;
    const bool pair = block + 1 < blocks_;
    const int8_t *upper = weights_[0], *lower = weights_[1];
    const int64_t upper_stride = strides_[0], lower_stride = strides_[1];
    const int8_t* x = target_.x->laid + block * kSide * matrix_.columns;
    const int8_t* next = pair ? x + kSide * matrix_.columns : x;
    Pending &before = pending_[current_ ^ 1], &now = pending_[current_];
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int step = 0; step < steps; ++step) {
      _tile_loadd(4, upper + step * kDepth, upper_stride);
      _tile_loadd(6, x + step * kTile, kDepth);
      _tile_dpbssd(0, 4, 6);
      _tile_loadd(5, lower + step * kDepth, lower_stride);
      _tile_dpbssd(2, 5, 6);
      if (pair) {
        _tile_loadd(7, next + step * kTile, kDepth);
        _tile_dpbssd(1, 4, 7);
        _tile_dpbssd(3, 5, 7);
      }
      ahead_.fetch(lines_);
      const int64_t row = block * kSide;
      target_.fetch(n, row + 2 * kSide * step / steps, row + 2 * kSide * (step + 1) / steps);
      before.put(4 * (step + 1) / steps, target_);
    }
    _tile_stored(0, now.sums[0], kDepth);
    _tile_stored(1, now.sums[1], kDepth);
    _tile_stored(2, now.sums[2], kDepth);
    _tile_stored(3, now.sums[3], kDepth);
  }

  // The rows of weights from n on and, where gated, those `apart` rows further are fetched evenly during
  // the next products.
  void fetch_after(int n, int apart) {
    const int64_t bytes = row_bytes(matrix_), pairs = (blocks_ + 1) / 2;
    const int count = target_.gated ? kSide : kRowBlock;
    const int rows = target_.gated ? matrix_.rows / 2 : matrix_.rows;
    const int end = n + count < rows ? n + count : rows;
    ahead_ = Ahead::rows(matrix_, n, end);
    if (target_.gated) ahead_.second = ahead_.place + apart * bytes;
    lines_ = static_cast<int>((count * bytes / matrix_.columns + pairs - 1) / pairs);
  }

  // 16 rows of weights from n on as bytes, and how far apart: where they lie, or in scratch.
  void find(int half, int n, int width) {
    if (is_plain(matrix_) && width == kSide) {
      strides_[half] = matrix_.columns;
      weights_[half] = static_cast<const int8_t*>(matrix_.codes) + int64_t{n} * matrix_.columns;
      return;
    }
    strides_[half] = padded(matrix_.columns);
    int8_t* room = scratch_ + half * kSide * strides_[half];
    for (int c = 0; c < width; ++c) avx512->unpack(&matrix_, n + c, room + c * strides_[half]);
    weights_[half] = room;
  }

  const Target& target_;
  const auris_matrix& matrix_;
  const int64_t blocks_;
  int8_t* scratch_;
  const int8_t* weights_[2] = {};
  int64_t strides_[2] = {};
  Ahead ahead_ = {};
  int lines_ = 0, current_ = 0;
  Pending pending_[2];
};

void multiply(const Target& target, int last, int8_t* scratch) {
  configure();
  Product(target, scratch).run(target.first, last);
  _tile_release();
}

void products(const auris_matrix* matrix, const Codes& x, int first, int last, float* out,
              int64_t stride, bool add, int8_t* scratch) {
  if (x.laid == nullptr)
    return avx512->products(matrix, x, first, last, out, stride, add, scratch);
  multiply({matrix, &x, out, stride, first, add, false}, last, scratch);
}

void gated_products(const auris_matrix* matrix, const Codes& x, int first, int last, float* out,
                    int64_t stride, int8_t* scratch) {
  multiply({matrix, &x, out, stride, first, false, true}, last, scratch);
}

// Whether the processor has tiles of integers, and the system keeps them for each thread.
bool able() {
  constexpr unsigned kTileBit = 1u << 24, kIntegerBit = 1u << 25;  // Of EDX in leaf 7.
  constexpr long kAskPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XTILEDATA
  unsigned a, b, c, d;
  if (avx512 == nullptr || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  if ((d & kTileBit) == 0 || (d & kIntegerBit) == 0) return false;
  return syscall(SYS_arch_prctl, kAskPermission, kTileData) == 0;
}

const Kernels* kernels() {
  static const Kernels* const table = [] {
    static Kernels with_tiles;
    avx512 = avx512_kernels();
    if (!able()) return static_cast<const Kernels*>(nullptr);
    with_tiles = *avx512;
    with_tiles.name = "amx";
    with_tiles.products = products;
    with_tiles.gated_products = gated_products;
    with_tiles.lay = lay;
    return static_cast<const Kernels*>(&with_tiles);
  }();
  return table;
}

}  // namespace amx
}  // namespace

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

const Kernels* amx_kernels() { return amx::kernels(); }

#else

const Kernels* amx_kernels() { return nullptr; }

#endif
