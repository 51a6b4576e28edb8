// What passes share: the instructions in use, memory that stays, and quantized activations.
#pragma once

#include <cstddef>
#include <exception>
#include <mutex>
#include <new>
#include <vector>

#include "auris_native.h"
#include "kernels.h"
#include "pool.h"

extern const Kernels* kernels;

// One pass at a time: its memory and threads are those of the process.
extern std::mutex turn;

// Keeps what auris_message() returns.
void set_message(const char* message) noexcept;

// A call as it answers to the caller: no exception leaves it.
template <typename Work>
int32_t call(const Work& work) noexcept {
  try {
    const std::lock_guard<std::mutex> lock(turn);
    work();
  } catch (const std::bad_alloc&) {
    set_message("there is no memory for it");
    return AURIS_NO_MEMORY;
  } catch (const std::exception& error) {
    set_message(error.what());
    return AURIS_FAILED;
  } catch (...) {
    set_message("unknown exception");
    return AURIS_FAILED;
  }
  return 0;
}

constexpr std::size_t kLine = 64;  // Bytes of a line of the cache, and of the widest register.

// Memory at multiples of kLine, so that no load of a register reads two lines.
template <typename T>
struct Aligned {
  typedef T value_type;
  Aligned() = default;
  template <typename Other>
  Aligned(const Aligned<Other>&) {}
  T* allocate(std::size_t count) {
    return static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t{kLine}));
  }
  void deallocate(T* memory, std::size_t) { ::operator delete(memory, std::align_val_t{kLine}); }
  bool operator==(const Aligned&) const { return true; }
  bool operator!=(const Aligned&) const { return false; }
};

// Memory that only grows, so that a step allocates nothing once its first one has run.
template <typename T>
class Memory {
 public:
  T* of(int64_t count) {
    if (static_cast<int64_t>(held_.size()) < count) held_.resize(count);
    return held_.data();
  }
  T* data() { return held_.data(); }

 private:
  std::vector<T, Aligned<T>> held_;
};

// Of the tokens of a pass, as the next matrix takes them.
struct Activations {
  Memory<int8_t> codes;
  Memory<float> scales;
  Memory<int32_t> sums;
  Memory<int8_t> laid;  // Where `are_laid`; see `Codes`.
  bool are_laid = false;
};

extern Activations activations;

constexpr int64_t kFewTokens = 8;  // Below, small work is not worth a second thread.

// Work on every token, shared out where there are many.
template <typename Work>
void each(int threads, int64_t count, const Work& work) {
  const int64_t chunk = count <= kFewTokens ? count : 8;
  const int64_t chunks = count == 0 ? 0 : (count + chunk - 1) / chunk;
  Pool::instance().run(threads, chunks, [&](int64_t index, int) {
    const int64_t end = (index + 1) * chunk < count ? (index + 1) * chunk : count;
    for (int64_t i = index * chunk; i < end; ++i) work(i);
  });
}

// Room for the activations of `count` tokens; then token i's are made of its x. Neither does anything
// where the matrix is in floating point.
void reserve(const auris_matrix& matrix, int64_t count);
void quantize(const auris_matrix& matrix, int64_t count, int64_t i, const float* x);

// Whether products of so many activations are of laid ones.
inline bool is_laid(int64_t count) { return kernels->lay != nullptr && count >= kFewRows; }

// Lays block `block` of kLaid activations, of `count` in all, in their place in `laid`.
inline void lay_block(const int8_t* codes, int64_t count, int columns, int64_t block, int8_t* laid) {
  const int64_t first = block * kLaid, rest = count - first;
  kernels->lay(codes + first * padded(columns), static_cast<int>(rest < kLaid ? rest : kLaid), columns,
               laid + first * columns);
}

// Lays the quantized activations of a matrix, where they are laid; before `multiply_rows`.
void lay(const auris_matrix& matrix, int64_t count, int threads);

// Activations in floating point, of tokens that lie `stride` apart.
struct Rows {
  const float* x;
  int64_t stride;
};

// Output rows first..last of the products with a matrix, to out [count, stride], which begins with
// row `first`: of the quantized activations, or of `rows` where the matrix is in floating point.
// scratch holds `scratch_bytes`.
void multiply_rows(const auris_matrix& matrix, const Rows& rows, int64_t count, int first, int last,
                   float* out, int64_t stride, bool add, int8_t* scratch);

// The products of all output rows, to out [count, rows].
void multiply(const auris_matrix& matrix, const Rows& rows, int64_t count, float* out, bool add,
              int threads);

// silu(gate) * up of a matrix whose first half of rows are gates, to the first half of each row of out
// [count, rows], where the kernels do it in one pass; returns whether they do.
bool multiply_gated(const auris_matrix& matrix, int64_t count, float* out, int threads);

// Computes auris_best.
void best_rows(const auris_matrix& matrix, const float* x, int64_t count, bool exact,
               auris_choice* choices, int threads);
