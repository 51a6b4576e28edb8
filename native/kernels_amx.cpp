// AVX-512 with VNNI, and AMX for products of integers with several activations: an instruction
// multiplies a tile of 16 rows of 64 weights, as they lie in memory, with one of 64 numbers of 16
// activations.
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
    __m512i rows[kSide], turned[kSide];
    for (int i = 0; i < kSide; ++i)
      rows[i] = i < count ? _mm512_loadu_si512(codes + i * stride + k) : _mm512_setzero_si512();
    transpose_words(rows, turned);
    for (int i = 0; i < kSide; ++i) _mm512_storeu_si512(out + kDepth * i, turned[i]);
  }
}

// Memory that is read after this, a part at a time.
struct Ahead {
  const int8_t *place, *end, *lower;  // lower: of the lower halves, or null.

  inline __attribute__((always_inline)) void fetch(int lines) {
    for (int i = 0; i < lines && place < end; ++i, place += 64) {
      __builtin_prefetch(place, 0, 2);
      if (lower != nullptr) __builtin_prefetch(lower, 0, 2), lower += 64;
    }
  }
};

struct Target {
  const auris_matrix* matrix;
  const Codes* x;
  float* out;
  int64_t stride;
  int first;  // The output row that `out` begins with.
  bool add;

  // Fetches what is going to be overwritten by 32 rows of weights for some activations.
  void fetch(int n, int64_t row, int64_t end) const {
    for (; row < end && row < x->count; ++row) {
      float* place = out + row * stride + n - first;
      __builtin_prefetch(place, 1, 2);
      __builtin_prefetch(place + kSide, 1, 2);
    }
  }

  // The sums of 16 rows of weights from n on, of which `width` are wanted, for 16 activations.
  void put(const int32_t* sums, int n, int width, int64_t row) const {
    __m512i rows[kSide], dots[kSide];
    for (int i = 0; i < kSide; ++i) rows[i] = _mm512_load_si512(sums + kSide * i);
    transpose_words(rows, dots);
    const __mmask16 wanted = static_cast<__mmask16>((1u << width) - 1u);
    const __m512 scales = _mm512_maskz_loadu_ps(wanted, matrix->scale + n);
    const int64_t held = x->count - row < kSide ? x->count - row : kSide;  // None of a missing half.
    float* place = out + row * stride + n - first;
    for (int i = 0; i < held; ++i, place += stride) {
      const __m512 scale = _mm512_mul_ps(_mm512_set1_ps(x->scales[row + i]), scales);
      __m512 value = _mm512_mul_ps(_mm512_cvtepi32_ps(dots[i]), scale);
      if (add) value = _mm512_add_ps(_mm512_maskz_loadu_ps(wanted, place), value);
      _mm512_mask_storeu_ps(place, wanted, value);
    }
  }
};

// The sums of 32 rows of weights from n on, of which `width` are wanted, for up to 32 activations from
// `row` on, until they are put in their place: that is done bit by bit between the products that come
// next, whose instructions take other parts of the processor.
struct Pending {
  alignas(64) int32_t sums[4][kSide * kSide];
  int n, width, tiles = 0, next = 0;
  int64_t row;

  // Puts tiles up to, but without, `end`.
  void put(int end, const Target& target) {
    for (; next < end && next < tiles; ++next) {
      const int right = next % 2, left = width - kSide * (next / 2);
      if (left > 0)
        target.put(sums[next], n + kSide * (next / 2), left < kSide ? left : kSide, row + kSide * right);
    }
  }
};

// Products of some rows of weights with all activations. 32 rows are multiplied with 32 activations at a
// time: four tiles of sums.
class Product {
 public:
  Product(const Target& target, int8_t* scratch)
      : target_(target),
        matrix_(*target.matrix),
        blocks_((target.x->count + kSide - 1) / kSide),
        scratch_(scratch) {}

