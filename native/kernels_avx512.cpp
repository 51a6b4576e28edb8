// AVX-512 with VNNI: one instruction multiplies 64 unsigned by 64 signed bytes, so weights are read
// plus 128, and 128 times the sum of the activations is taken off again.
#include "kernels.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include "vectors.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")
#endif

namespace {
namespace avx512 {

constexpr char kName[] = "avx512";
constexpr int kBytes = 64, kOffset = 128, kTileRows = 6, kStepBlock = 8;
constexpr int kFetchTo = 2;  // The second cache: the nearest one has room for few lines on their way.
constexpr bool kInPlace = false;
constexpr int kFloatRows = 3, kFloatColumns = 4, kFloatSums = 24, kManyRows = 0;
constexpr int kScoreQueries = 4, kMixSums = 16;
typedef __m512i Sums;
typedef __m512i Weights;

#define PRIMITIVE static inline __attribute__((always_inline))

PRIMITIVE Sums zero() { return _mm512_setzero_si512(); }
PRIMITIVE Weights load_weights(const int8_t* p) {
  return _mm512_xor_si512(_mm512_loadu_si512(p), _mm512_set1_epi8(static_cast<char>(0x80)));
}
// In assembly, since GCC moves the sums of the intrinsic through memory where there are many.
PRIMITIVE Sums dot(Sums sums, Weights w, const int8_t* x) {
  const __m512i codes = _mm512_loadu_si512(x);
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(w), "v"(codes));
  return sums;
}

#include "transpose.inc"

#define AURIS_PANELS
PRIMITIVE Weights load_laid(const int8_t* p) { return _mm512_loadu_si512(p); }
PRIMITIVE Weights spread(const int8_t* x) {
  int32_t four;
  __builtin_memcpy(&four, x, sizeof four);
  return _mm512_set1_epi32(four);
}
PRIMITIVE Sums dot_laid(Sums sums, Weights w, Weights x) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(w), "v"(x));
  return sums;
}
// 64 columns of 16 rows, transposed: vector j has columns 4 j.. of every row, plus kOffset. The vectors
// lie `apart` bytes apart.
PRIMITIVE void interleave(const int8_t* rows, int64_t stride, int8_t* out, int64_t apart) {
  __m512i weights[16], transposed[16];
  for (int i = 0; i < 16; ++i) weights[i] = load_weights(rows + i * stride);
  transpose_words(weights, transposed);
  for (int i = 0; i < 16; ++i) _mm512_storeu_si512(out + i * apart, transposed[i]);
}
PRIMITIVE Sums plus(Sums a, Sums b) { return _mm512_add_epi32(a, b); }
PRIMITIVE int32_t total(Sums sums) {
  const __m256i half =
      _mm256_add_epi32(_mm512_castsi512_si256(sums), _mm512_extracti64x4_epi64(sums, 1));
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1));
  return _mm_cvtsi128_si32(four);
}

PRIMITIVE void totals(Sums a, Sums b, Sums c, Sums d, int32_t* out) {
  const __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
  const __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
  const __m512i all =
      _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
  const __m256i half =
      _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
  const __m128i four =
      _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), four);
}

PRIMITIVE v16 fma(v16 a, v16 b, v16 c) {
  return (v16)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}

// GCC makes two halves of a conversion of vectors.
PRIMITIVE v16 from_bfloat16(const uint16_t* p) {
  const __m256i numbers = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return (v16)_mm512_slli_epi32(_mm512_maskz_cvtepu16_epi32(0xffff, numbers), 16);
}
PRIMITIVE v16 from_half(const uint16_t* p) {
  return (v16)_mm512_maskz_cvtph_ps(
      0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
PRIMITIVE void to_half(v16 x, uint16_t* p) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_maskz_cvtps_ph(0xffff, (__m512)x, _MM_FROUND_TO_NEAREST_INT));
}

// Half bytes are unsigned as they are.
PRIMITIVE Sums half_dots(Sums sums, const uint8_t* halves, const int8_t* x) {
  const __m512i low = _mm512_set1_epi8(15);
  const __m512i both = _mm512_loadu_si512(halves);
  const __m512i first = _mm512_and_si512(both, low);
  const __m512i second = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
  const __m512i codes[2] = {_mm512_loadu_si512(x), _mm512_loadu_si512(x + 64)};
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(first), "v"(codes[0]));
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(second), "v"(codes[1]));
  return sums;
}

// Steps of the four 32-column parts of a block.
PRIMITIVE uint32_t part_steps(const uint8_t* steps, int block, int group) {
  if (group == 32) {
    uint32_t four;
    __builtin_memcpy(&four, steps + 4 * block, sizeof four);
    return four;
  }
  if (group == 64) return 0x101u * steps[2 * block] | 0x1010000u * steps[2 * block + 1];
  return 0x1010101u * steps[block];
}

