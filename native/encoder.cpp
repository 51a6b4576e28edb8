// A pass through all layers of an audio encoder.
#include <cstring>
#include <mutex>

#include "auris_native.h"
#include "kernels.h"
#include "pool.h"
#include "work.h"

namespace {

class Hearing {
 public:
  Hearing(const auris_encoder& encoder, float* x, const int32_t* windows, int32_t count, int threads)
      : e_(encoder), x_(x), windows_(windows), count_(count), threads_(threads) {
    tokens_ = windows[count];
    head_dim_ = e_.width / e_.heads;
    int64_t longest = 0;
    for (int w = 0; w < count; ++w)
      longest = windows[w + 1] - windows[w] > longest ? windows[w + 1] - windows[w] : longest;
    score_room_ = kPromptQueries * key_pitch(longest);
    heard_room_ = (key_pitch(longest) + longest) * head_dim_;
    normed_ = normed_memory.of(tokens_ * e_.width);
    qkv_ = qkv_memory.of(tokens_ * 3 * e_.width);
    inner_ = inner_memory.of(tokens_ * e_.ffn);
    scores_ = score_memory.of(score_room_ * threads);
    heard_ = heard_memory.of(heard_room_ * threads);
  }

  void run(float* states) {
    for (int index = 0; index < e_.layer_count; ++index) layer(e_.layers[index]);
    each(threads_, tokens_, [&](int64_t i) {
      norm(e_.norm, e_.norm_bias, x_ + i * e_.width, states + i * e_.width);
    });
  }

 private:
  void norm(const float* weight, const float* bias, const float* x, float* out) const {
    if (bias == nullptr)
      kernels->norm(x, weight, e_.width, e_.eps, out);
    else
      kernels->layer_norm(x, weight, bias, e_.width, e_.eps, out);
  }

  // Normed tokens in 8 bits; what the layer is going to add to them has its bias first.
  void normed_codes(const float* weight, const float* norm_bias, const auris_matrix& matrix,
                    const float* bias) {
    reserve(matrix, tokens_);
    each(threads_, tokens_, [&](int64_t i) {
      float* x = x_ + i * e_.width;
      float* place = normed_ + i * e_.width;
      norm(weight, norm_bias, x, place);
      quantize(matrix, tokens_, i, place);
      kernels->shift(x, bias, 1.f, e_.width, x);
    });
  }

  void layer(const auris_encoder_layer& l) {
    normed_codes(l.attention_norm, l.attention_norm_bias, l.qkv, l.out_bias);
    multiply(l.qkv, {normed_, e_.width}, tokens_, qkv_, false, threads_);
    Pool::instance().run(threads_, int64_t{count_} * e_.heads, [&](int64_t chunk, int worker) {
      attend(l, static_cast<int>(chunk / e_.heads), static_cast<int>(chunk % e_.heads), worker);
    });
    reserve(l.out, tokens_);
    each(threads_, tokens_, [&](int64_t i) { quantize(l.out, tokens_, i, normed_ + i * e_.width); });
    multiply(l.out, {normed_, e_.width}, tokens_, x_, true, threads_);
    normed_codes(l.ffn_norm, l.ffn_norm_bias, l.up, l.down_bias);
    multiply(l.up, {normed_, e_.width}, tokens_, inner_, false, threads_);
    reserve(l.down, tokens_);
    each(threads_, tokens_, [&](int64_t i) {
      float* inner = inner_ + i * e_.ffn;
      kernels->gelu(inner, l.up_bias, e_.ffn);
      quantize(l.down, tokens_, i, inner);
    });
    multiply(l.down, {inner_, e_.ffn}, tokens_, x_, true, threads_);
  }

  // One head in one window; the results go to where the normed tokens were.
  void attend(const auris_encoder_layer& l, int window, int head, int worker) const {
    const int first = windows_[window], length = windows_[window + 1] - first;
    const int64_t at = int64_t{head} * head_dim_, stride = 3 * int64_t{e_.width};
    const float reach = 1.f / __builtin_sqrtf(static_cast<float>(head_dim_));
    const int64_t pitch = key_pitch(length);
    float* keys = heard_ + heard_room_ * worker;
    float* values = keys + pitch * head_dim_;
    const float* bias = l.qkv_bias + at;
    for (int i = 0; i < length; ++i) {
      float* query = qkv_ + (first + i) * stride + at;
      float *key = query + e_.width, *value = key + e_.width;
      kernels->shift(query, bias, reach, head_dim_, query);
      kernels->shift(key, bias + e_.width, 1.f, head_dim_, key);
      kernels->shift(value, bias + 2 * e_.width, 1.f, head_dim_, values + i * head_dim_);
    }
    kernels->transpose(qkv_ + first * stride + e_.width + at, length, stride, head_dim_, AURIS_FLOAT32,
                       keys, pitch);
    const float* queries[kPromptQueries];
    float* out[kPromptQueries];
    int lengths[kPromptQueries];
    for (int i = 0; i < length; i += kPromptQueries) {
      const int held = length - i < kPromptQueries ? length - i : kPromptQueries;
      for (int q = 0; q < held; ++q) {
        queries[q] = qkv_ + (first + i + q) * stride + at;
        out[q] = normed_ + (first + i + q) * int64_t{e_.width} + at;
        lengths[q] = length;
      }
      kernels->attend_prompt(keys, pitch, values, head_dim_, queries, out, lengths, held,
                             scores_ + score_room_ * worker);
    }
  }

  static Memory<float> normed_memory, qkv_memory, inner_memory, score_memory, heard_memory;

  const auris_encoder& e_;
  float* x_;
  const int32_t* windows_;
  const int32_t count_;
  const int threads_;
  int64_t tokens_, score_room_, heard_room_;
  int head_dim_;
  float *normed_, *qkv_, *inner_, *scores_, *heard_;
};

Memory<float> Hearing::normed_memory, Hearing::qkv_memory, Hearing::inner_memory,
    Hearing::score_memory, Hearing::heard_memory;

}  // namespace

AURIS_API int32_t auris_contextualize(const auris_encoder* encoder, float* x,
                                      const int32_t* windows, int32_t count, float* states,
                                      int32_t threads) {
  return call([&] { Hearing(*encoder, x, windows, count, threads).run(states); });
}
