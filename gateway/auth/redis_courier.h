// A stream in Redis (or Valkey) by which gateways tell each other of failed logins.
//
// A thread of its own writes what this gateway sees and reads what others do; nobody waits for it.
// While Redis is away everything goes on as without it, and what there is to say is kept, up to a
// bound. The stream holds keyed hashes, is trimmed, and is forgotten by Redis when it is not used.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "config/schema.h"
#include "gateway/auth/throttle.h"
#include "gateway/observe/log.h"
#include "protocols/sasl/credentials.h"

struct redisContext;
struct redisReply;

namespace gatepost::auth {

class RedisCourier final : public Throttle::Courier {
 public:
  static constexpr size_t kKept = 10'000;  // events that can't be sent yet

  // `throttle` must outlive it. `password` may be empty.
  RedisCourier(const config::Throttle& settings, const sasl::Secret& password, Throttle& throttle,
               std::shared_ptr<observe::Log> log);
  // Waits for a moment until the thread has ended.
  ~RedisCourier() override;

  void Tell(ThrottleEvent event) override;
  [[nodiscard]] Figures figures() const override;

 private:
  struct Close {
    void operator()(redisContext* context) const;
  };
  struct Free {
    void operator()(redisReply* reply) const;
  };
  using Reply = std::unique_ptr<redisReply, Free>;
  using Words = std::vector<std::string_view>;

  void DropOldest();  // above kKept, under the mutex
  void Run();
  // Connect, LogIn, Send and Read return false when Redis does not do what it should; problem_ says
  // why.
  [[nodiscard]] bool Connect();
  [[nodiscard]] bool LogIn();
  [[nodiscard]] bool Send();
  [[nodiscard]] bool Read();
  // Ask returns Redis' answer, or null where there is none or an error.
  [[nodiscard]] Reply Ask(const Words& words);
  void Take(const redisReply& entry);
  void Lost();
  [[nodiscard]] bool stopping() const;

  const config::ServiceSocket socket_;
  const std::string user_;  // empty: Redis' default user
  const sasl::Secret password_;
  const uint64_t half_life_ms_;
  const uint64_t origin_;
  Throttle& throttle_;
  const std::shared_ptr<observe::Log> log_;

  // The thread's own.
  std::unique_ptr<redisContext, Close> redis_;
  std::string problem_;
  std::string last_;           // id of the entry that was read last
  uint64_t redis_now_ms_ = 0;  // its clock, when it was asked last
  uint64_t asked_ms_ = 0;      // our clock, then
  bool reported_ = false;

  std::atomic<bool> up_{false};
  std::atomic<uint64_t> sent_{0};
  std::atomic<uint64_t> received_{0};
  std::atomic<uint64_t> dropped_{0};
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<ThrottleEvent> kept_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace gatepost::auth
