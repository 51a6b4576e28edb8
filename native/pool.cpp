#include "pool.h"

#if !defined(_WIN32)
#include <unistd.h>
#endif

namespace {

constexpr auto kAwake = std::chrono::microseconds(100);
constexpr int kSpins = 64;
constexpr auto kRetry = std::chrono::seconds(1);  // After which a refused thread is asked for again.

inline void pause_processor() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}

// Waits until `ready`, awake for a while; returns whether it came.
template <typename Ready>
bool await(const Ready& ready) {
  const auto until = std::chrono::steady_clock::now() + kAwake;
  do {
    for (int i = 0; i < kSpins; ++i) {
      if (ready()) return true;
      pause_processor();
    }
  } while (std::chrono::steady_clock::now() < until);
  return ready();
}

}  // namespace

Pool& Pool::instance() {
#if defined(_WIN32)
  static Pool* pool = new Pool;
#else
  static Pool* pool = new Pool;
  static pid_t owner = getpid();
  if (owner != getpid()) {  // Threads do not survive a fork.
    pool = new Pool;
    owner = getpid();
  }
#endif
  return *pool;
}

// Makes threads until there are `threads` with the caller's; returns how many of them there are.
int Pool::grow(int threads) {
  if (std::chrono::steady_clock::now() < refused_ + kRetry) {
    return threads < workers_ + 1 ? threads : workers_ + 1;
  }
  while (workers_ < threads - 1) {
    try {
      std::thread([this, worker = workers_ + 1] { serve(worker); }).detach();
    } catch (const std::exception&) {  // The system gives no more threads, or no memory for one.
      refused_ = std::chrono::steady_clock::now();
      return workers_ + 1;
    }
    ++workers_;
  }
  return threads;
}

void Pool::share(const Work& work, int worker) noexcept {
  try {
    for (int64_t chunk = next_.fetch_add(1); chunk < chunks_; chunk = next_.fetch_add(1)) {
      work(chunk, worker);
    }
  } catch (...) {
    next_.store(chunks_);  // Nobody begins another chunk.
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!failure_) failure_ = std::current_exception();
  }
}

void Pool::serve(int worker) {
  uint64_t seen = 0;
  for (;;) {
    if (!await([&] { return round_.load(std::memory_order_acquire) != seen; })) {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [&] { return round_.load(std::memory_order_acquire) != seen; });
    }
    // Whoever comes late, since the machine is busy, finds the round closed and is not waited for.
    std::unique_lock<std::mutex> lock(mutex_);
    seen = round_.load(std::memory_order_acquire);
    const Work* work = worker < active_ ? work_ : nullptr;
    if (work != nullptr) busy_.fetch_add(1);
    lock.unlock();
    if (work == nullptr) continue;
    share(*work, worker);
    busy_.fetch_sub(1, std::memory_order_release);
  }
}

void Pool::run(int threads, int64_t chunks, const Work& work) {
  if (threads > chunks) threads = static_cast<int>(chunks);
  if (threads <= 1) {
    for (int64_t chunk = 0; chunk < chunks; ++chunk) work(chunk, 0);
    return;
  }
  {
    std::lock_guard<std::mutex> lock(mutex_);
    threads = grow(threads);
    chunks_ = chunks;
    active_ = threads;
    failure_ = nullptr;
    work_ = &work;
    next_.store(0);
    round_.fetch_add(1, std::memory_order_release);
  }
  wake_.notify_all();
  share(work, 0);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    work_ = nullptr;
  }
  while (!await([&] { return busy_.load(std::memory_order_acquire) == 0; })) {
    std::this_thread::yield();
  }
  if (failure_) std::rethrow_exception(failure_);
}
