// What differs between instruction sets, as a table of functions. `kernels.inc` writes them once in
// terms of a few primitives; every instruction set compiles it in a file of its own.
#pragma once

#include "auris_native.h"

// The two largest that scores may be, where the first of these stands, and the sums of e^(x - first)
// over all scores as they are likely, at least and at most.
struct Outstanding {
  float first, second;
  int place;
  float masses[3];
};

// Activations in 8 bits, as `quantize` makes them: codes [count, padded(columns)], scales [count] and
// sums [count]. Where `laid` is not null, it has the codes once more, kLaid activations at a time, as
// `lay` makes them.
struct Codes {
  const int8_t* codes;
  const float* scales;
  const int32_t* sums;
  int64_t count;
  const int8_t* laid;
};

struct Kernels {
  const char* name;

  // x [width] in 8 bits: codes [columns], zeros behind, and its scale; sum of the codes.
  void (*quantize)(const float* x, int width, int columns, int8_t* codes, float* scale,
                   int32_t* sum);

  // The two halves of that: the largest size of x [count], which is no number where one of x is none;
  // codes [count] of x times inverse, which returns their sum.
  float (*largest_size)(const float* x, int count);
  int32_t (*round_off)(const float* x, int count, float inverse, int8_t* codes);

  // A row of the first convolution of a stem: out [width, channels] = gelu of the products of three
  // rows x of [2 width + 1], 2 to the right from one output to the next, with weights [9, channels]
  // and bias. Where out is null, returns the largest of these that is above 0, and what is no number
  // where one of the products is none.
  float (*begin)(const float* const* x, const float* weights, const float* bias, int channels,
                 int width, float* out);

  // Output rows first..last of x times the matrix, to out [count, stride], which begins with row
  // `first`; added to what is there where `add`. scratch holds `scratch_bytes`.
  void (*products)(const auris_matrix* matrix, const Codes& x, int first, int last, float* out,
                   int64_t stride, bool add, int8_t* scratch);

  // The same of laid activations with a matrix whose first half of rows are gates: out is
  // silu(gate) * up of rows first..last of its halves, the same bits as of `swiglu`. Null where there is
  // nothing to gain.
  void (*gated_products)(const auris_matrix* matrix, const Codes& x, int first, int last, float* out,
                         int64_t stride, int8_t* scratch);

  // Up to kLaid activations, codes [count, padded(columns)], as `Codes::laid` has them, to out
  // [columns / 4, kLaid, 4]; zeros in place of those that are missing. Null where `products` needs
  // nothing of the kind.
  void (*lay)(const int8_t* codes, int count, int columns, int8_t* out);

  // The same as `products` with a matrix in floating point, whose sums are in float32; x [count, x_stride].
  void (*float_products)(const auris_matrix* matrix, const float* x, int64_t x_stride,
                         int64_t count, int first, int last, float* out, int64_t stride, bool add,
                         int8_t* scratch);

  // Row n of a packed matrix as bytes [columns].
  void (*unpack)(const auris_matrix* matrix, int n, int8_t* out);

  // Scores of rows first..last of a matrix in halves by their upper ones, for one x: the whole sums
  // of these to upper, its likely scores to middle and how far they may be off to reach, all from
  // row `first` on; norm is that of the codes. Returns the largest that a score is at least.
  float (*estimate)(const auris_matrix* matrix, const int8_t* codes, float scale, int32_t sum,
                    float norm, int first, int last, int32_t* upper, float* middle, float* reach);

  // Makes those of them exact that may reach the threshold, the same as of `products`; they then
  // reach nowhere. Returns how many were read.
  int32_t (*refine)(const auris_matrix* matrix, const int8_t* codes, float scale, int first,
                    int last, float threshold, const int32_t* upper, float* middle, float* reach);

  // Row n of a matrix as numbers, to out [width]; scratch holds `scratch_bytes` where these are
  // integers.
  void (*look_up)(const auris_matrix* matrix, int n, float* out, int8_t* scratch);

  // What stands out among scores [count] that may be off by reach, or not at all where it is null.
  Outstanding (*outstanding)(const float* middle, const float* reach, int count);

  // out [width] = x / rms(x) * weight.
  void (*norm)(const float* x, const float* weight, int width, float eps, float* out);

  // out [width] = (x - mean) / deviation * weight + bias.
  void (*layer_norm)(const float* x, const float* weight, const float* bias, int width, float eps,
                     float* out);

  // out [count] = (x + bias) * scale; out may be x.
  void (*shift)(const float* x, const float* bias, float scale, int count, float* out);

  // x [count] = gelu(x + bias), the exact one.
  void (*gelu)(float* x, const float* bias, int count);

  // x [2 half] turned by the angles of cosines and sines [half], times scale, in place.
  void (*rotate)(float* x, const float* cosines, const float* sines, float scale, int half);

  // x [count] to bfloat16 or float16, to the nearest; a multiple of 16.
  void (*narrow)(const float* x, int count, int format, uint16_t* out);

