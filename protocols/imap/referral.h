// Login referrals: a server says where a user's mailboxes are instead.
//
// Grammar only; nobody here says whether to believe it. RFC 2221; RFC 5092 (IMAP URLs).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace gatepost::imap {

struct Referral {
  std::string user;   // empty: the one who has logged in; no control characters
  std::string host;   // as it stands there, IPv6 without brackets; not checked
  uint16_t port = 0;  // 0: none was named
};

// ParseReferral reads "imap://user;AUTH=*@host:port/"; whatever stands behind the host is left out.
[[nodiscard]] std::optional<Referral> ParseReferral(std::string_view url);

}  // namespace gatepost::imap
