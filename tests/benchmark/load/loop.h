// The load generator's event loop: epoll, edge-triggered, and timers. One thread.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <coroutine>
#include <functional>
#include <queue>
#include <utility>
#include <vector>

namespace gatepost::benchmark {

using Clock = std::chrono::steady_clock;

// What a descriptor's owner waits for: its next event.
struct Waiter {
  std::coroutine_handle<> waiting;
};

class Loop {
 public:
  Loop();
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  void Add(int descriptor, Waiter& waiter) const;

  // Run serves until `done` says true; false when `limit` passed before.
  [[nodiscard]] bool Run(const std::function<bool()>& done, Clock::time_point limit);

  // Pause serves for a while.
  void Pause(Clock::duration duration);

  // co_await loop.Until(time)
  auto Until(Clock::time_point time) {
    struct Sleep {
      Loop& loop;
      Clock::time_point until;
      bool await_ready() const { return Clock::now() >= until; }
      void await_suspend(std::coroutine_handle<> handle) {
        loop.timers_.emplace(until, handle.address());
      }
      void await_resume() const {}
    };
    return Sleep{*this, time};
  }

 private:
  using Timer = std::pair<Clock::time_point, void*>;
  const int epoll_;
  std::priority_queue<Timer, std::vector<Timer>, std::greater<>> timers_;
};

}  // namespace gatepost::benchmark
