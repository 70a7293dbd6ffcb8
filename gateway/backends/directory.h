// The pools: their members, how to speak to them, which member a user meets, what they can do.
//
// Made once from the configuration, shared by all workers. Only the capabilities and the troubles
// change, behind mutexes that are taken once a connection at most. Thread-safe.
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
#include "gateway/backends/troubles.h"
#include "gateway/observe/metrics.h"
#include "protocols/engines.h"
#include "protocols/sasl/credentials.h"
#include "tls/channel.h"

namespace gatepost::backends {

struct PoolSeries {
  observe::CounterId connected, refused, timeout, tls_failed, rejected, early_used, early_unused;
  observe::CounterId tls_full, tls_resumed, tls_timeout;
  std::array<observe::CounterId, static_cast<size_t>(tls::Failure::kCount)> tls_failures;
  std::array<observe::CounterId, static_cast<size_t>(tls::FailedCheck::kCount)> failed_checks;
  observe::HistogramId connect_duration, login_duration;
  std::vector<observe::GaugeId> member_sessions;
};

// Pool is a pool as one protocol uses it.
class Pool {
 public:
  // Of master_user and of account.
  struct Passwords {
    sasl::Secret master;
    sasl::Secret account;
  };

  // `index`: its place in the directory.
  Pool(const config::Pool& settings, protocols::Protocol protocol, size_t index,
       observe::Metrics& metrics, Passwords passwords = {});

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
  [[nodiscard]] std::string ServerName(const config::Member& member) const;

  // Order returns the members' indices in the order in which `user` should try them: rendezvous
  // hashing, so that a user meets the same member from every replica, and losing one member moves
  // only that member's users.
  [[nodiscard]] std::vector<uint32_t> Order(std::string_view user) const;

  // What the members offered last; null until learnt.
  [[nodiscard]] std::shared_ptr<const protocols::Capabilities> capabilities() const;
  void SetCapabilities(protocols::Capabilities capabilities);
  // Whether the first attempt to learn them has ended, well or not.
  [[nodiscard]] bool probed() const;
  void SetProbed();
  // Whether each member believed the last introduction of a client; a member of whom that is not
  // known is left out.
  [[nodiscard]] std::vector<std::pair<std::string, bool>> Trust() const;
  void SetTrust(const config::Member& member, bool given);
  [[nodiscard]] Troubles& troubles() const { return troubles_; }

 private:
  config::Pool settings_;
  protocols::Protocol protocol_;
  size_t index_;
  Passwords passwords_;
  PoolSeries series_;
  mutable Troubles troubles_;
  mutable std::mutex mutex_;
  std::shared_ptr<const protocols::Capabilities> capabilities_;
  bool probed_ = false;
  enum class Believes : uint8_t { kUnknown, kNo, kYes };
  std::vector<std::atomic<Believes>> trust_;  // of the members
};

class Directory {
 public:
  // Makes every pool that a listener uses; fails with a text that names the pool and the file of a
  // password, which is read here.
  [[nodiscard]] static tl::expected<std::unique_ptr<Directory>, std::string> Make(
      const config::Config& config, observe::Metrics& metrics);

  // Find returns the pool as `protocol` uses it, or null.
  [[nodiscard]] Pool* Find(std::string_view name, protocols::Protocol protocol) const;
  [[nodiscard]] const std::vector<std::unique_ptr<Pool>>& pools() const { return pools_; }

 private:
  std::vector<std::unique_ptr<Pool>> pools_;
};

// FromConfig translates the configuration's words.
[[nodiscard]] protocols::Protocol FromConfig(config::Protocol protocol);
[[nodiscard]] protocols::LoginMechanism FromConfig(config::LoginMechanism mechanism);

// MemberName returns "host:port", as logs and metrics have it.
[[nodiscard]] std::string MemberName(const config::Member& member);

// MinimumVersion returns the oldest TLS version that the pool's backends may have, as on the wire.
[[nodiscard]] uint16_t MinimumVersion(const config::Pool& pool);

}  // namespace gatepost::backends
