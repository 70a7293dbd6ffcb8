// SHA-256 of what lies in several pieces, so that nobody has to join a secret to something else.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string_view>

namespace gatepost::tls {

// Sha256 returns the hash of `pieces` as they follow one another (FIPS 180-4); no copy of them
// stays behind.
[[nodiscard]] std::array<uint8_t, 32> Sha256(std::initializer_list<std::string_view> pieces);

}  // namespace gatepost::tls
