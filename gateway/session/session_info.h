// What a session is, for who looks at it from outside, and how one is picked out of many.
//
// Copies: nothing of it refers to the session, and no part is a secret.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace gatepost::session {

struct SessionInfo {
  std::string id;             // as the log has it
  std::string_view protocol;  // "imap", "pop3", "smtp"
  std::string listener;
  std::string client;          // address and port
  std::string user;            // as the last login named it, whatever became of it; not trusted
  std::string pool;            // empty: not chosen yet
  std::string backend;         // "host:port" of the member that was tried last
  std::string_view tls;        // "none", "TLSv1.3"
  std::string_view mechanism;  // of the login; empty: there was none
  std::string_view state;      // where it is: "relaying", …
  uint64_t age_ms = 0;
  uint64_t idle_ms = 0;   // since a byte was relayed; 0 before the relay
  uint64_t bytes_in = 0;  // relayed from the client
  uint64_t bytes_out = 0;
  uint64_t messages = 0;  // SMTP: accepted by the backend
};

// SessionFilter picks the sessions of which all that is not empty is true.
struct SessionFilter {
  std::string id;
  std::string user;
  std::string protocol;
  std::string backend;  // the name of a pool, or "host:port" of a member
};

}  // namespace gatepost::session
