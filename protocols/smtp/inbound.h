// What mail from outside may do, from clients that have not logged in: come for the domains that
// are ours, and nothing else.
//
// What is not understood is not relayed: of the forms of an address of RFC 5321 §4.1.2 those alone
// are taken that every server reads in the same way, and what is passed on is written anew. Views
// only. RFC 5321 §4.1.2 and §4.5.1, RFC 6531 §3.3 (UTF-8).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocols/engine.h"
#include "protocols/smtp/command.h"

namespace gatepost::smtp {

// NeedsNoLogin says whether a stranger may say this to the backend without our looking at more of
// it.
[[nodiscard]] bool NeedsNoLogin(Verb verb);

// Recipient is the argument of RCPT taken apart; the views live as long as the argument.
struct Recipient {
  enum class Kind : uint8_t {
    kMalformed,  // no Forward-path, or parameters that are none
    kForeign,    // one that we don't relay for, or whose meaning servers could disagree on
    kLocal
  };
  Kind kind = Kind::kMalformed;
  std::string_view local_part;
  std::string_view domain;      // empty: "postmaster" alone, RFC 5321 §4.5.1
  std::string_view parameters;  // without blanks around them

  // Command returns the RCPT command that says the same in the one plain form, with CRLF; for
  // kLocal.
  [[nodiscard]] std::string Command() const;
};

// ParseRecipient reads the argument of RCPT ("TO:<user@example.org> NOTIFY=NEVER"). It is local
// where its domain is one of `local_domains`, which are in lower case. Foreign are also: source
// routes
// (<@a,@b:user@example.org>), '%' and '!' in the local part, which some servers read as a route, an
// address within a quoted local part, address literals, names with a final dot, and addresses
// without a domain other than postmaster.
[[nodiscard]] Recipient ParseRecipient(std::string_view argument,
                                       const std::vector<std::string>& local_domains);

// NamesSubmitter says whether the argument of MAIL may have an AUTH parameter, by which a trusted
// client says who has sent a message (RFC 4954 §5).
[[nodiscard]] bool NamesSubmitter(std::string_view mail_argument);

// WithoutAuthParameter returns the argument of MAIL without its AUTH parameter: one that has not
// logged in says nothing of who has, and a backend without AUTH does not know the parameter.
// Nothing where the argument has no Reverse-path, or one without an end.
[[nodiscard]] std::optional<std::string> WithoutAuthParameter(std::string_view mail_argument);

// HelloName returns what a backend is told that the client is called, of its EHLO or HELO argument:
// the first word of it. Empty: nothing that could be told.
[[nodiscard]] std::string_view HelloName(std::string_view client_name);

}  // namespace gatepost::smtp
