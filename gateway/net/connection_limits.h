// How many connections there are, in all and of each client network; shared by all workers.
//
// Touched once at accept and once at close. Thread-safe.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

#include "gateway/net/address.h"
#include "gateway/sharded_counts.h"

namespace gatepost::net {

class ConnectionLimits {
 public:
  enum class Outcome : uint8_t { kAdmitted, kServerFull, kTooManyOfAddress };

  ConnectionLimits(uint32_t max_total, uint32_t max_per_network)
      : max_total_(max_total), max_per_network_(max_per_network) {}

  // Set changes the limits, for connections that come from now on.
  void Set(uint32_t max_total, uint32_t max_per_network) {
    max_total_.store(max_total, std::memory_order_relaxed);
    max_per_network_.store(max_per_network, std::memory_order_relaxed);
  }

  // Admit counts a connection when it may be served; each kAdmitted needs one Release.
  [[nodiscard]] Outcome Admit(const Address& client);
  void Release(const Address& client);

  // The same for one whose client is not known yet: AdmitUnknown counts it in all only, and needs a
  // ReleaseUnknown, until Identify has counted it for `client`; then it needs a Release.
  [[nodiscard]] bool AdmitUnknown();
  [[nodiscard]] bool Identify(const Address& client);
  void ReleaseUnknown();

  [[nodiscard]] uint32_t max_total() const { return max_total_.load(std::memory_order_relaxed); }
  [[nodiscard]] uint32_t total() const { return total_.load(std::memory_order_relaxed); }

 private:
  struct Hash {
    size_t operator()(const Address::NetworkKey& key) const;
  };

  std::atomic<uint32_t> max_total_;
  std::atomic<uint32_t> max_per_network_;
  std::atomic<uint32_t> total_{0};
  ShardedCounts<Address::NetworkKey, Hash> networks_;
};

}  // namespace gatepost::net
