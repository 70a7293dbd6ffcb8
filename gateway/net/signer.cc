// SPDX-License-Identifier: Apache-2.0
#include "gateway/net/signer.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <utility>

namespace gatepost::net {
namespace {

// Less urgent than the loop, which goes first where there are not enough cores for both.
constexpr int kNice = 5;

}  // namespace

Signer::Signer(uv_loop_t* loop) : done_signal_(new uv_async_t) {
  uv_async_init(loop, done_signal_.get(), [](uv_async_t* async) {
    if (async->data != nullptr) static_cast<Signer*>(async->data)->OnDone();
  });
  done_signal_->data = this;
  uv_unref(reinterpret_cast<uv_handle_t*>(done_signal_.get()));
}

Signer::~Signer() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  work_signal_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void Signer::Sign(std::unique_ptr<tls::KeyOperation> operation, Client& client) {
  asked_.push_back({next_id_, &client});
  {
    const std::lock_guard lock(mutex_);
    jobs_.push_back({next_id_, std::move(operation)});
  }
  ++next_id_;
  if (thread_.joinable()) {
    work_signal_.notify_one();
  } else {
    thread_ = std::thread([this] { Run(); });
  }
}

void Signer::Forget(const Client& client) {
  std::erase(waiting_for_room_, &client);
  const auto asked = std::find_if(asked_.begin(), asked_.end(),
                                  [&](const Asked& one) { return one.client == &client; });
  if (asked == asked_.end()) return;
  const uint64_t id = asked->id;
  asked_.erase(asked);
  if (!waiting_for_room_.empty()) uv_async_send(done_signal_.get());
  const std::lock_guard lock(mutex_);
  std::erase_if(jobs_, [id](const Job& job) { return job.id == id; });
}

void Signer::OnDone() {
  std::vector<Job> done;
  {
    const std::lock_guard lock(mutex_);
    done.swap(done_);
  }
  for (Job& job : done) {
    const auto asked = std::find_if(asked_.begin(), asked_.end(),
                                    [&](const Asked& one) { return one.id == job.id; });
    if (asked == asked_.end()) continue;  // the client has gone
    Client& client = *asked->client;
    asked_.erase(asked);
    client.OnSigned(std::move(job.operation));
  }
  for (size_t room = kMaxOperations - std::min(asked_.size(), kMaxOperations);
       room > 0 && !waiting_for_room_.empty(); --room) {
    Client& client = *waiting_for_room_.front();
    waiting_for_room_.pop_front();
    client.OnRoom();
  }
  // None of those may want a signature after all; then nothing else calls the next.
  if (asked_.empty() && !waiting_for_room_.empty()) uv_async_send(done_signal_.get());
}

// ---- the thread
// ----------------------------------------------------------------------------------

void Signer::Run() {
  pthread_setname_np(pthread_self(), "signer");
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  (void)!nice(kNice);  // of this thread alone, on Linux
  std::unique_lock lock(mutex_);
  for (;;) {
    work_signal_.wait(lock, [this] { return ending_ || !jobs_.empty(); });
    if (ending_) return;
    Job job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    job.operation->Run();
    lock.lock();
    done_.push_back(std::move(job));
    lock.unlock();
    uv_async_send(done_signal_.get());
    lock.lock();
  }
}

}  // namespace gatepost::net
