// SPDX-License-Identifier: Apache-2.0
#include "gateway/net/inbox.h"

#include <utility>

namespace gatepost::net {

Inbox::Inbox(uv_loop_t* loop) : wake_(new uv_async_t) {
  uv_async_init(loop, wake_.get(), [](uv_async_t* async) {
    if (async->data != nullptr) static_cast<Inbox*>(async->data)->Run();
  });
  wake_->data = this;
}

Inbox::~Inbox() {
  Close();
}

void Inbox::Post(std::function<void()> work) {
  const std::lock_guard lock(mutex_);
  if (!wake_) return;  // `work` is the caller's, and dies behind the lock
  posted_.push_back(std::move(work));
  uv_async_send(wake_.get());
}

void Inbox::Close() {
  HandlePtr<uv_async_t> wake;
  std::vector<std::function<void()>> unrun;  // destroyed without the lock: it may post elsewhere
  const std::lock_guard lock(mutex_);
  wake = std::move(wake_);
  unrun.swap(posted_);
}

void Inbox::Run() {
  std::vector<std::function<void()>> work;
  {
    const std::lock_guard lock(mutex_);
    work.swap(posted_);
  }
  for (const auto& function : work) function();
}

}  // namespace gatepost::net
