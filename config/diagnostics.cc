// SPDX-License-Identifier: Apache-2.0
#include "config/diagnostics.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <tuple>
#include <utility>
#include <vector>

namespace gatepost::config {
namespace {

constexpr size_t kLongestQuote = 60;

char Lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

// Distance counts the insertions, deletions, replacements and swaps of neighbours that turn `a`
// into `b` (optimal string alignment).
size_t Distance(std::string_view a, std::string_view b) {
  std::vector<size_t> two_above, above(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    two_above = std::exchange(above, row);
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = Lower(a[i - 1]) == Lower(b[j - 1]) ? 0 : 1;
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + replaced});
      if (i > 1 && j > 1 && Lower(a[i - 1]) == Lower(b[j - 2]) &&
          Lower(a[i - 2]) == Lower(b[j - 1])) {
        row[j] = std::min(row[j], two_above[j - 2] + 1);
      }
    }
  }
  return row[b.size()];
}

}  // namespace

std::string Diagnostic::Text() const {
  std::string text = file;
  if (place.line > 0) {
    text += ":" + std::to_string(place.line) + ":" + std::to_string(place.column);
  }
  if (!key.empty()) text += ": " + key;
  return text + ": " + message;
}

std::string Quote(std::string_view text) {
  // RFC 3986 §3.2.1: in front of the host of a URL there may be a password.
  const size_t scheme = text.find("://");
  const size_t at = text.rfind('@');
  if (scheme != std::string_view::npos && at != std::string_view::npos && at > scheme) {
    return Quote(std::string(text.substr(0, scheme + 3)) + "***" +
                 std::string(text.substr(at + 1)));
  }
  static constexpr std::string_view kHex = "0123456789abcdef";
  std::string quoted = "\"";
  for (const char c : text.substr(0, kLongestQuote)) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      quoted += {'\\', c};
    } else if (byte < 0x20 || byte >= 0x7f) {
      quoted += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    } else {
      quoted += c;
    }
  }
  return quoted + (text.size() > kLongestQuote ? "\"..." : "\"");
}

std::string_view Nearest(std::string_view text, std::span<const std::string_view> words) {
  std::string_view nearest;
  if (text.size() > kLongestQuote) return nearest;
  size_t least = SIZE_MAX;
  for (const std::string_view word : words) {
    const size_t distance = Distance(text, word);
    // A third of the word may be wrong, or its end missing; beyond that it would be a guess.
    const bool beginning = text.size() >= 3 && Distance(text, word.substr(0, text.size())) == 0;
    if (distance < least && distance < word.size() &&
        (beginning || distance <= std::max<size_t>(1, word.size() / 3))) {
      least = distance;
      nearest = word;
    }
  }
  return nearest;
}

void Findings::Add(Place place, std::string key, std::string message) {
  diagnostics_.push_back({file_, place, std::move(key), std::move(message)});
}

Place Findings::PlaceOf(std::string_view path) const {
  while (true) {
    if (const auto found = places_.find(path); found != places_.end()) return found->second;
    const size_t end = path.find_last_of(".[");
    if (end == std::string_view::npos) return {};
    path = path.substr(0, end);
  }
}

bool Findings::Sound(std::string_view path) const {
  return std::none_of(diagnostics_.begin(), diagnostics_.end(), [&](const Diagnostic& finding) {
    const std::string_view key = finding.key;
    return key.starts_with(path) &&
           (key.size() == path.size() || key[path.size()] == '.' || key[path.size()] == '[');
  });
}

Diagnostics Findings::Take() {
  const auto place = [](const Diagnostic& d) { return std::tie(d.place.line, d.place.column); };
  std::stable_sort(diagnostics_.begin(), diagnostics_.end(),
                   [&](const Diagnostic& a, const Diagnostic& b) { return place(a) < place(b); });
  return std::move(diagnostics_);
}

}  // namespace gatepost::config
