// One connection to a host name: its addresses, families in turn, the next one begun when the last
// has failed or not answered for a moment; the first that connects is taken. One deadline for all.
//
// Owned by who wants the connection; destroying it cancels. One loop thread. RFC 8305 §4, §5.
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
  // The same for addresses that are known, with their ports.
  Dial(uv_loop_t* loop, const std::vector<Address>& addresses, Deadlines& deadlines,
       std::chrono::milliseconds timeout, Observer& observer);
  ~Dial();

  [[nodiscard]] Result result() const { return result_; }
  // Why it failed, naming the address; safe to log.
  [[nodiscard]] const std::string& error() const { return error_; }
  [[nodiscard]] const Address& address() const { return address_; }
  // TakeConnection returns the connected handle; once, after kConnected.
  [[nodiscard]] HandlePtr<uv_tcp_t> TakeConnection() { return std::move(connection_); }

 private:
  static constexpr uint64_t kNextMs = 250;   // RFC 8305 §5, the Connection Attempt Delay
  static constexpr size_t kMaxAttempts = 4;  // at a time

  struct Request;
  struct Attempt {
    Request* request;  // owned by libuv until its callback
    Address address;
    HandlePtr<uv_tcp_t> connection;
  };

  void OnDeadline() override;
  void OnResolved(const Resolver::Answer& answer);
  void Use(const std::vector<Address>& addresses);
  void TryNext();
  void OnConnect(Request* request, int status);
  void Finish(Result result, std::string error);
  [[nodiscard]] uint64_t Left() const;

  uv_loop_t* loop_;
  std::string host_;
  uint16_t port_ = 0;
  Observer& observer_;
  Deadlines& deadlines_;
  const uint64_t give_up_ms_;  // loop time
  std::unique_ptr<Resolver::Ticket> ticket_;
  std::vector<Address> addresses_;
  size_t next_ = 0;
  std::vector<Attempt> attempts_;  // the oldest first
  Address address_;                // of the last attempt that began, then of the connection
  HandlePtr<uv_tcp_t> connection_;
  Result result_ = Result::kUnresolved;
  std::string error_;
};

}  // namespace gatepost::net
