// A pass through all layers of a decoder.
#include <cstring>
#include <mutex>
#include <stdexcept>
#include <vector>

#include "auris_native.h"
#include "kernels.h"
#include "pool.h"
#include "work.h"

namespace {

// Queries of one key-value head that are worked on together.
struct QueryBlock {
  int64_t token;
  int tokens;
};

// Blocks first, first + step, ... before `end`, all of one row, that a thread works on. Where they
// are many, keys are transposed, and keys and values made float32, once for all of them: `by_blocks`.
struct Share {
  int64_t first, end, step;
  bool by_blocks;
};

constexpr int64_t kManyBlocks = 8;
constexpr int64_t kSharesEach = 4;  // Of a thread, at least, of a row's key-value heads.

// Keys and values of one row and head, and the keys that are probably read after them.
struct Heard {
  const void* keys;
  const void* values;
  const void* next;
  int format;
};

// Queries of one key-value head, where their results go, and how many keys each of them looks at.
struct Queries {
  const float* numbers[kPromptQueries];
  float* out[kPromptQueries];
  int lengths[kPromptQueries];
  int count = 0;
};

class Pass {
 public:
  Pass(const auris_decoder& decoder, const auris_cache& cache, const auris_pass& pass, int threads)
      : d_(decoder), cache_(cache), pass_(pass), threads_(threads) {
    const int64_t tokens = pass.tokens;
    qkv_width_ = (d_.heads + 2 * d_.kv_heads) * d_.head_dim;
    normed_ = normed_memory.of(tokens * d_.hidden);
    qkv_ = qkv_memory.of(tokens * qkv_width_);
    attended_ = attended_memory.of(tokens * d_.heads * d_.head_dim);
    inner_ = inner_memory.of(tokens * 2 * d_.ffn);
    for (int i = 0; i < pass.tokens; ++i)
      longest_ = pass.position[i] + 1 > longest_ ? pass.position[i] + 1 : longest_;
    score_room_ = kQueries * (longest_ + int64_t{kLanes});
    cut_blocks();
    if (share_blocks()) {
      block_room_ = (key_pitch(longest_) + longest_) * d_.head_dim;
      block_keys_ = block_memory.of(block_room_ * threads);
      score_room_ = kPromptQueries * key_pitch(longest_);
    }
    scores_ = score_memory.of(score_room_ * threads);
  }

  void run() {
    for (int index = 0; index < d_.layer_count; ++index) layer(d_.layers[index], index);
    each(threads_, pass_.wanted_count, [&](int64_t i) {
      kernels->norm(pass_.x + static_cast<int64_t>(pass_.wanted[i]) * d_.hidden, d_.norm, d_.hidden,
                    d_.eps, pass_.states + i * d_.hidden);
    });
  }

 private:
  void cut_blocks() {
    const int group = d_.heads / d_.kv_heads;
    const int most = group >= kQueries ? 1 : kQueries / group;
    blocks.clear();
    for (int i = 0; i < pass_.tokens; ++i) {
      const bool joins = !blocks.empty() && blocks.back().tokens < most &&
                         pass_.row[i] == pass_.row[blocks.back().token];
      if (joins)
        ++blocks.back().tokens;
      else
        blocks.push_back({i, 1});
    }
  }

  // Returns whether some of the shares attend by blocks.
  bool share_blocks() {
    const int64_t count = static_cast<int64_t>(blocks.size());
    const int64_t parts = (kSharesEach * threads_ + d_.kv_heads - 1) / d_.kv_heads;
    bool by_blocks = false;
    shares.clear();
    for (int64_t first = 0, end = 0; first < count; first = end) {
      while (end < count && pass_.row[blocks[end].token] == pass_.row[blocks[first].token]) ++end;
      if (end - first >= kManyBlocks * parts) {
        for (int64_t part = 0; part < parts; ++part) shares.push_back({first + part, end, parts, true});
        by_blocks = true;
      } else {
        // From the row's end on, so that the last shares are short ones.
        for (int64_t block = end; block-- > first;) shares.push_back({block, block + 1, 1, false});
      }
    }
    return by_blocks;
  }

  void normed_codes(const float* weight, const auris_matrix& matrix) {
    reserve(matrix, pass_.tokens);
    each(threads_, pass_.tokens, [&](int64_t i) {
      float* place = normed_ + i * d_.hidden;
      kernels->norm(pass_.x + i * d_.hidden, weight, d_.hidden, d_.eps, place);
      quantize(matrix, pass_.tokens, i, place);
    });
  }

