// SPDX-License-Identifier: Apache-2.0
#include "protocols/ip_address.h"

#include <algorithm>

namespace gatepost::protocols {

std::optional<uint32_t> ParseDecimal(std::string_view text, uint32_t most) {
  if (text.empty() || text.size() > 5 || (text.size() > 1 && text[0] == '0')) return std::nullopt;
  uint32_t number = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    number = number * 10 + static_cast<uint32_t>(c - '0');
  }
  return number <= most ? std::optional(number) : std::nullopt;
}

bool ParseIpv4(std::string_view text, uint8_t* out) {
  for (size_t i = 0; i < 4; ++i) {
    const size_t end = i == 3 ? text.size() : std::min(text.find('.'), text.size());
    const auto byte = ParseDecimal(text.substr(0, end), 255);
    if (!byte) return false;
    out[i] = static_cast<uint8_t>(*byte);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return true;
}

bool ParseIpv6(std::string_view text, std::array<uint8_t, 16>& out) {
  out = {};
  size_t bytes = 0;
  std::optional<size_t> gap;  // where "::" stands
  if (text.starts_with("::")) {
    gap = 0;
    text.remove_prefix(2);
  }
  while (!text.empty()) {
    const size_t end = std::min(text.find(':'), text.size());
    const std::string_view group = text.substr(0, end);
    if (end == text.size() && group.find('.') != std::string_view::npos) {
      if (bytes > 12 || !ParseIpv4(group, out.data() + bytes)) return false;
      bytes += 4;
      break;
    }
    if (bytes == out.size() || group.empty() || group.size() > 4) return false;
    uint32_t value = 0;
    for (const char c : group) {
      constexpr std::string_view kDigits = "0123456789abcdefABCDEF";
      const size_t digit = kDigits.find(c);
      if (digit == std::string_view::npos) return false;
      value = value << 4 | static_cast<uint32_t>(digit < 16 ? digit : digit - 6);
    }
    out[bytes++] = static_cast<uint8_t>(value >> 8);
    out[bytes++] = static_cast<uint8_t>(value);
    text.remove_prefix(end);
    if (text.empty()) break;
    text.remove_prefix(1);
    if (text.empty()) return false;
    if (text.front() != ':') continue;
    if (gap) return false;
    gap = bytes;
    text.remove_prefix(1);
  }
  if (!gap) return bytes == out.size();
  if (bytes == out.size()) return false;
  // What stands behind the gap moves to the end.
  for (size_t from = bytes, to = out.size(); from > *gap;) {
    out[--to] = out[--from];
    out[from] = 0;
  }
  return true;
}

bool IsIpAddress(std::string_view text) {
  std::array<uint8_t, 16> bytes{};
  return ParseIpv4(text, bytes.data()) || ParseIpv6(text, bytes);
}

}  // namespace gatepost::protocols
