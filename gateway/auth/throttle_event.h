// What gateways tell each other of failed logins, as one line of text.
//
// It holds keyed hashes alone, no name, address or password. Pure functions.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace gatepost::auth {

struct ThrottleEvent {
  enum class Kind : uint8_t { kFailed, kSucceeded };
  Kind kind = Kind::kFailed;
  // Of the network, the user and the pair of both; 0: none.
  std::array<uint64_t, 3> keys{};
  uint16_t mark = 0;    // of the secret that was wrong; 0: unknown
  uint64_t origin = 0;  // of the gateway that has seen it
  bool operator==(const ThrottleEvent&) const = default;
};

[[nodiscard]] std::string Encode(const ThrottleEvent& event);
// ParseThrottleEvent is its reverse; nothing where `text` is anything else.
[[nodiscard]] std::optional<ThrottleEvent> ParseThrottleEvent(std::string_view text);

}  // namespace gatepost::auth
