// SPDX-License-Identifier: Apache-2.0
#include "gateway/auth/throttle_event.h"

#include <fmt/format.h>

#include <charconv>
#include <limits>

namespace gatepost::auth {
namespace {

// TakeHex cuts a number off with the blank before it; it is written in one way alone.
std::optional<uint64_t> TakeHex(std::string_view& text) {
  if (!text.starts_with(' ')) return std::nullopt;
  text.remove_prefix(1);
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, 16);
  const auto length = static_cast<size_t>(end - text.data());
  if (error != std::errc() || fmt::format("{:x}", number) != text.substr(0, length)) {
    return std::nullopt;
  }
  text.remove_prefix(length);
  return number;
}

}  // namespace

std::string Encode(const ThrottleEvent& event) {
  return fmt::format("{} {:x} {:x} {:x} {:x} {:x}",
                     event.kind == ThrottleEvent::Kind::kFailed ? 'f' : 's', event.keys[0],
                     event.keys[1], event.keys[2], event.mark, event.origin);
}

std::optional<ThrottleEvent> ParseThrottleEvent(std::string_view text) {
  ThrottleEvent event;
  if (text.starts_with('s')) {
    event.kind = ThrottleEvent::Kind::kSucceeded;
  } else if (!text.starts_with('f')) {
    return std::nullopt;
  }
  text.remove_prefix(1);
  for (uint64_t& key : event.keys) {
    const auto number = TakeHex(text);
    if (!number) return std::nullopt;
    key = *number;
  }
  const auto mark = TakeHex(text);
  const auto origin = TakeHex(text);
  if (!mark || *mark > std::numeric_limits<uint16_t>::max() || !origin || !text.empty()) {
    return std::nullopt;
  }
  event.mark = static_cast<uint16_t>(*mark);
  event.origin = *origin;
  return event;
}

}  // namespace gatepost::auth
