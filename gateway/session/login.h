// What only the login of a session needs: freed as a whole when the relay begins.
//
// Private to session.cc and accounting.cc. Holds the credentials while they are needed.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gateway/session/session.h"

namespace gatepost::session {

struct Session::Login {
  std::unique_ptr<protocols::ServerEngine> server;  // null while logging in anew for a relay
  std::unique_ptr<protocols::ClientEngine> client;
  protocols::Buffer client_input;
  protocols::Buffer backend_input;
  protocols::Buffer output;
  std::optional<sasl::Credentials> credentials;  // the client's, then those for the backend
  std::unique_ptr<auth::PolicyCase> policy;      // what the policy service knows; null: nothing
  std::optional<auth::Policy::Decision> decision;
  uint64_t asked_ns = 0;  // when the authority was
  std::optional<auth::Verdict> verdict;
  std::string challenge;  // APOP's, in our greeting; empty: none
  std::string named;      // whom the client has named; with CRAM-MD5 nobody before the verdict
  BackendWay way;
  const auth::AuthorityRuntime* authority = nullptr;  // whose the verdict was
  bool backend_decides = false;  // the verdict: a refusal by the backend is one of the client
  bool own_wish = false;         // the client's, to act for somebody else: the account is its own
  std::shared_ptr<const protocols::Introduction> introduction;  // of the client, to the backend
  backends::Attempt attempt;                                    // at the member whose turn it is
  uint64_t turn = 0;                                            // of the pool's
  bool only = false;                                            // no other may serve instead
  std::shared_ptr<const backends::Roster> roster;  // of the pool, as it was at the first try
  std::vector<std::string> referred;               // the members that have sent the login on
  std::vector<uint32_t> tried;                     // of the roster
  std::unique_ptr<backends::Opening> opening;
  bool early = false;      // the opening was begun before the client's login
  bool waited = false;     // the connection was opened before it was needed
  bool exchanged = false;  // the client was asked something by this backend: no other will do
  protocols::LoginFailure failure = protocols::LoginFailure::kUnavailable;
  std::string message;       // the authority's words for it; empty: ours
  uint64_t wait_ms = 0;      // that the authority wants
  bool end_session = false;  // so does it
  uint64_t penalty_ms = 0;
  protocols::ServerCounts counted;  // what metrics know already
};

}  // namespace gatepost::session
