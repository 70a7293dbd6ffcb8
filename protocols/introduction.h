// Introduction: what one server tells the next of a client for which it logs in, and what a trusted
// proxy in front has told us.
//
// The same facts go by IMAP ID (fields x-…), POP3 XCLIENT and SMTP XCLIENT, as Dovecot and Postfix
// have them; the PROXY protocol is another way. Pure functions.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "protocols/buffer.h"

namespace gatepost::protocols {

// The pairs of an IMAP ID command; a value that was NIL is left out.
using IdPairs = std::vector<std::pair<std::string, std::string>>;

// Texts are one line without control characters; what is empty or 0 is not told.
struct Introduction {
  std::string client_host;  // an address literal, IPv6 without brackets
  uint16_t client_port = 0;
  std::string server_host;  // where the client connected to
  uint16_t server_port = 0;
  std::string session_id;
  unsigned ttl = 0;         // how often the session may be passed on yet
  std::string transport;    // "insecure", or begins with "TLS"
  std::string server_name;  // SNI
  std::string helo;         // SMTP: how the client greeted
  std::string login;        // SMTP: the user, where the backend takes our word for it
  IdPairs id;               // IMAP: what the client says of itself
};

// How often a session may be passed on in all, so that proxies that lead to each other are noticed.
inline constexpr unsigned kFirstTtl = 7;

// RFC 2971 §3.3: at most 30 pairs, keys of 30 and values of 1024 bytes.
inline constexpr size_t kMaxIdPairs = 30;
inline constexpr size_t kMaxIdKeyBytes = 30;
inline constexpr size_t kMaxIdValueBytes = 1024;

// IdFields returns the pairs of an ID command that introduces a client: first what is ours to say,
// then its own as far as there is room.
[[nodiscard]] IdPairs IdFields(const Introduction& introduction);

// IsProxyField says whether only a trusted proxy may have a say about an ID field of this name.
[[nodiscard]] bool IsProxyField(std::string_view name);

// ReadIdField takes a field of a trusted proxy. False: the value is no good. An unknown field is
// skipped.
[[nodiscard]] bool ReadIdField(std::string_view name, std::string_view value, Introduction& out);

// XclientAttributes returns the attributes of XCLIENT and their values, not encoded; the address,
// with which the server may lose its trust in us, comes last.
using XclientAttribute = std::pair<std::string_view, std::string>;
[[nodiscard]] std::vector<XclientAttribute> XclientAttributes(const Introduction& introduction);

// ReadXclient takes the arguments of an XCLIENT command of a trusted proxy, with values in xtext or
// as they are. False: the syntax or a value is no good. An unknown attribute is skipped, and so is
// LOGIN: a client logs in here.
[[nodiscard]] bool ReadXclient(std::string_view arguments, bool xtext, Introduction& out);

// What we understand of it: the keyword line of EHLO, without LOGIN.
inline constexpr std::string_view kXclientKeyword =
    "XCLIENT NAME ADDR PORT PROTO HELO SESSION CLIENT-TRANSPORT TTL DESTNAME DESTADDR DESTPORT";

// AppendXtext appends `text` as RFC 3461 §4 has it.
void AppendXtext(std::string_view text, std::string& out);

}  // namespace gatepost::protocols
