// What is said to a policy service, and what it says: weakforced's allow and report as JSON, with
// the fields of Dovecot's auth_policy.
//
// No I/O. Pure functions.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

#include "protocols/engine.h"

namespace gatepost::auth {

// One login, as the service knows it. No secret, with a password_hash of few bits.
struct PolicyCase {
  std::string login;          // the user's name, as the gateway writes it
  std::string password_hash;  // PasswordHash
  std::string remote;         // the client's address
  std::string_view protocol;  // a constant
  std::string session;        // the session's id in logs
  std::string device;         // what an IMAP client says of itself
  bool tls = false;           // between the client and us
};

// PasswordHash returns the first `bits` (1 to 256) of SHA-256(nonce, login, NUL, password) as a
// number in hexadecimal: enough to tell one wrong password from another, and, with few bits, too
// little to tell which one it was.
[[nodiscard]] std::string PasswordHash(std::string_view nonce, std::string_view login,
                                       std::string_view password, uint32_t bits);

// AllowText asks whether the login may go on. ReportText tells what became of it; nothing: the
// client is logged in.
[[nodiscard]] std::string AllowText(const PolicyCase& login);
[[nodiscard]] std::string ReportText(const PolicyCase& login,
                                     std::optional<protocols::LoginFailure> failure);

struct PolicyAnswer {
  int64_t status = 0;   // below 0: refuse; 0: go on; above: that many seconds later
  std::string message;  // for the log; may be empty
};
// ParsePolicyAnswer reads the answer to AllowText; an error says what is wrong with it.
[[nodiscard]] tl::expected<PolicyAnswer, std::string> ParsePolicyAnswer(std::string_view text);

}  // namespace gatepost::auth
