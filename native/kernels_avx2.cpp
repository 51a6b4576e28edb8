// AVX2: products of unsigned with signed bytes are summed in pairs in 16 bits. With the weights'
// sizes as the unsigned ones and their signs given to the activations, no pair passes
// 2 * 127 * 127, which fits.
#include "kernels.h"

#if defined(__x86_64__)

#include <cpuid.h>
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
constexpr int kBytes = 32, kOffset = 0, kTileRows = 6, kStepBlock = 16;
constexpr int kFetchTo = 3;
constexpr bool kInPlace = true;
constexpr int kFloatRows = 4, kFloatColumns = 2, kFloatSums = 12, kManyRows = 8;
constexpr int kScoreQueries = 2, kMixSums = 4;
typedef __m256i Sums;
typedef __m256i Weights;
#define AURIS_PARTS
typedef float Part __attribute__((vector_size(32)));
typedef float PartInMemory __attribute__((vector_size(32), aligned(4), may_alias));

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

PRIMITIVE Part fma(Part a, Part b, Part c) {
  return (Part)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
// In a register: what several instructions use is loaded once.
PRIMITIVE Part held(Part x) {
  __asm__("" : "+x"(x));
  return x;
}
PRIMITIVE v16 whole(const Part* parts) {
  v16 all;
  __builtin_memcpy(&all, parts, sizeof all);
  return all;
}
PRIMITIVE v16 fma(v16 a, v16 b, v16 c) {
  Part x[2], y[2], z[2];
  __builtin_memcpy(x, &a, sizeof a);
  __builtin_memcpy(y, &b, sizeof b);
  __builtin_memcpy(z, &c, sizeof c);
  for (int i = 0; i < 2; ++i) z[i] = fma(x[i], y[i], z[i]);
  return whole(z);
}

PRIMITIVE Part part_of_bfloat16(const uint16_t* p) {
  const __m128i numbers = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return (Part)_mm256_slli_epi32(_mm256_cvtepu16_epi32(numbers), 16);
}
PRIMITIVE Part part_of_half(const uint16_t* p) {
  return (Part)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
PRIMITIVE v16 from_bfloat16(const uint16_t* p) {
  const Part parts[2] = {part_of_bfloat16(p), part_of_bfloat16(p + 8)};
  return whole(parts);
}
PRIMITIVE v16 from_half(const uint16_t* p) {
  const Part parts[2] = {part_of_half(p), part_of_half(p + 8)};
  return whole(parts);
}
PRIMITIVE void to_half(v16 x, uint16_t* p) {
  __m256 parts[2];
  __builtin_memcpy(parts, &x, sizeof x);
  for (int i = 0; i < 2; ++i)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 8 * i),
                     _mm256_cvtps_ph(parts[i], _MM_FROUND_TO_NEAREST_INT));
}

// The same order of sums as that of lanes.inc.
PRIMITIVE void sum_four(v16 a, v16 b, v16 c, v16 d, float* out) {
  __m256 x[4][2], all[2];
  __builtin_memcpy(x[0], &a, sizeof a);
  __builtin_memcpy(x[1], &b, sizeof b);
  __builtin_memcpy(x[2], &c, sizeof c);
  __builtin_memcpy(x[3], &d, sizeof d);
  for (int i = 0; i < 2; ++i) {
    const __m256 ab = _mm256_add_ps(_mm256_unpacklo_ps(x[0][i], x[1][i]),
                                    _mm256_unpackhi_ps(x[0][i], x[1][i]));
    const __m256 cd = _mm256_add_ps(_mm256_unpacklo_ps(x[2][i], x[3][i]),
                                    _mm256_unpackhi_ps(x[2][i], x[3][i]));
    all[i] = _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));
  }
  const __m256 half = _mm256_add_ps(all[0], all[1]);
  _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
}

// 16-bit products of 16 weights with as many activations, summed in pairs.
#define AURIS_WIDE_CODES
PRIMITIVE __m256i widened(const int8_t* p) {
  return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
PRIMITIVE void widen_codes(const int8_t* codes, int columns, int16_t* out) {
  for (int k = 0; k < columns; k += 16)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + k), widened(codes + k));
}
// In assembly, since GCC multiplies first and moves the sums through memory.
PRIMITIVE Sums wide_dot(Sums sums, __m256i w, const int16_t* x) {
  __m256i products;
  __asm__("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0"
          : "+x"(sums), "=&x"(products)
          : "x"(w), "m"(*reinterpret_cast<const __m256i_u*>(x)));
  return sums;
}

// 128 half bytes: the lower ones of 64 bytes, then the upper ones.
PRIMITIVE void split(const uint8_t* codes, __m256i* halves) {
  const __m256i low = _mm256_set1_epi8(15);
  for (int i = 0; i < 2; ++i) {
    const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes) + i);
    halves[i] = _mm256_and_si256(both, low);
    halves[2 + i] = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);
  }
}