  // x [count, width] of a format, whose rows lie `stride` numbers apart, transposed, in float32: out
  // [width, pitch]; width is a multiple of 16.
  void (*transpose)(const void* x, int count, int64_t stride, int width, int format, float* out,
                    int64_t pitch);

  // x [count] of such a format in float32; a multiple of 16.
  void (*widen)(const uint16_t* x, int64_t count, int format, float* out);

  // gate [count] = silu(gate) * up.
  void (*swiglu)(float* gate, const float* up, int count);

  // Up to kQueries queries over one head's keys and values [longest, head_dim]: query i looks at
  // the first lengths[i] of them. scores holds kQueries * (longest + kLanes) floats. What is at
  // `next` is read afterwards.
  void (*attend)(const void* keys, const void* values, const void* next, int format, int head_dim,
                 const float* const* queries, float* const* out, const int* lengths, int count,
                 float* scores);

  // The same bits for up to kPromptQueries queries of a prompt, with the keys transposed [head_dim,
  // pitch] and the values [longest, head_dim] in float32. pitch is `key_pitch(longest)`, and scores hold
  // kPromptQueries * pitch floats.
  void (*attend_prompt)(const float* keys, int64_t pitch, const float* values, int head_dim,
                        const float* const* queries, float* const* out, const int* lengths,
                        int count, float* scores);
};

constexpr int kQueries = 4;
constexpr int kLanes = 16;
constexpr int kPromptQueries = 32;
constexpr int kFewRows = 4;    // From so many on, arithmetic takes longer than memory.
constexpr int kSomeRows = 16;  // Up to so many, blocks of weights are small.
constexpr int kLaid = 16;      // Activations that are laid side by side.
constexpr int kRowBlock = 32;  // Output rows that a chunk of a large product has.

// Bytes that weights are fetched ahead in a step: processors that do so by themselves stop at the
// end of a page.
constexpr int kAhead = 8192;

// Distance of rows of transposed keys: whole blocks of them, and no power of two (see `padded`).
inline int64_t key_pitch(int64_t keys) { return (keys + 31) / 32 * 32 + 16; }

// Distance of rows of bytes that are read side by side: at powers of two they would share a few
// places of the cache.
inline int64_t padded(int64_t columns) { return columns + 64; }

// Of wide products in floating point, whose rows are in part-major order (see floats.inc): rows of
// activations in a tile, those that are in this order at a time at most, and their numbers.
constexpr int kPartRows = 3, kMostPartRows = 48, kPartFloats = 52 << 10;

// Whether the numbers of a matrix are in floating point.
inline bool is_float(const auris_matrix& matrix) { return matrix.format != AURIS_INTEGERS; }

// Bytes that `products` needs as scratch: a block of rows as they are multiplied, and 16 unpacked, or
// kSomeRows of activations as 16-bit numbers. In floating point, rows of activations and four of
// weights in part-major order.
inline int64_t scratch_bytes(const auris_matrix& matrix) {
  if (is_float(matrix)) return sizeof(float) * (kPartFloats + (kPartRows + 4) * padded(matrix.width));
  return (kRowBlock + 2 * kSomeRows) * padded(matrix.columns);
}

// Whether the rows of a matrix lie as the bytes that are multiplied.
inline bool is_plain(const auris_matrix& matrix) {
  return matrix.steps == nullptr && matrix.lower == nullptr;
}

// Bytes of a row in memory, in each of its halves.
inline int64_t row_bytes(const auris_matrix& matrix) {
  if (is_float(matrix)) return int64_t{2} * matrix.columns;
  return is_plain(matrix) ? matrix.columns : matrix.columns / 2;
}

// Weights that are read next, at two places or one, of which a part is fetched at a time.
struct Ahead {
  const int8_t *place, *end, *second;  // Null where there is no second place.

  // From output row n on to, but without, row `end`: of both halves, where bytes lie in halves.
  inline __attribute__((always_inline)) static Ahead rows(const auris_matrix& matrix, int n, int end) {
    const auto* codes = static_cast<const int8_t*>(matrix.codes);
    const auto* lower = reinterpret_cast<const int8_t*>(matrix.lower);
    const int64_t bytes = row_bytes(matrix);
    return {codes + n * bytes, codes + end * bytes, lower == nullptr ? nullptr : lower + n * bytes};
  }

  inline __attribute__((always_inline)) void fetch(int lines) {
    for (int i = 0; i < lines && place < end; ++i, place += 64) {
      __builtin_prefetch(place, 0, 2);
      if (second != nullptr) __builtin_prefetch(second, 0, 2), second += 64;
    }
  }
};

// Null where the machine or the compiler lacks the instructions.
const Kernels* amx_kernels();
const Kernels* avx512_kernels();
const Kernels* avx2_kernels();
const Kernels* neon_kernels();
const Kernels* portable_kernels();