  void codes(const float* x, const auris_matrix& matrix) {
    reserve(matrix, pass_.tokens);
    each(threads_, pass_.tokens,
         [&](int64_t i) { quantize(matrix, pass_.tokens, i, x + i * matrix.width); });
  }

  void layer(const auris_layer& l, int index) {
    normed_codes(l.attention_norm, l.qkv);
    multiply(l.qkv, {normed_, d_.hidden}, pass_.tokens, qkv_, false, threads_);
    each(threads_, pass_.tokens, [&](int64_t i) { place(l, index, i); });
    attend(index);
    codes(attended_, l.out);
    multiply(l.out, {attended_, l.out.width}, pass_.tokens, pass_.x, true, threads_);
    normed_codes(l.ffn_norm, l.gate_up);
    const bool gated = multiply_gated(l.gate_up, pass_.tokens, inner_, threads_);
    if (!gated) multiply(l.gate_up, {normed_, d_.hidden}, pass_.tokens, inner_, false, threads_);
    reserve(l.down, pass_.tokens);
    each(threads_, pass_.tokens, [&](int64_t i) {
      float* gate = inner_ + i * 2 * d_.ffn;
      if (!gated) kernels->swiglu(gate, gate + d_.ffn, d_.ffn);
      quantize(l.down, pass_.tokens, i, gate);
    });
    multiply(l.down, {inner_, 2 * int64_t{d_.ffn}}, pass_.tokens, pass_.x, true, threads_);
  }

  int64_t cache_place(int index, int row, int head) const {
    return index * cache_.layer_stride + row * cache_.row_stride + head * cache_.head_stride;
  }

  void keep(void* storage, int64_t place, const float* x) const {
    if (cache_.format != AURIS_FLOAT32)
      kernels->narrow(x, d_.head_dim, cache_.format, static_cast<uint16_t*>(storage) + place);
    else
      std::memcpy(static_cast<float*>(storage) + place, x, sizeof(float) * d_.head_dim);
  }

  // Norms and turns a token's queries and keys, and puts its keys and values into the cache.
  void place(const auris_layer& l, int index, int64_t i) {
    const int half = d_.head_dim / 2;
    const int64_t turn_at = static_cast<int64_t>(pass_.position[i]) * half;
    float* x = qkv_ + i * qkv_width_;
    const float reach = 1.f / __builtin_sqrtf(static_cast<float>(d_.head_dim));
    for (int head = 0; head < d_.heads + d_.kv_heads; ++head) {
      const bool query = head < d_.heads;
      float* one = x + static_cast<int64_t>(head) * d_.head_dim;
      kernels->norm(one, query ? l.q_norm : l.k_norm, d_.head_dim, d_.eps, one);
      kernels->rotate(one, pass_.cosines + turn_at, pass_.sines + turn_at, query ? reach : 1.f, half);
    }
    for (int head = 0; head < d_.kv_heads; ++head) {
      const int64_t at = cache_place(index, pass_.row[i], head) +
                         static_cast<int64_t>(pass_.position[i]) * d_.head_dim;
      keep(cache_.keys, at, x + static_cast<int64_t>(d_.heads + head) * d_.head_dim);
      keep(cache_.values, at,
           x + static_cast<int64_t>(d_.heads + d_.kv_heads + head) * d_.head_dim);
    }
  }

  void attend(int index) {
    const int64_t chunks = static_cast<int64_t>(shares.size()) * d_.kv_heads;
    Pool::instance().run(threads_, chunks, [&](int64_t chunk, int worker) {
      const int64_t next = chunk + threads_ < chunks ? chunk + threads_ : chunk;
      const Heard heard = {keys_of(index, chunk), values_of(index, chunk), keys_of(index, next),
                           cache_.format};
      attend_share(heard, shares[chunk / d_.kv_heads], static_cast<int>(chunk % d_.kv_heads), worker);
    });
  }

  // Where the keys and values of a part of `attend` lie.
  const char* keys_of(int index, int64_t chunk) const {
    return static_cast<const char*>(cache_.keys) + bytes_to(index, chunk);
  }

  const char* values_of(int index, int64_t chunk) const {
    return static_cast<const char*>(cache_.values) + bytes_to(index, chunk);
  }

  int64_t bytes_to(int index, int64_t chunk) const {
    const int64_t token = blocks[shares[chunk / d_.kv_heads].first].token;
    const int64_t place = cache_place(index, pass_.row[token], static_cast<int>(chunk % d_.kv_heads));
    return place * (cache_.format == AURIS_FLOAT32 ? 4 : 2);
  }