  void run(int first, int last) {
    for (int n = first; n < last; n += kRowBlock) {
      const int width = last - n < kRowBlock ? last - n : kRowBlock;
      fetch_after(n + width);
      int64_t stride;
      const int8_t* weights = bytes_of(n, width, &stride);
      for (int64_t block = 0; block < blocks_; block += 2, current_ ^= 1) {
        multiply(weights, stride, n, block);
        Pending& now = pending_[current_];
        now.n = n, now.width = width, now.row = block * kSide, now.next = 0, now.tiles = 4;
      }
    }
    pending_[current_ ^ 1].put(4, target_);
  }

 private:
  // 32 rows of weights, `stride` bytes apart, times the activations of two blocks, or of the last one.
  void multiply(const int8_t* weights, int64_t stride, int n, int64_t block) {
    const int steps = matrix_.columns / kDepth;
    const bool pair = block + 1 < blocks_;
    const int8_t* below = weights + kSide * stride;
    const int8_t* x = target_.x->laid + block * kSide * matrix_.columns;
    const int8_t* next = pair ? x + kSide * matrix_.columns : x;
    Pending &before = pending_[current_ ^ 1], &now = pending_[current_];
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int step = 0; step < steps; ++step) {
      _tile_loadd(4, weights + step * kDepth, stride);
      _tile_loadd(6, x + step * kTile, kDepth);
      _tile_dpbssd(0, 4, 6);
      _tile_loadd(5, below + step * kDepth, stride);
      _tile_dpbssd(2, 5, 6);
      if (pair) {
        _tile_loadd(7, next + step * kTile, kDepth);
        _tile_dpbssd(1, 4, 7);
        _tile_dpbssd(3, 5, 7);
      }
      ahead_.fetch(lines_);
      target_.fetch(n, block * kSide + 2 * kSide * step / steps, block * kSide + 2 * kSide * (step + 1) / steps);
      before.put(4 * (step + 1) / steps, target_);
    }
    _tile_stored(0, now.sums[0], kDepth);
    _tile_stored(1, now.sums[1], kDepth);
    _tile_stored(2, now.sums[2], kDepth);
    _tile_stored(3, now.sums[3], kDepth);
  }

  // The rows of weights from n on are fetched during the products that come next, evenly.
  void fetch_after(int n) {
    const int64_t bytes = row_bytes(matrix_);
    const int end = n + kRowBlock < matrix_.rows ? n + kRowBlock : matrix_.rows;
    const auto* codes = static_cast<const int8_t*>(matrix_.codes);
    const auto* lower = reinterpret_cast<const int8_t*>(matrix_.lower);
    ahead_ = {codes + n * bytes, codes + end * bytes, lower == nullptr ? nullptr : lower + n * bytes};
    const int64_t pairs = (blocks_ + 1) / 2;
    lines_ = static_cast<int>((kRowBlock * bytes / matrix_.columns + pairs - 1) / pairs);
  }

  // 32 rows of weights from n on as bytes, and how far apart: where they lie, or in scratch.
  const int8_t* bytes_of(int n, int width, int64_t* stride) const {
    if (is_plain(matrix_) && width == kRowBlock) {
      *stride = matrix_.columns;
      return static_cast<const int8_t*>(matrix_.codes) + int64_t{n} * matrix_.columns;
    }
    *stride = padded(matrix_.columns);
    for (int c = 0; c < width; ++c) avx512->unpack(&matrix_, n + c, scratch_ + c * *stride);
    return scratch_;
  }

  const Target& target_;
  const auris_matrix& matrix_;
  const int64_t blocks_;
  int8_t* scratch_;
  Ahead ahead_ = {};
  int lines_ = 0, current_ = 0;
  Pending pending_[2];
};

void products(const auris_matrix* matrix, const Codes& x, int first, int last, float* out,
              int64_t stride, bool add, int8_t* scratch) {
  if (x.laid == nullptr)
    return avx512->products(matrix, x, first, last, out, stride, add, scratch);
  configure();
  Product({matrix, &x, out, stride, first, add}, scratch).run(first, last);
  _tile_release();
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
