// Frees what may take long to free, on a thread of its own.
//
// Generations that have ended are such: a lookup that the DNS does not answer, or a Redis that is
// silent, holds them for seconds. Whoever lets go of one of them last, the main thread or a scrape,
// does not wait for that. Thread-safe.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

namespace gatepost {

class Undertaker {
 public:
  Undertaker() = default;
  // Waits until everything is freed.
  ~Undertaker();
  Undertaker(const Undertaker&) = delete;
  Undertaker& operator=(const Undertaker&) = delete;

  // Take frees `last`, of which the caller has no copy, behind what was taken before; at once where
  // no thread can be had.
  void Take(std::shared_ptr<void> last);
  // Finish waits until everything is freed, for `patience` at most; returns whether it is.
  [[nodiscard]] bool Finish(std::chrono::milliseconds patience);

 private:
  void Run();

  std::mutex mutex_;
  std::condition_variable idle_;
  std::deque<std::shared_ptr<void>> taken_;
  bool running_ = false;  // the thread is, which ends when there is nothing left
  std::thread thread_;
};

}  // namespace gatepost