  void attend_share(const Heard& heard, const Share& share, int kv_head, int worker) const {
    float* scores = scores_ + score_room_ * worker;
    if (!share.by_blocks) {
      by_queries(share, kv_head, kQueries, [&](const Queries& some) {
        kernels->attend(heard.keys, heard.values, heard.next, heard.format, d_.head_dim, some.numbers,
                        some.out, some.lengths, some.count, scores);
      });
      return;
    }
    const QueryBlock& last = blocks[share.end - 1];
    const int longest = pass_.position[last.token] + last.tokens;
    const int64_t pitch = key_pitch(longest);
    float *keys = block_keys_ + block_room_ * worker, *room = keys + pitch * d_.head_dim;
    kernels->transpose(heard.keys, longest, d_.head_dim, d_.head_dim, heard.format, keys, pitch);
    const float* values = static_cast<const float*>(heard.values);
    if (heard.format != AURIS_FLOAT32) {
      kernels->widen(static_cast<const uint16_t*>(heard.values), int64_t{longest} * d_.head_dim,
                     heard.format, room);
      values = room;
    }
    by_queries(share, kv_head, kPromptQueries, [&](const Queries& some) {
      kernels->attend_prompt(keys, pitch, values, d_.head_dim, some.numbers, some.out, some.lengths,
                             some.count, scores);
    });
  }

  // Attends with the queries of a share, up to `most` at a time.
  template <typename Attend>
  void by_queries(const Share& share, int kv_head, int most, const Attend& attend) const {
    Queries some;
    const int group = d_.heads / d_.kv_heads;
    for (int64_t block = share.first; block < share.end; block += share.step)
      for (int i = 0; i < blocks[block].tokens * group; ++i) {
        const int64_t token = blocks[block].token + i / group;
        const int64_t head = int64_t{kv_head} * group + i % group;
        some.numbers[some.count] = qkv_ + token * qkv_width_ + head * d_.head_dim;
        some.out[some.count] = attended_ + (token * d_.heads + head) * d_.head_dim;
        some.lengths[some.count] = pass_.position[token] + 1;
        if (++some.count < most) continue;
        attend(some);
        some.count = 0;
      }
    if (some.count > 0) attend(some);
  }

  static Memory<float> normed_memory, qkv_memory, attended_memory, inner_memory,
      score_memory, block_memory;
  static std::vector<QueryBlock> blocks;
  static std::vector<Share> shares;

  const auris_decoder& d_;
  const auris_cache& cache_;
  const auris_pass& pass_;
  const int threads_;
  int64_t qkv_width_ = 0, score_room_ = 0, block_room_ = 0;
  int longest_ = 0;
  float *normed_, *qkv_, *attended_, *inner_, *scores_, *block_keys_ = nullptr;
};

Memory<float> Pass::normed_memory, Pass::qkv_memory, Pass::attended_memory, Pass::inner_memory,
    Pass::score_memory, Pass::block_memory;
std::vector<QueryBlock> Pass::blocks;
std::vector<Share> Pass::shares;

Memory<float> embedded, step_states;
Memory<int8_t> row_scratch;
std::vector<int32_t> every;

void embed(const auris_matrix& embeddings, const auris_step& step, float* x) {
  int8_t* room = row_scratch.of(is_float(embeddings) ? 0 : scratch_bytes(embeddings));
  for (int i = 0; i < step.count; ++i) {
    if (step.token[i] < 0 || step.token[i] >= embeddings.rows)
      throw std::out_of_range("a token has no embedding");
    kernels->look_up(&embeddings, step.token[i], x + int64_t{i} * embeddings.width, room);
  }
}

}  // namespace

AURIS_API int32_t auris_decode(const auris_decoder* decoder, const auris_matrix* embeddings,
                               const auris_matrix* head, const auris_cache* cache,
                               const auris_step* step, auris_choice* choices, int32_t threads) {
  return call([&] {
    const int64_t numbers = int64_t{step->count} * decoder->hidden;
    float *x = embedded.of(numbers), *states = step_states.of(numbers);
    while (static_cast<int>(every.size()) < step->count)
      every.push_back(static_cast<int32_t>(every.size()));
    embed(*embeddings, *step, x);
    const auris_pass pass = {x,           step->row,    step->position, step->cosines, step->sines,
                             every.data(), states,      step->count,    step->count};
    Pass(*decoder, *cache, pass, threads).run();
    best_rows(*head, states, step->count, step->exact != 0, choices, threads);
  });
}

AURIS_API int32_t auris_extend(const auris_decoder* decoder, const auris_cache* cache,
                               const auris_pass* pass, int32_t threads) {
  return call([&] { Pass(*decoder, *cache, *pass, threads).run(); });
}
