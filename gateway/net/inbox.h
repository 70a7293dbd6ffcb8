// Work that other threads hand to a loop.
//
// Lives on the loop's thread; Post is for any thread.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <uv.h>

#include <functional>
#include <mutex>
#include <vector>

#include "gateway/net/uv_handle.h"

namespace gatepost::net {

class Inbox {
 public:
  explicit Inbox(uv_loop_t* loop);
  ~Inbox();
  Inbox(const Inbox&) = delete;
  Inbox& operator=(const Inbox&) = delete;

  // Post has the loop run `work`, in the order of the calls; what is posted by such work has its
  // turn in the next iteration. Behind Close, `work` is destroyed unrun.
  void Post(std::function<void()> work);

  // Close destroys what was not run yet. The handle is closed by the loop's next iteration.
  void Close();

 private:
  void Run();

  std::mutex mutex_;
  HandlePtr<uv_async_t> wake_;  // null: closed
  std::vector<std::function<void()>> posted_;
};

}  // namespace gatepost::net