// Word lanes that take the step of their 32 columns from a broadcast of all four.
PRIMITIVE __m512i parts(int low, int high) {
  return _mm512_inserti64x4(_mm512_set1_epi16(static_cast<short>(0x8000 + low)),
                            _mm256_set1_epi16(static_cast<short>(0x8000 + high)), 1);
}
PRIMITIVE __m512i first_parts() { return parts(0, 1); }
PRIMITIVE __m512i second_parts() { return parts(2, 3); }

// Codes less 8 times steps: byte products as the low halves of 16-bit ones.
PRIMITIVE void expand(const uint8_t* codes, const uint8_t* steps, int columns, int group,
                      int8_t* out) {
  const __m512i low = _mm512_set1_epi8(15), eight = _mm512_set1_epi8(8);
  const __m512i even = _mm512_set1_epi16(0x00ff);
  for (int k = 0, block = 0; k < columns; k += 128, ++block) {
    const __m512i both = _mm512_loadu_si512(codes + k / 2);
    const __m512i all = _mm512_set1_epi32(static_cast<int>(part_steps(steps, block, group)));
    const __m512i halves[2] = {_mm512_and_si512(both, low),
                               _mm512_and_si512(_mm512_srli_epi16(both, 4), low)};
    const __m512i words[2] = {_mm512_shuffle_epi8(all, first_parts()),
                              _mm512_shuffle_epi8(all, second_parts())};
    for (int h = 0; h < 2; ++h) {
      const __m512i code = _mm512_sub_epi8(halves[h], eight);
      // Low bytes of 16-bit products are those of 8-bit ones, and all of them fit.
      const __m512i evens = _mm512_mullo_epi16(code, words[h]);
      const __m512i odds = _mm512_mullo_epi16(_mm512_srli_epi16(code, 8), words[h]);
      constexpr int kWhereFirst = 0xca;  // The second where the first is set, else the third.
      const __m512i whole =
          _mm512_ternarylogic_epi32(even, evens, _mm512_slli_epi16(odds, 8), kWhereFirst);
      _mm512_storeu_si512(out + k + 64 * h, whole);
    }
  }
}

// Pairs of products fit into 16 bits, and steps multiply them there. Codes are multiplied as they are
// stored, plus 8; what that adds is taken off for whole groups.
PRIMITIVE Sums packed_sums(const uint8_t* codes, const uint8_t* steps, int columns, int group,
                           const int8_t* x, const int16_t* group_sums) {
  const __m512i low = _mm512_set1_epi8(15);
  __m512i sums[2] = {zero(), zero()}, eighths = zero();
  for (int k = 0, block = 0; k < columns; k += 128, ++block) {
    __builtin_prefetch(codes + k / 2 + kAhead, 0, kFetchTo);
    const __m512i both = _mm512_loadu_si512(codes + k / 2);
    const __m512i all = _mm512_set1_epi32(static_cast<int>(part_steps(steps, block, group)));
    const __m512i halves[2] = {_mm512_and_si512(both, low),
                               _mm512_and_si512(_mm512_srli_epi16(both, 4), low)};
    const __m512i words[2] = {_mm512_shuffle_epi8(all, first_parts()),
                              _mm512_shuffle_epi8(all, second_parts())};
    for (int h = 0; h < 2; ++h) {
      const __m512i pairs =
          _mm512_maddubs_epi16(halves[h], _mm512_loadu_si512(x + k + 64 * h));
      sums[h] = _mm512_dpwssd_epi32(sums[h], pairs, words[h]);
    }
  }
  for (int groups = columns / group, g = 0; g < groups; g += 32) {
    const __mmask32 some = groups - g < 32 ? (1u << (groups - g)) - 1u : 0xffffffffu;
    const __m512i these = _mm512_cvtepu8_epi16(_mm256_maskz_loadu_epi8(some, steps + g));
    eighths = _mm512_dpwssd_epi32(eighths, these, _mm512_maskz_loadu_epi16(some, group_sums + g));
  }
  return _mm512_sub_epi32(plus(sums[0], sums[1]), _mm512_slli_epi32(eighths, 3));
}

#include "kernels.inc"

}  // namespace avx512
}  // namespace

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

const Kernels* avx512_kernels() {
  __builtin_cpu_init();
  const bool able = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("fma");
  return able ? &avx512::kKernels : nullptr;
}

#else

const Kernels* avx512_kernels() { return nullptr; }

#endif
