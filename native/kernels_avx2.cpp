// AVX2: products of unsigned with signed bytes are summed in pairs in 16 bits. With the weights'
// sizes as the unsigned ones and their signs given to the activations, no pair passes
// 2 * 127 * 127, which fits.
#include "kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include "vectors.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif

namespace {
namespace avx2 {

constexpr char kName[] = "avx2";
constexpr int kBytes = 32, kOffset = 0, kTileRows = 2, kFloatRows = 1, kFloatColumns = 2;
typedef __m256i Sums;
typedef __m256i Weights;

#define PRIMITIVE static inline __attribute__((always_inline))

PRIMITIVE Sums zero() { return _mm256_setzero_si256(); }
PRIMITIVE Weights load_weights(const int8_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
PRIMITIVE Sums dot(Sums sums, Weights w, const int8_t* x) {
  const __m256i codes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
  const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(codes, w));
  return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
PRIMITIVE Sums plus(Sums a, Sums b) { return _mm256_add_epi32(a, b); }
PRIMITIVE int32_t total(Sums sums) {
  __m128i four =
      _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1));
  return _mm_cvtsi128_si32(four);
}
PRIMITIVE void totals(Sums a, Sums b, Sums c, Sums d, int32_t* out) {
  const __m256i all = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
  const __m128i four =
      _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), four);
}
PRIMITIVE v16 fma(v16 a, v16 b, v16 c) {
  typedef float v8 __attribute__((vector_size(32)));
  v8 x[2], y[2], z[2];
  __builtin_memcpy(x, &a, sizeof a);
  __builtin_memcpy(y, &b, sizeof b);
  __builtin_memcpy(z, &c, sizeof c);
  for (int i = 0; i < 2; ++i) z[i] = (v8)_mm256_fmadd_ps((__m256)x[i], (__m256)y[i], (__m256)z[i]);
  __builtin_memcpy(&c, z, sizeof c);
  return c;
}

PRIMITIVE v16 from_half(const uint16_t* p) {
  const __m256 x[2] = {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
                       _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8)))};
  v16 all;
  __builtin_memcpy(&all, x, sizeof all);
  return all;
}
PRIMITIVE void to_half(v16 x, uint16_t* p) {
  __m256 parts[2];
  __builtin_memcpy(parts, &x, sizeof x);
  for (int i = 0; i < 2; ++i)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 8 * i),
                     _mm256_cvtps_ph(parts[i], _MM_FROUND_TO_NEAREST_INT));
}

#include "expand.inc"
#include "kernels.inc"

}  // namespace avx2
}  // namespace

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

const Kernels* avx2_kernels() {
  __builtin_cpu_init();
  const bool able = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c");
  return able ? &avx2::kKernels : nullptr;
}

#else

const Kernels* avx2_kernels() { return nullptr; }

#endif