// Half bytes are unsigned as they are, and the sums of eight products fit into 16 bits.
PRIMITIVE Sums half_dots(Sums sums, const uint8_t* halves, const int8_t* x) {
  __m256i some[4], pairs[4];
  split(halves, some);
  for (int i = 0; i < 4; ++i)
    pairs[i] = _mm256_maddubs_epi16(
        some[i], _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x) + i));
  const __m256i all = _mm256_add_epi16(_mm256_add_epi16(pairs[0], pairs[1]),
                                       _mm256_add_epi16(pairs[2], pairs[3]));
  return _mm256_add_epi32(sums, _mm256_madd_epi16(all, _mm256_set1_epi16(1)));
}

// What steps make of the codes.
struct Steps {
  int8_t weights[256][16];

  constexpr Steps() : weights() {
    for (int step = 0; step < 256; ++step)
      for (int code = 0; code < 16; ++code)
        weights[step][code] = static_cast<int8_t>((code - 8) * step);
  }
};
constexpr Steps kSteps;

PRIMITIVE void expand(const uint8_t* codes, const uint8_t* steps, int columns, int group,
                      int8_t* out) {
  const int shift = __builtin_ctz(group);  // A division would take longer than all the rest.
  for (int k = 0; k < columns; k += 128) {
    __m256i halves[4];
    split(codes + k / 2, halves);
    for (int i = 0; i < 4; ++i) {
      const int8_t* weights = kSteps.weights[steps[(k + 32 * i) >> shift]];
      const __m256i table = _mm256_broadcastsi128_si256(
          _mm_loadu_si128(reinterpret_cast<const __m128i*>(weights)));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + k + 32 * i),
                          _mm256_shuffle_epi8(table, halves[i]));
    }
  }
}

// Steps multiply pairs of products, which fit into 16 bits. Codes are multiplied as they are stored,
// plus 8; what that adds is taken off for whole groups. `Some` holds the steps of 128 columns.
template <typename Some>
PRIMITIVE Sums stepped_sums(const uint8_t* codes, const uint8_t* steps, int columns,
                            const int8_t* x) {
  constexpr int kEach = 4 / sizeof(Some);  // Parts of 32 columns that share a step.
  __m256i sums[2] = {zero(), zero()}, place[4];
  for (int i = 0; i < 4; ++i)
    place[i] = _mm256_set1_epi16(static_cast<int16_t>(0x8000 | (i / kEach)));
  for (const int8_t* end = x + columns; x < end; codes += 64, steps += sizeof(Some), x += 128) {
    __builtin_prefetch(codes + kAhead, 0, kFetchTo);
    __m256i halves[4];
    split(codes, halves);
    Some some;
    __builtin_memcpy(&some, steps, sizeof some);
    const __m256i all = _mm256_set1_epi32(some);
    for (int i = 0; i < 4; ++i) {
      const __m256i pairs = _mm256_maddubs_epi16(
          halves[i], _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x) + i));
      const __m256i words = _mm256_shuffle_epi8(all, place[i]);
      sums[i % 2] = _mm256_add_epi32(sums[i % 2], _mm256_madd_epi16(pairs, words));
    }
  }
  return plus(sums[0], sums[1]);
}

PRIMITIVE Sums packed_sums(const uint8_t* codes, const uint8_t* steps, int columns, int group,
                           const int8_t* x, const int16_t* group_sums) {
  const Sums sums = group == 32   ? stepped_sums<uint32_t>(codes, steps, columns, x)
                    : group == 64 ? stepped_sums<uint16_t>(codes, steps, columns, x)
                                  : stepped_sums<uint8_t>(codes, steps, columns, x);
  __m256i eighths = zero();
  const int shift = __builtin_ctz(group);
  const int groups = columns >> shift;
  int g = 0;
  for (; g + 16 <= groups; g += 16) {
    const __m256i these =
        _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(steps + g)));
    const __m256i sums_of_these =
        _mm256_loadu_si256(reinterpret_cast<const __m256i*>(group_sums + g));
    eighths = _mm256_add_epi32(eighths, _mm256_madd_epi16(these, sums_of_these));
  }
  int32_t rest = 0;
  for (; g < groups; ++g) rest += steps[g] * group_sums[g];
  eighths = _mm256_add_epi32(eighths, _mm256_setr_epi32(rest, 0, 0, 0, 0, 0, 0, 0));
  return _mm256_sub_epi32(sums, _mm256_slli_epi32(eighths, 3));
}

#include "kernels.inc"

}  // namespace avx2
}  // namespace

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

// clang does not know "f16c" in __builtin_cpu_supports.
static bool has_f16c() {
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}

const Kernels* avx2_kernels() {
  __builtin_cpu_init();
  const bool able =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
  return able ? &avx2::kKernels : nullptr;
}

#else

const Kernels* avx2_kernels() { return nullptr; }

#endif
