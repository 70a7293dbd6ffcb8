// SPDX-License-Identifier: Apache-2.0
#include "protocols/imap/referral.h"

#include <charconv>

#include "protocols/line_framer.h"

namespace gatepost::imap {
namespace {

using protocols::EqualsIgnoreCase;

constexpr size_t kMaxUserBytes = 255;

// RFC 3986 §2.1; nothing where it is broken, or hides what no user's name has.
std::optional<std::string> DecodeUser(std::string_view text) {
  std::string user;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      user += text[i];
      continue;
    }
    uint8_t byte = 0;
    const std::string_view digits = text.substr(i + 1, 2);
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), byte, 16);
    if (error != std::errc() || end != digits.data() + 2) return std::nullopt;
    user += static_cast<char>(byte);
    i += 2;
  }
  if (user.size() > kMaxUserBytes || protocols::HasControl(user)) return std::nullopt;
  return user;
}

}  // namespace

std::optional<Referral> ParseReferral(std::string_view url) {
  constexpr std::string_view kScheme = "imap://";
  if (!EqualsIgnoreCase(url.substr(0, kScheme.size()), kScheme)) return std::nullopt;
  url.remove_prefix(kScheme.size());
  std::string_view authority = url.substr(0, url.find_first_of("/?#"));
  Referral referral;
  if (const size_t at = authority.rfind('@'); at != std::string_view::npos) {
    // A mechanism that it names is the backend's wish alone; a password has no place there.
    const std::string_view who = authority.substr(0, at);
    auto user = DecodeUser(who.substr(0, who.find(';')));
    if (!user || who.find(':') != std::string_view::npos) return std::nullopt;
    referral.user = *std::move(user);
    authority.remove_prefix(at + 1);
  }
  const bool brackets = authority.starts_with('[');
  const size_t end = brackets ? authority.find(']') : authority.find(':');
  if (brackets && end == std::string_view::npos) return std::nullopt;
  referral.host = authority.substr(brackets ? 1 : 0, brackets ? end - 1 : end);
  if (referral.host.empty()) return std::nullopt;
  std::string_view port;
  if (end != std::string_view::npos) port = authority.substr(brackets ? end + 1 : end);
  if (port.empty()) return referral;
  if (port.front() != ':') return std::nullopt;
  port.remove_prefix(1);
  const char* const last = port.data() + port.size();
  const auto [rest, error] = std::from_chars(port.data(), last, referral.port);
  if (error != std::errc() || rest != last || referral.port == 0) return std::nullopt;
  return referral;
}

}  // namespace gatepost::imap
