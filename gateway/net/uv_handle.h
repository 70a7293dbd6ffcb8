// Ownership of libuv handles: they live on the heap, since uv_close is asynchronous.
//
// A HandlePtr's destructor closes the handle; libuv gives the memory back one loop iteration later.
// The handle's `data` is cleared first, so no callback reaches its former owner.
// One loop thread.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <uv.h>

#include <memory>

namespace gatepost::net {

template <typename Handle>
struct CloseHandle {
  void operator()(Handle* handle) const {
    handle->data = nullptr;
    uv_close(reinterpret_cast<uv_handle_t*>(handle),
             [](uv_handle_t* closed) { delete reinterpret_cast<Handle*>(closed); });
  }
};

// HandlePtr owns an initialised handle. Make it with `HandlePtr<uv_tcp_t>(new uv_tcp_t)` only after
// (or right before) the uv_…_init call succeeded.
template <typename Handle>
using HandlePtr = std::unique_ptr<Handle, CloseHandle<Handle>>;

}  // namespace gatepost::net
