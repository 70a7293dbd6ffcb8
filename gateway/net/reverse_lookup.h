// The name of an address by DNS, confirmed: the one that its PTR record has, if that name has the
// address.
//
// The resolver's calls run on libuv's threads. Owned by who asks; destroying it forgets the
// question. One loop thread.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <uv.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "gateway/net/address.h"
#include "gateway/net/deadlines.h"

namespace gatepost::net {

class ReverseLookup final : private Deadlines::Entry {
 public:
  // What stands for a name in Postfix's XCLIENT and nginx's auth_http.
  static constexpr std::string_view kNoName = "[UNAVAILABLE]";
  static constexpr std::string_view kNoAnswer = "[TEMPUNAVAIL]";

  class Observer {
   public:
    // Called once, later: a host name, kNoName or kNoAnswer. The lookup may be destroyed.
    virtual void OnName(std::string_view name) = 0;

   protected:
    ~Observer() = default;
  };

  // Start asks, unless `*running`, which counts what is under way, has reached `most`: then null.
  [[nodiscard]] static std::unique_ptr<ReverseLookup> Start(
      uv_loop_t* loop, Deadlines& deadlines, const Address& address,
      std::chrono::milliseconds timeout, const std::shared_ptr<uint32_t>& running, uint32_t most,
      Observer& observer);
  ~ReverseLookup();
  ReverseLookup(const ReverseLookup&) = delete;
  ReverseLookup& operator=(const ReverseLookup&) = delete;

 private:
  struct Job;

  explicit ReverseLookup(Observer& observer) : observer_(observer) {}
  void OnDeadline() override;
  void Finish(std::string_view name);

  Observer& observer_;
  Job* job_ = nullptr;  // owned by libuv until it has ended
};

}  // namespace gatepost::net
