// IP addresses as text, for protocols that carry them; the standard library has nothing to read
// them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace gatepost::protocols {

// ParseDecimal reads a number of at most five digits without leading zeros.
[[nodiscard]] std::optional<uint32_t> ParseDecimal(std::string_view text, uint32_t most);

// ParseIpv4 writes the four bytes of a dotted address to `out`.
[[nodiscard]] bool ParseIpv4(std::string_view text, uint8_t* out);

// ParseIpv6 writes those of an address of RFC 4291 §2.2, without a zone.
[[nodiscard]] bool ParseIpv6(std::string_view text, std::array<uint8_t, 16>& out);

// IsIpAddress says whether `text` is either.
[[nodiscard]] bool IsIpAddress(std::string_view text);

}  // namespace gatepost::protocols
