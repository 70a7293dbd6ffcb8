// SPDX-License-Identifier: Apache-2.0
#include "gateway/undertaker.h"

#include <pthread.h>

#include <csignal>
#include <system_error>
#include <utility>

namespace gatepost {

Undertaker::~Undertaker() {
  if (thread_.joinable()) thread_.join();
}

void Undertaker::Take(std::shared_ptr<void> last) {
  const std::lock_guard lock(mutex_);
  if (!running_) {
    if (thread_.joinable()) thread_.join();  // it has let go of the mutex for good
    try {
      thread_ = std::thread([this] { Run(); });
      running_ = true;
    } catch (const std::system_error&) {
      return;  // the system has no thread to give: `last` goes with this call
    }
  }
  taken_.push_back(std::move(last));
}

bool Undertaker::Finish(std::chrono::milliseconds patience) {
  std::unique_lock lock(mutex_);
  return idle_.wait_for(lock, patience, [this] { return !running_; });
}

void Undertaker::Run() {
  pthread_setname_np(pthread_self(), "undertaker");
  // Signals are the main thread's.
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  std::unique_lock lock(mutex_);
  while (!taken_.empty()) {
    std::shared_ptr<void> next = std::move(taken_.front());
    taken_.pop_front();
    lock.unlock();
    next.reset();
    lock.lock();
  }
  running_ = false;
  idle_.notify_all();
}

}  // namespace gatepost
