// Whether an address is in one of the networks that the configuration names.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "config/schema.h"
#include "gateway/net/address.h"

namespace gatepost::net {

// IsIn says whether `address` is in one of `networks`. An IPv4 address is in IPv4 networks only,
// not in "::/0".
[[nodiscard]] bool IsIn(const Address& address, std::span<const config::Network> networks);

}  // namespace gatepost::net
