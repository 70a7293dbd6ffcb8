// SPDX-License-Identifier: Apache-2.0
#include "gateway/net/connection_limits.h"

#include <functional>
#include <string_view>

namespace gatepost::net {

size_t ConnectionLimits::Hash::operator()(const Address::NetworkKey& key) const {
  return std::hash<std::string_view>()({reinterpret_cast<const char*>(key.data()), key.size()});
}

ConnectionLimits::Outcome ConnectionLimits::Admit(const Address& client) {
  if (!AdmitUnknown()) return Outcome::kServerFull;
  if (Identify(client)) return Outcome::kAdmitted;
  ReleaseUnknown();
  return Outcome::kTooManyOfAddress;
}

bool ConnectionLimits::AdmitUnknown() {
  if (total_.fetch_add(1, std::memory_order_relaxed) < max_total()) return true;
  ReleaseUnknown();
  return false;
}

bool ConnectionLimits::Identify(const Address& client) {
  return networks_.Add(client.Network(), max_per_network_.load(std::memory_order_relaxed));
}

void ConnectionLimits::ReleaseUnknown() {
  total_.fetch_sub(1, std::memory_order_relaxed);
}

void ConnectionLimits::Release(const Address& client) {
  ReleaseUnknown();
  networks_.Remove(client.Network());
}

}  // namespace gatepost::net
