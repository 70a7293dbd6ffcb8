// SPDX-License-Identifier: Apache-2.0
#include "tests/benchmark/load/loop.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <ctime>

namespace gatepost::benchmark {

Loop::Loop() : epoll_(epoll_create1(EPOLL_CLOEXEC)) {}

Loop::~Loop() {
  close(epoll_);
}

void Loop::Add(int descriptor, Waiter& waiter) const {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
  event.data.ptr = &waiter;
  epoll_ctl(epoll_, EPOLL_CTL_ADD, descriptor, &event);
}

bool Loop::Run(const std::function<bool()>& done, Clock::time_point limit) {
  std::array<epoll_event, 256> events;
  while (!done()) {
    auto now = Clock::now();
    while (!timers_.empty() && timers_.top().first <= now) {
      const auto handle = std::coroutine_handle<>::from_address(timers_.top().second);
      timers_.pop();
      handle.resume();
    }
    if (done()) break;
    now = Clock::now();
    if (now >= limit) return false;
    auto wait = limit - now;
    if (!timers_.empty()) wait = std::min(wait, timers_.top().first - now);
    const auto nanoseconds = std::max<int64_t>(0, wait.count());
    const timespec timeout{nanoseconds / 1'000'000'000, nanoseconds % 1'000'000'000};
    const int count =
        epoll_pwait2(epoll_, events.data(), static_cast<int>(events.size()), &timeout, nullptr);
    // A Waiter dies only in its own coroutine, and each has one event in this array at most.
    for (int i = 0; i < count; ++i) {
      auto& waiter = *static_cast<Waiter*>(events[static_cast<size_t>(i)].data.ptr);
      if (const auto handle = std::exchange(waiter.waiting, nullptr)) handle.resume();
    }
  }
  return true;
}

void Loop::Pause(Clock::duration duration) {
  (void)Run([] { return false; }, Clock::now() + duration);
}

}  // namespace gatepost::benchmark
