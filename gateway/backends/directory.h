// The pools: their members, how to speak to them, what they can do.
//
// Made once from the configuration, shared by all workers. Only the capabilities, the troubles and
// the members' health change, behind mutexes that are taken once a connection at most. Thread-safe.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>
#include <vector>

#include "config/schema.h"
#include "gateway/backends/member.h"
#include "gateway/backends/troubles.h"
#include "gateway/observe/metrics.h"
#include "protocols/engines.h"
#include "protocols/sasl/credentials.h"
#include "tls/channel.h"

namespace gatepost::backends {

struct PoolSeries {
  observe::CounterId connected, refused, timeout, tls_failed, rejected;
  observe::CounterId early_used, early_unused;                               // with connect_early
  observe::CounterId referrals_followed, referrals_refused, referrals_loop;  // where they may be
  observe::CounterId lookups_ok, lookups_failed;                             // where it has names
  observe::CounterId tls_full, tls_resumed, tls_timeout;  // where it has TLS, and so what follows
  std::array<observe::CounterId, static_cast<size_t>(tls::Failure::kCount)> tls_failures;
  std::array<observe::CounterId, static_cast<size_t>(tls::FailedCheck::kCount)> failed_checks;
  observe::HistogramId connect_duration, login_duration;
};

// Pool is a pool as one protocol uses it.
class Pool {
 public:
  // Of master_user and of account.
  struct Passwords {
    sasl::Secret master;
    sasl::Secret account;
  };

  // `index`: its place in the directory. `past`: the same pool before a reload, whose members stay,
  // with all that is known of them; null: there is none.
  Pool(const config::Pool& settings, protocols::Protocol protocol, size_t index,
       observe::Metrics& metrics, Passwords passwords = {}, const Pool* past = nullptr);

  [[nodiscard]] const config::Pool& settings() const { return settings_; }
  [[nodiscard]] protocols::Protocol protocol() const { return protocol_; }
  [[nodiscard]] size_t index() const { return index_; }
  [[nodiscard]] const PoolSeries& series() const { return series_; }
  // MasterLogin returns what the master user logs in with on behalf of `user`, or why it can't.
  // FixedLogin is the account for everybody. Only for users whom another than the backend has found
  // out to be who they are.
  [[nodiscard]] tl::expected<sasl::Credentials, std::string> MasterLogin(
      const std::string& user) const;
  [[nodiscard]] tl::expected<sasl::Credentials, std::string> FixedLogin() const;
  // ServerName returns the name that the member's certificate must carry.
  [[nodiscard]] std::string ServerName(const Member& member) const;

  // Who belongs to it now; never null. A worker has a copy of its own (Worker::Roster), so that a
  // login takes no lock.
  [[nodiscard]] std::shared_ptr<const Roster> roster() const;
  // Renew makes it those with `facts`, in their order; who was there already stays, with all that
  // is known of it. Returns whether anything is new.
  bool Renew(const std::vector<MemberFacts>& facts);
  // At returns the member that has this address, or one of its own where the pool has none: an
  // authority may name any backend.
  [[nodiscard]] std::shared_ptr<Member> At(const config::Member& address) const;

  // NextTurn counts the logins of the pool, for those that go round.
  [[nodiscard]] uint64_t NextTurn() const { return turns_.fetch_add(1, std::memory_order_relaxed); }

  // Why no member can be used, while none is usable.
  struct Outage {
    bool misconfigured;  // all of them: no waiting will mend it
    std::string text;    // for the log
  };
  [[nodiscard]] Outage WhyDown() const;

  // What clients are shown before their login: all that every usable member offers, of those whose
  // capabilities are known. Null until one is; while no member is usable, as it was last.
  [[nodiscard]] std::shared_ptr<const protocols::Capabilities> capabilities() const;
  // RenewCapabilities is for who changed a member's capabilities or health.
  void RenewCapabilities();
  // Whether the first look at each member has ended, well or not.
  [[nodiscard]] bool probed() const { return probed_.load(std::memory_order_relaxed); }
  void SetProbed() { probed_.store(true, std::memory_order_relaxed); }
  // Whether each member believed the last introduction of a client; a member of whom that is not
  // known is left out.
  [[nodiscard]] std::vector<std::pair<std::string, bool>> Trust() const;
  [[nodiscard]] Troubles& troubles() const { return troubles_; }

 private:
  void RegisterTls(observe::Metrics& metrics);

  config::Pool settings_;
  protocols::Protocol protocol_;
  size_t index_;
  Passwords passwords_;
  Health::Settings health_;
  mutable std::atomic<uint64_t> turns_{0};
  PoolSeries series_;
  mutable Troubles troubles_;
  mutable std::mutex mutex_;
  std::shared_ptr<const Roster> roster_ = std::make_shared<Roster>();
  std::shared_ptr<const protocols::Capabilities> capabilities_;
  std::atomic<bool> probed_{false};
};

class Directory {
 public:
  // Makes every pool that a listener uses; fails with a text that names the pool and the file of a
  // password, which is read here. `past`: the one before a reload, or null.
  [[nodiscard]] static tl::expected<std::unique_ptr<Directory>, std::string> Make(
      const config::Config& config, observe::Metrics& metrics, const Directory* past = nullptr);

  // Find returns the pool as `protocol` uses it, or null.
  [[nodiscard]] Pool* Find(std::string_view name, protocols::Protocol protocol) const;
  [[nodiscard]] const std::vector<std::unique_ptr<Pool>>& pools() const { return pools_; }

 private:
  std::vector<std::unique_ptr<Pool>> pools_;
};

// HasNames tells whether some of the pool's members are found by the DNS.
[[nodiscard]] bool HasNames(const config::Pool& settings);

// FromConfig translates the configuration's words.
[[nodiscard]] protocols::Protocol FromConfig(config::Protocol protocol);
[[nodiscard]] protocols::LoginMechanism FromConfig(config::LoginMechanism mechanism);

// MinimumVersion returns the oldest TLS version that the pool's backends may have, as on the wire.
[[nodiscard]] uint16_t MinimumVersion(const config::Pool& pool);

}  // namespace gatepost::backends
