// Runs the native code with every set of instructions that a machine has, on numbers that are the
// same everywhere, and prints a digest of the results. scripts/check_platforms compares them.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <vector>

#include "../../native/auris_native.h"

namespace {

// The largest difference of sums without fused products from those with them.
constexpr double kTolerance = 5e-3;

uint32_t g_state = 1;

uint32_t draw() {
  g_state = g_state * 1664525u + 1013904223u;
  return g_state >> 8;
}

// Between -1 and 1, in steps that every machine has.
float number() { return static_cast<float>(static_cast<int32_t>(draw() % 2001) - 1000) / 1024.f; }

std::vector<float> numbers(size_t count, float offset, float size) {
  std::vector<float> result(count);
  for (float& value : result) value = offset + size * number();
  return result;
}

uint64_t digest(const void* data, size_t bytes) {
  uint64_t hash = 1469598103934665603ull;
  for (size_t i = 0; i < bytes; ++i) {
    hash = (hash ^ static_cast<const uint8_t*>(data)[i]) * 1099511628211ull;
  }
  return hash;
}

// A matrix in memory of its own, at a multiple of 64 bytes.
struct Matrix {
  std::vector<uint8_t> memory;
  std::vector<uint8_t> steps;
  std::vector<float> scale;
  auris_matrix matrix;

  Matrix(int32_t rows, int32_t width, bool four) {
    const int32_t block = four ? 128 : 64, columns = (width + block - 1) / block * block;
    const size_t bytes = static_cast<size_t>(rows) * columns / (four ? 2 : 1);
    memory.resize(bytes + 64);
    uint8_t* codes = memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64;
    for (int32_t row = 0; row < rows; ++row) {
      for (int32_t column = 0; column < columns; ++column) {
        const bool used = column < width;
        if (!four) {
          const int32_t code = used ? static_cast<int32_t>(draw() % 255) - 127 : 0;
          codes[static_cast<size_t>(row) * columns + column] = static_cast<uint8_t>(code);
          continue;
        }
        const uint32_t code = used ? draw() % 16 : 8;
        const size_t at = static_cast<size_t>(row) * columns / 2 + column / 128 * 64 + column % 64;
        codes[at] = static_cast<uint8_t>(column % 128 < 64 ? code : codes[at] | code << 4);
      }
    }
    if (four) {
      steps.resize(static_cast<size_t>(rows) * columns / 32);
      for (uint8_t& step : steps) step = static_cast<uint8_t>(1 + draw() % 15);
    }
    scale = numbers(rows, 0.002f, 0.001f);
    matrix = {codes, four ? steps.data() : nullptr, nullptr, nullptr, scale.data(),
              rows,  width, columns, 32, AURIS_INTEGERS};
  }
};

std::vector<float> products(bool four, int64_t count) {
  g_state = 7;
  const Matrix weights(70, 200, four);
  const std::vector<float> x = numbers(count * 200, 0, 1);
  std::vector<float> out(count * 70);
  if (auris_products(&weights.matrix, x.data(), count, out.data(), 2) != 0) out.clear();
  return out;
}

// Of float16, in rows that are wide enough to be laid out where that is done.
std::vector<float> half_products() {
  g_state = 9;
  constexpr int32_t kRows = 38, kWidth = 1056, kCount = 9;
  std::vector<uint16_t> weights(kRows * kWidth);
  // Both signs, sizes from 1/8 to 1/2.
  for (uint16_t& w : weights) w = static_cast<uint16_t>((draw() & 0x8000) | (0x3000 + draw() % 0x800));
  const auris_matrix matrix = {weights.data(), nullptr, nullptr, nullptr, nullptr, kRows,
                               kWidth,         kWidth,  0,       AURIS_FLOAT16};
  const std::vector<float> x = numbers(kCount * kWidth, 0.01f, 0.3f);
  std::vector<float> out(kCount * kRows);
  if (auris_products(&matrix, x.data(), kCount, out.data(), 2) != 0) out.clear();
  return out;
}

std::vector<float> decoder() {
  g_state = 11;
  constexpr int32_t kHidden = 64, kHeads = 4, kKeys = 2, kHead = 32, kFfn = 128;
  constexpr int32_t kTokens = 70, kRoom = 72;  // So many that they attend by blocks.
  const std::vector<float> norm = numbers(kHidden, 1, 0.2f), head_norm = numbers(kHead, 1, 0.2f);
  std::vector<Matrix> parts;
  parts.reserve(8);
  std::vector<auris_layer> layers;
  for (int layer = 0; layer < 2; ++layer) {
    parts.emplace_back((kHeads + 2 * kKeys) * kHead, kHidden, false);
    parts.emplace_back(kHidden, kHeads * kHead, false);
    parts.emplace_back(2 * kFfn, kHidden, false);
    parts.emplace_back(kHidden, kFfn, false);
    const Matrix* last = &parts[parts.size() - 4];
    layers.push_back({norm.data(), head_norm.data(), head_norm.data(), norm.data(),
                      last[0].matrix, last[1].matrix, last[2].matrix, last[3].matrix});
  }
  const auris_decoder decoder = {layers.data(), norm.data(), 2,    kHidden, kHeads,
                                 kKeys,         kHead,       kFfn, 1e-6f};
  std::vector<float> keys(2 * kKeys * kRoom * kHead), values(keys.size());
  const auris_cache cache = {keys.data(),    values.data(), kKeys * kRoom * kHead, kKeys * kRoom * kHead,
                             kRoom * kHead, AURIS_FLOAT32};
  const std::vector<float> cosines = numbers(kRoom * kHead / 2, 0, 1);
  const std::vector<float> sines = numbers(kRoom * kHead / 2, 0, 1);
  std::vector<float> x = numbers(kTokens * kHidden, 0, 1), states(kTokens * kHidden);
  const int32_t row[kTokens] = {};
  int32_t place[kTokens];
  for (int32_t token = 0; token < kTokens; ++token) place[token] = token;
  const auris_pass pass = {x.data(),     row,   place,         cosines.data(), sines.data(),
                           place, states.data(), kTokens, kTokens};
  if (auris_extend(&decoder, &cache, &pass, 2) != 0) states.clear();
  return states;
}

}  // namespace

int main() {
  int failures = 0;
  std::vector<float> plain[5];
  for (const char* name : {"portable", "avx2", "avx512", "amx", "neon"}) {
    if (!auris_use(name)) continue;
    const std::vector<float> results[5] = {products(false, 1), products(false, 9),
                                           products(true, 9), decoder(), half_products()};
    const char* titles[5] = {"int8", "int8 rows", "int4 rows", "decoder", "float16 rows"};
    for (int i = 0; i < 5; ++i) {
      if (results[i].empty()) {
        printf("%s failed: %s\n", titles[i], auris_message());
        return 2;
      }
      if (strcmp(name, "portable") == 0) plain[i] = results[i];
      double most = 0;
      for (size_t k = 0; k < results[i].size(); ++k) {
        most = fmax(most, fabs(static_cast<double>(results[i][k]) - plain[i][k]));
      }
      const bool good = most <= (i >= 3 ? kTolerance : 0.0);
      failures += !good;
      printf("%s %s %016llx difference from portable %g%s\n", name, titles[i],
             static_cast<unsigned long long>(
                 digest(results[i].data(), results[i].size() * sizeof(float))),
             most, good ? "" : " TOO LARGE");
    }
  }
  return failures != 0;
}
