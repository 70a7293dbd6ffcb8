// SPDX-License-Identifier: Apache-2.0
#include "gateway/backends/common_capabilities.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "protocols/line_framer.h"

namespace gatepost::backends {
namespace {

using protocols::EqualsIgnoreCase;

struct Line {
  std::string_view keyword;
  std::string_view arguments;
};

Line Split(std::string_view line) {
  const size_t space = std::min(line.find(' '), line.size());
  return {line.substr(0, space), line.substr(std::min(space + 1, line.size()))};
}

// RFC 1870 §4: a SIZE without a number, or with 0, sets no limit.
std::optional<uint64_t> Limit(const Line& size) {
  uint64_t number = 0;
  const std::string_view text = size.arguments;
  if (text.empty()) return number;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

bool HasWord(std::string_view words, std::string_view wanted) {
  while (!words.empty()) {
    const Line split = Split(words);
    if (EqualsIgnoreCase(split.keyword, wanted)) return true;
    words = split.arguments;
  }
  return false;
}

// Common returns what two lines with the same keyword have in common, or nothing.
std::optional<std::string> Common(const Line& a, const Line& b) {
  std::string common(a.keyword);
  if (EqualsIgnoreCase(a.arguments, b.arguments)) {
    if (!a.arguments.empty()) common.append(" ").append(a.arguments);
    return common;
  }
  if (EqualsIgnoreCase(a.keyword, "SIZE")) {
    const auto limit_a = Limit(a);
    const auto limit_b = Limit(b);
    if (!limit_a || !limit_b) return std::nullopt;
    const uint64_t smaller = *limit_a == 0   ? *limit_b
                             : *limit_b == 0 ? *limit_a
                                             : std::min(*limit_a, *limit_b);
    return common + " " + std::to_string(smaller);
  }
  for (std::string_view words = a.arguments; !words.empty();) {
    const Line split = Split(words);
    if (HasWord(b.arguments, split.keyword)) common.append(" ").append(split.keyword);
    words = split.arguments;
  }
  if (common.size() == a.keyword.size()) return std::nullopt;
  return common;
}

}  // namespace

protocols::Capabilities CommonCapabilities(const protocols::Capabilities& a,
                                           const protocols::Capabilities& b) {
  protocols::Capabilities common;
  for (const std::string& text : a) {
    const Line line = Split(text);
    // A keyword that comes twice ("AUTH" and "AUTH=") is compared with its equal first.
    auto match = std::find_if(b.begin(), b.end(),
                              [&](const auto& other) { return EqualsIgnoreCase(other, text); });
    if (match == b.end()) {
      match = std::find_if(b.begin(), b.end(), [&](const auto& other) {
        return EqualsIgnoreCase(Split(other).keyword, line.keyword);
      });
    }
    if (match == b.end()) continue;
    if (auto both = Common(line, Split(*match))) common.push_back(*std::move(both));
  }
  return common;
}

}  // namespace gatepost::backends
