// A listening socket of one worker. The socket itself was bound before the workers started (and
// before privileges were dropped); SO_REUSEPORT gives each worker an accept queue of its own.
// One loop thread.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <uv.h>

#include <cstddef>
#include <string>
#include <tl/expected.hpp>

#include "gateway/net/address.h"
#include "gateway/net/uv_handle.h"

namespace gatepost::net {

// Bind makes a bound (not listening) TCP socket, or says why it can't. The caller owns the
// descriptor. With `share` other sockets of this user may be bound to the same address
// (SO_REUSEPORT).
[[nodiscard]] tl::expected<int, std::string> Bind(const Address& address, bool share);

class Listener {
 public:
  class Observer {
   public:
    // `listener_index` is the one given to the constructor.
    virtual void OnAccept(size_t listener_index, HandlePtr<uv_tcp_t> connection) = 0;
    // A connection could not be accepted; libuv has already dropped it, the loop does not spin.
    virtual void OnAcceptError(size_t listener_index, int status) = 0;

   protected:
    ~Observer() = default;
  };

  // Takes the descriptor and begins to listen when Start is called.
  Listener(uv_loop_t* loop, int descriptor, size_t listener_index, Observer& observer);
  [[nodiscard]] int Start();

 private:
  void Accept(int status);

  Observer& observer_;
  size_t listener_index_;
  HandlePtr<uv_tcp_t> handle_;
};

}  // namespace gatepost::net
