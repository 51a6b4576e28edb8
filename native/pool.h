// Threads that share out numbered chunks of work. They wait for the next work awake for a short
// while, since the parts of a decoder's step follow each other within microseconds, and then sleep.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

class Pool {
 public:
  using Work = std::function<void(int64_t, int)>;

  // Calls work(chunk, worker) for every chunk, on `threads` threads with this one among them, or on
  // fewer where the system gives no more. What `work` throws is thrown here, once all have ended.
  void run(int threads, int64_t chunks, const Work& work);

  // The pool of this process; a forked child has one of its own.
  static Pool& instance();

 private:
  int grow(int threads);
  void serve(int worker);
  void share(const Work& work, int worker) noexcept;

  int workers_ = 0;  // Threads that were made.
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<uint64_t> round_{0};
  std::atomic<int64_t> next_{0};
  std::atomic<int> busy_{0};
  int64_t chunks_ = 0;
  int active_ = 0;
  const Work* work_ = nullptr;
  std::exception_ptr failure_;
  std::chrono::steady_clock::time_point refused_{};
};
