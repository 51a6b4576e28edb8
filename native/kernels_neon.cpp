// NEON, with the dot product instructions of ARMv8.2.
#include "kernels.h"

#if defined(__aarch64__) && !defined(_MSC_VER)

#include <arm_neon.h>
#if defined(__linux__)
#include <sys/auxv.h>
#endif

#include "vectors.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif

namespace {
namespace neon {

constexpr char kName[] = "neon";
constexpr int kBytes = 16, kOffset = 0, kTileRows = 4, kStepBlock = 8;
constexpr int kFetchTo = 3;
constexpr bool kInPlace = false;
constexpr int kFloatRows = 3, kFloatColumns = 2, kFloatSums = 24, kManyRows = 0;
constexpr int kScoreQueries = 4, kMixSums = 4;
typedef int32x4_t Sums;
typedef int8x16_t Weights;
#define AURIS_PARTS
typedef float Part __attribute__((vector_size(16)));
typedef float PartInMemory __attribute__((vector_size(16), aligned(4), may_alias));

#define PRIMITIVE static inline __attribute__((always_inline))

PRIMITIVE Sums zero() { return vdupq_n_s32(0); }
PRIMITIVE Weights load_weights(const int8_t* p) { return vld1q_s8(p); }
PRIMITIVE Sums dot(Sums sums, Weights w, const int8_t* x) {
#if defined(__clang__) && __clang_major__ < 17 && !defined(__ARM_FEATURE_DOTPROD)
  // Headers of this clang declare the intrinsic only where the whole file is for such processors.
  const int8x16_t values = vld1q_s8(x);
  __asm__("sdot %0.4s, %1.16b, %2.16b" : "+w"(sums) : "w"(w), "w"(values));
  return sums;
#else
  return vdotq_s32(sums, w, vld1q_s8(x));
#endif
}
PRIMITIVE Sums plus(Sums a, Sums b) { return vaddq_s32(a, b); }
PRIMITIVE int32_t total(Sums sums) { return vaddvq_s32(sums); }
PRIMITIVE void totals(Sums a, Sums b, Sums c, Sums d, int32_t* out) {
  vst1q_s32(out, vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d)));
}
PRIMITIVE Part fma(Part a, Part b, Part c) {
  return (Part)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
PRIMITIVE Part held(Part x) { return x; }
PRIMITIVE v16 whole(const Part* parts) {
  v16 all;
  __builtin_memcpy(&all, parts, sizeof all);
  return all;
}
PRIMITIVE v16 fma(v16 a, v16 b, v16 c) {
  Part x[4], y[4], z[4];
  __builtin_memcpy(x, &a, sizeof a);
  __builtin_memcpy(y, &b, sizeof b);
  __builtin_memcpy(z, &c, sizeof c);
  for (int i = 0; i < 4; ++i) z[i] = fma(x[i], y[i], z[i]);
  return whole(z);
}

PRIMITIVE Part part_of_bfloat16(const uint16_t* p) {
  return (Part)vshll_n_u16(vld1_u16(p), 16);
}
PRIMITIVE Part part_of_half(const uint16_t* p) {
  return (Part)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
PRIMITIVE v16 from_half(const uint16_t* p) {
  Part x[4];
  for (int i = 0; i < 4; ++i) x[i] = part_of_half(p + 4 * i);
  return whole(x);
}
PRIMITIVE void to_half(v16 x, uint16_t* p) {
  float32x4_t parts[4];
  __builtin_memcpy(parts, &x, sizeof x);
  for (int i = 0; i < 4; ++i) vst1_u16(p + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(parts[i])));
}

// The same order of sums as that of lanes.inc.
PRIMITIVE float32x4_t folded(Part a, Part b) {
  const float32x4_t x = (float32x4_t)a, y = (float32x4_t)b;
  return vcombine_f32(vadd_f32(vget_low_f32(x), vget_high_f32(x)),
                      vadd_f32(vget_low_f32(y), vget_high_f32(y)));
}
PRIMITIVE void sum_four(v16 a, v16 b, v16 c, v16 d, float* out) {
  Part x[4][4];
  float32x4_t all[4];
  __builtin_memcpy(x[0], &a, sizeof a);
  __builtin_memcpy(x[1], &b, sizeof b);
  __builtin_memcpy(x[2], &c, sizeof c);
  __builtin_memcpy(x[3], &d, sizeof d);
  for (int i = 0; i < 4; ++i)
    all[i] = vpaddq_f32(folded(x[0][i], x[1][i]), folded(x[2][i], x[3][i]));
  vst1q_f32(out, vaddq_f32(vaddq_f32(all[0], all[2]), vaddq_f32(all[1], all[3])));
}

#include "expand.inc"
#include "kernels.inc"

}  // namespace neon
}  // namespace

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

const Kernels* neon_kernels() {
#if defined(__linux__)
  constexpr unsigned long kDotProducts = 1ul << 20;  // HWCAP_ASIMDDP
  if ((getauxval(AT_HWCAP) & kDotProducts) == 0) return nullptr;
#elif !defined(__APPLE__)
  return nullptr;
#endif
  return &neon::kKernels;
}

#else

const Kernels* neon_kernels() { return nullptr; }

#endif
