// The native step: packed matrix products, and a whole pass of a Qwen3 decoder in one call.
//
// A plain C interface: pointers and sizes, no Python and no torch. Every number of a token is
// computed in an order that does not depend on the other tokens of a pass, so a token gives the
// same bits alone, in any batch and at any place of a prompt.
#pragma once

#include <stdint.h>

#if defined(_WIN32)
#define AURIS_API extern "C" __declspec(dllexport)
#else
#define AURIS_API extern "C" __attribute__((visibility("default")))
#endif

// Version of this interface: raised by every change of a structure or a function below. The caller
// compares it with its own before anything else.
#define AURIS_ABI 5

AURIS_API int32_t auris_abi();

// Functions that compute return 0, or one of these; then auris_message() says what went wrong in the
// last call of this thread.
#define AURIS_NO_MEMORY 1
#define AURIS_FAILED 2

AURIS_API const char* auris_message();

// Formats of numbers in memory.
#define AURIS_INTEGERS 0
#define AURIS_FLOAT32 1
#define AURIS_BFLOAT16 2
#define AURIS_FLOAT16 3

// bfloat16 or float16: codes are the numbers [rows, columns], columns are `width`, and the other
// pointers are null.
// integers [rows, columns] * scale [rows]; the columns beyond `width` are zeros.
// int8 (steps is null): the integers themselves; columns are a multiple of 64.
// int4: blocks of 128 columns in 64 bytes. Byte j holds column j in its low half and column
// 64 + j in its high half, each plus 8; a group of columns multiplies them by its step.
// int8 in halves (lower is not null): 16 times the code of such a block of `codes`, each less 8,
// plus that of `lower`, in 0..15. lower_norm [rows] is that of the lower codes less 7.5.
struct auris_matrix {
  const void* codes;
  const uint8_t* steps;
  const uint8_t* lower;
  const float* lower_norm;
  const float* scale;
  int32_t rows, width, columns, group, format;
};

struct auris_layer {
  const float* attention_norm;
  const float* q_norm;
  const float* k_norm;
  const float* ffn_norm;
  auris_matrix qkv, out, gate_up, down;
};

struct auris_decoder {
  const auris_layer* layers;
  const float* norm;
  int32_t layer_count, hidden, heads, kv_heads, head_dim, ffn;
  float eps;
};

// Keys and values [layers, rows, kv_heads, capacity, head_dim] in a floating-point format; strides
// count elements.
struct auris_cache {
  void* keys;
  void* values;
  int64_t layer_stride, row_stride, head_stride;
  int32_t format;
};

// A block of an audio encoder. Norms have a bias where they are LayerNorms, and none where they are
// RMSNorms; qkv_bias [3 width], out_bias and down_bias [width], up_bias [ffn].
struct auris_encoder_layer {
  const float *attention_norm, *attention_norm_bias, *ffn_norm, *ffn_norm_bias;
  const float *qkv_bias, *out_bias, *up_bias, *down_bias;
  auris_matrix qkv, out, up, down;
};

struct auris_encoder {
  const auris_encoder_layer* layers;
  const float *norm, *norm_bias;
  int32_t layer_count, width, heads, ffn;
  float eps;
};

// Three convolutions; `channels` are a multiple of 16. first [9, channels]; the columns of second and
// third [channels, 9 channels] are in the order of their taps, all channels of each.
struct auris_stem {
  const float *first, *first_bias, *second_bias, *third_bias;
  auris_matrix second, third;
  int32_t bins, channels;
};

// One pass: `tokens` embeddings x [tokens, hidden], which it changes. Token i extends row[i] at
// position[i]; tokens of a row stand together in the order of their positions. cosines and sines
// are tables [positions, head_dim / 2]. The normed states of the tokens listed in `wanted` go to
// states [wanted_count, hidden].
struct auris_pass {
  float* x;
  const int32_t* row;
  const int32_t* position;
  const float* cosines;
  const float* sines;
  const int32_t* wanted;
  float* states;
  int32_t tokens, wanted_count;
};

// The best token after a position, see auris_best.
struct auris_choice {
  int32_t token;
  float logprob, gap;
  int32_t read;
};

// One token for each of `count` rows: token[i] extends row[i] at position[i]; cosines and sines as of
// a pass.
struct auris_step {
  const int32_t* token;
  const int32_t* row;
  const int32_t* position;
  const float* cosines;
  const float* sines;
  int32_t count, exact;
};

// Names the instructions in use: "amx", "avx512", "avx2", "neon" or "portable".
AURIS_API const char* auris_instructions();

// Uses other instructions that this machine has, for tests. Returns whether it has them.
AURIS_API int32_t auris_use(const char* name);

// out [count, rows] = x [count, width] times the matrix, the activations of each row in 8 bits where
// it has integers.
AURIS_API int32_t auris_products(const auris_matrix* matrix, const float* x, int64_t count, float* out,
                              int32_t threads);

// The best rows of a matrix for x [count, width]: `token` the first of the largest products, `gap`
// what it has over the next, `logprob` its log of the softmax over all rows. `read` counts the rows
// that were read whole: all of them for several x, and where `exact` is not 0 or the matrix not in
// halves. Where they are not all, `logprob` is off by 0.02 at most, and a gap of 8 or more may be
// larger. choices [count].
AURIS_API int32_t auris_best(const auris_matrix* matrix, const float* x, int64_t count, int32_t exact,
                          auris_choice* choices, int32_t threads);

// mels [count, bins, frames >= 1], chunks by themselves, to out [count, tokens, bins', channels]; each
// convolution halves frames and bins upwards.
AURIS_API int32_t auris_convolve(const auris_stem* stem, const float* mels, int32_t count,
                              int32_t frames, float* out, int32_t threads);

// Window w are the tokens windows[w]..windows[w + 1] of x [tokens, width], which it uses up; there
// are `count` windows, and the first begins at 0. Normed states go to states [tokens, width].
AURIS_API int32_t auris_contextualize(const auris_encoder* encoder, float* x, const int32_t* windows,
                                   int32_t count, float* states, int32_t threads);

// A pass over one new token of each row and the best tokens after them, choices [count]: embeddings
// come from one matrix, scores from another. Fails where a token has no embedding.
AURIS_API int32_t auris_decode(const auris_decoder* decoder, const auris_matrix* embeddings,
                            const auris_matrix* head, const auris_cache* cache,
                            const auris_step* step, auris_choice* choices, int32_t threads);

AURIS_API int32_t auris_extend(const auris_decoder* decoder, const auris_cache* cache,
                            const auris_pass* pass, int32_t threads);
