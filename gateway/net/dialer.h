// One connection attempt: a host name, its addresses in turn, one deadline for all, of which each
// address has its share, so that one that swallows packets does not hide the next.
//
// Owned by who wants the connection; destroying it cancels. One loop thread.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <uv.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "gateway/net/address.h"
#include "gateway/net/deadlines.h"
#include "gateway/net/resolver.h"
#include "gateway/net/uv_handle.h"

namespace gatepost::net {

class Dial final : private Deadlines::Entry {
 public:
  enum class Result : uint8_t { kConnected, kRefused, kTimeout, kUnresolved, kCount };

  class Observer {
   public:
    // Called once, never from inside the constructor. The Dial may be destroyed by the observer.
    virtual void OnDialed(Dial& dial) = 0;

   protected:
    ~Observer() = default;
  };

  Dial(uv_loop_t* loop, Resolver& resolver, Deadlines& deadlines, std::string host, uint16_t port,
       std::chrono::milliseconds timeout, Observer& observer);
  ~Dial();

  [[nodiscard]] Result result() const { return result_; }
  // Why it failed, naming the address; safe to log.
  [[nodiscard]] const std::string& error() const { return error_; }
  [[nodiscard]] const Address& address() const { return address_; }
  // TakeConnection returns the connected handle; once, after kConnected.
  [[nodiscard]] HandlePtr<uv_tcp_t> TakeConnection() { return std::move(connection_); }

 private:
  struct Request;

  void OnDeadline() override;
  void OnResolved(const Resolver::Answer& answer);
  void TryNext();
  void OnConnect(int status);
  void Finish(Result result, std::string error);

  uv_loop_t* loop_;
  std::string host_;
  uint16_t port_;
  Observer& observer_;
  Deadlines& deadlines_;
  const uint64_t give_up_ms_;  // loop time
  std::unique_ptr<Resolver::Ticket> ticket_;
  std::vector<Address> addresses_;
  size_t next_ = 0;
  Address address_;
  Request* request_ = nullptr;  // owned by libuv until its callback
  HandlePtr<uv_tcp_t> connection_;
  Result result_ = Result::kUnresolved;
  std::string error_;
};

}  // namespace gatepost::net
