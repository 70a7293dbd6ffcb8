// One backend of a pool, as all workers see it: its address, its health, what it can do, its load.
//
// Shared by those who hold it: a session keeps its member alive. Thread-safe; the one lock is that
// of the capabilities, taken once a connection.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/schema.h"
#include "gateway/backends/health.h"
#include "protocols/engine.h"

namespace gatepost::backends {

// What the configuration or the DNS says of a member.
struct MemberFacts {
  config::Member address;
  std::string tls_name;  // whose certificate it has; empty: the address's host
  uint32_t weight = 1;
  uint32_t priority = 0;  // those with a higher one are for when these are down
  bool operator==(const MemberFacts&) const = default;
};

class Member {
 public:
  Member(MemberFacts facts, const Health::Settings& health);

  [[nodiscard]] const MemberFacts& facts() const { return facts_; }
  [[nodiscard]] const config::Member& address() const { return facts_.address; }
  // "host:port", as logs and metrics have it.
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const std::string& tls_name() const {
    return facts_.tls_name.empty() ? facts_.address.host : facts_.tls_name;
  }
  [[nodiscard]] uint32_t weight() const { return facts_.weight; }
  [[nodiscard]] uint32_t priority() const { return facts_.priority; }
  // StableHash of its name.
  [[nodiscard]] uint64_t hash() const { return hash_; }
  [[nodiscard]] Health& health() { return health_; }
  [[nodiscard]] const Health& health() const { return health_; }

  // What was wrong at the last failure: one line, for the log.
  [[nodiscard]] std::string problem() const;
  void SetProblem(std::string_view problem);

  // Whether it believed the last introduction of a client; nothing: not known.
  [[nodiscard]] std::optional<bool> trust() const {
    const Believes believes = believes_.load(std::memory_order_relaxed);
    if (believes == Believes::kUnknown) return std::nullopt;
    return believes == Believes::kYes;
  }
  void SetTrust(bool given) {
    believes_.store(given ? Believes::kYes : Believes::kNo, std::memory_order_relaxed);
  }

  // Logins that are under way there, and sessions that are relayed.
  void BeginLogin() { logins_.fetch_add(1, std::memory_order_relaxed); }
  void EndLogin() { logins_.fetch_sub(1, std::memory_order_relaxed); }
  void BeginSession() { sessions_.fetch_add(1, std::memory_order_relaxed); }
  void EndSession() { sessions_.fetch_sub(1, std::memory_order_relaxed); }
  [[nodiscard]] uint32_t logins() const { return logins_.load(std::memory_order_relaxed); }
  [[nodiscard]] uint32_t sessions() const { return sessions_.load(std::memory_order_relaxed); }

  // NoteLogin notes how long a login took that went well, from the connection to the answer.
  void NoteLogin(uint64_t took_ms);
  // How long logins take lately, in ms; nothing: none went well yet.
  [[nodiscard]] std::optional<double> login_ms() const;

  // What it offers to a login, as it said last; null until learnt.
  [[nodiscard]] std::shared_ptr<const protocols::Capabilities> capabilities() const;
  // SetCapabilities returns whether they are others than before.
  bool SetCapabilities(const protocols::Capabilities& capabilities);

 private:
  const MemberFacts facts_;
  const std::string name_;
  const uint64_t hash_;
  Health health_;
  enum class Believes : uint8_t { kUnknown, kNo, kYes };
  std::atomic<Believes> believes_{Believes::kUnknown};
  std::atomic<uint32_t> logins_{0};
  std::atomic<uint32_t> sessions_{0};
  std::atomic<double> login_ms_{-1};  // an average that forgets
  mutable std::mutex mutex_;
  std::shared_ptr<const protocols::Capabilities> capabilities_;
  std::string problem_;
};

// Attempt is a login at a member, counted as long as it lasts. It may be at none.
class Attempt {
 public:
  Attempt() = default;
  explicit Attempt(std::shared_ptr<Member> member) : member_(std::move(member)) {
    if (member_) member_->BeginLogin();
  }
  ~Attempt() {
    if (member_) member_->EndLogin();
  }
  Attempt(Attempt&& other) noexcept : member_(std::move(other.member_)) {}
  Attempt& operator=(Attempt&& other) noexcept {
    std::swap(member_, other.member_);
    return *this;
  }

  [[nodiscard]] const std::shared_ptr<Member>& member() const { return member_; }

 private:
  std::shared_ptr<Member> member_;
};

// Roster is who belongs to a pool, in the order of the configuration. Immutable.
using Roster = std::vector<std::shared_ptr<Member>>;

// MemberName returns "host:port"; IPv6 addresses in brackets.
[[nodiscard]] std::string MemberName(const config::Member& member);

// StableHash is the same across builds and machines, which std::hash is not.
[[nodiscard]] uint64_t StableHash(std::string_view text);

}  // namespace gatepost::backends
