// SPDX-License-Identifier: Apache-2.0
#include "gateway/net/networks.h"

#include <algorithm>

namespace gatepost::net {
namespace {

constexpr size_t kMappedBits = 96;  // in front of an IPv4 address, RFC 4291 §2.5.5.2

bool Begins(const std::array<uint8_t, 16>& address, const config::Network& network) {
  const size_t whole = network.bits / 8U;
  if (!std::equal(address.begin(), address.begin() + static_cast<ptrdiff_t>(whole),
                  network.address.begin())) {
    return false;
  }
  const size_t rest = network.bits % 8U;
  return rest == 0 || (address[whole] ^ network.address[whole]) >> (8 - rest) == 0;
}

}  // namespace

bool IsIn(const Address& address, std::span<const config::Network> networks) {
  const std::array<uint8_t, 16> bytes = address.Mapped();
  return std::any_of(networks.begin(), networks.end(), [&](const config::Network& network) {
    return (address.family() == AF_INET6 || network.bits >= kMappedBits) && Begins(bytes, network);
  });
}

}  // namespace gatepost::net
