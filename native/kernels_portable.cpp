// No instructions in particular.
#include "kernels.h"

#include "vectors.h"

namespace {
namespace portable {

constexpr char kName[] = "portable";
constexpr int kBytes = 64, kOffset = 0, kTileRows = 2;
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

#include "expand.inc"
#include "kernels.inc"

}  // namespace portable
}  // namespace

const Kernels* portable_kernels() { return &portable::kKernels; }
