// No instructions in particular.
#include "kernels.h"

#include "vectors.h"

namespace {
namespace portable {

constexpr char kName[] = "portable";
constexpr int kBytes = 64, kOffset = 0, kTileRows = 2, kStepBlock = 8;
constexpr int kFetchTo = 3;
constexpr bool kInPlace = false;
constexpr int kFloatRows = 1, kFloatColumns = 2, kFloatSums = 24, kManyRows = 0;
constexpr int kScoreQueries = 4, kMixSums = 16;
typedef int32_t Sums;
typedef const int8_t* Weights;

#define PRIMITIVE static inline __attribute__((always_inline))

PRIMITIVE Sums zero() { return 0; }
PRIMITIVE Weights load_weights(const int8_t* p) { return p; }
PRIMITIVE Sums dot(Sums sum, Weights w, const int8_t* x) {
  for (int i = 0; i < kBytes; ++i) sum += static_cast<int16_t>(w[i]) * static_cast<int16_t>(x[i]);
  return sum;
}
PRIMITIVE Sums plus(Sums a, Sums b) { return a + b; }
PRIMITIVE int32_t total(Sums sum) { return sum; }
PRIMITIVE void totals(Sums a, Sums b, Sums c, Sums d, int32_t* out) {
  out[0] = a, out[1] = b, out[2] = c, out[3] = d;
}
PRIMITIVE v16 fma(v16 a, v16 b, v16 c) { return a * b + c; }

// 2^112 is between the offsets of the exponents of float16 and float32.
PRIMITIVE v16 from_half(const uint16_t* p) {
  v16 x;
  for (int i = 0; i < 16; ++i) {
    const uint32_t size = p[i] & 0x7fffu, sign = static_cast<uint32_t>(p[i] & 0x8000u) << 16;
    uint32_t bits = size << 13;
    float value;
    __builtin_memcpy(&value, &bits, sizeof value);
    value *= 0x1p112f;
    __builtin_memcpy(&bits, &value, sizeof bits);
    if (size >= 0x7c00u) bits = (size << 13) | 0x7f800000u;  // Infinite, or no number.
    bits |= sign;
    __builtin_memcpy(&value, &bits, sizeof value);
    x[i] = value;
  }
  return x;
}
PRIMITIVE void to_half(v16 x, uint16_t* p) {
  for (int i = 0; i < 16; ++i) {
    const float value = x[i];
    uint32_t bits;
    __builtin_memcpy(&bits, &value, sizeof bits);
    const uint32_t sign = (bits >> 16) & 0x8000u, size = bits & 0x7fffffffu;
    uint32_t half;
    if (size > 0x7f800000u) {
      half = 0x7e00u;
    } else if (size >= 0x477ff000u) {  // 65520, half of a step above the largest one.
      half = 0x7c00u;
    } else if (size < 0x38800000u) {  // Below 2^-14 numbers have equal steps, of 2^-24.
      float small;
      __builtin_memcpy(&small, &size, sizeof small);
      small += 0.5f;  // Rounds to a step.
      __builtin_memcpy(&half, &small, sizeof half);
      half -= 0x3f000000u;
    } else {
      const uint32_t rounded = size - 0x38000000u + 0xfffu + ((size >> 13) & 1u);
      half = rounded >> 13;
    }
    p[i] = static_cast<uint16_t>(half | sign);
  }
}

#include "expand.inc"
#include "kernels.inc"

}  // namespace portable
}  // namespace

const Kernels* portable_kernels() { return &portable::kKernels; }
