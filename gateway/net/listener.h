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

// Listener accepts by itself: libuv 1.44 loops for ever inside one callback when no descriptor is
// left (uv__server_io with EMFILE). Then this one rests, and the clients wait in the backlog.
class Listener {
 public:
  class Observer {
   public:
    // `listener_index` is the one given to the constructor; `connection` has no owner's data yet.
    virtual void OnAccept(size_t listener_index, const Address& client,
                          HandlePtr<uv_tcp_t> connection) = 0;
    // A connection could not be accepted (a negative libuv status).
    virtual void OnAcceptError(size_t listener_index, int status) = 0;

   protected:
    ~Observer() = default;
  };

  // Takes the descriptor and begins to listen when Start is called.
  Listener(uv_loop_t* loop, int descriptor, size_t listener_index, Observer& observer);
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  // Start returns 0 or a negative libuv status.
  [[nodiscard]] int Start();

 private:
  int Watch();
  void AcceptAll();
  void Rest();

  uv_loop_t* loop_;
  int descriptor_;
  size_t listener_index_;
  Observer& observer_;
  HandlePtr<uv_poll_t> poll_;
  HandlePtr<uv_timer_t> rest_;
};

}  // namespace gatepost::net
