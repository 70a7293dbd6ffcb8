// The seam between a session and whatever decides who a client is.
//
// An Authenticator belongs to one worker. It answers at once or later, by the session's id: the
// session may be gone by then, and the worker drops the answer. An outage is never "wrong
// password". SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "config/schema.h"
#include "gateway/net/address.h"
#include "protocols/engines.h"
#include "protocols/sasl/credentials.h"
#include "tls/channel.h"
#include "tls/client_verifier.h"

namespace gatepost::auth {

// SessionId names a session of one worker; it is never reused for another session.
struct SessionId {
  uint32_t index = 0;
  uint32_t generation = 0;
  bool operator==(const SessionId&) const = default;
};

// What an authority is asked: who wants to log in, and all that is known about the client. Borrowed
// throughout, valid during the call.
struct Request {
  SessionId id;
  const sasl::Credentials& credentials;
  protocols::Protocol protocol;
  const config::Listener& listener;
  const net::Address& client;
  const net::Address& local;
  bool proxied = false;             // both addresses are what a PROXY header said
  std::string_view session;         // the session's id in logs, at most 64 bytes
  std::string_view client_name;     // EHLO or HELO argument, printable ASCII; empty elsewhere
  uint32_t attempt = 1;             // of this session, from 1
  const tls::Facts* tls = nullptr;  // null: no TLS
  const tls::ClientCertificate* certificate = nullptr;  // null: the client presented none
};

struct AuthorityRuntime;

// What an authority says.
struct Verdict {
  bool accepted = false;
  // The backend itself is the authority: its answer to the login, with the client's own
  // credentials and no others, is the verdict.
  bool backend_decides = false;
  protocols::LoginFailure reason = protocols::LoginFailure::kBadCredentials;  // when not accepted
  bool timed_out = false;                 // where that is why there is no answer
  std::string detail;                     // for the log; no secret
  std::string pool;                       // empty: the listener's
  std::optional<config::Member> backend;  // instead of the pool's members
  // Nothing: the client's own, or those of the pool's master user.
  std::optional<sasl::Credentials> backend_credentials;
  // In the place of the client's own, where they are not empty.
  std::string backend_user;
  std::optional<sasl::Secret> backend_password;
  // When not accepted: what the client is told instead of our words; for SMTP with its reply code,
  // as protocols::ServerEngine::LoginFailed has it.
  std::string message;
  std::chrono::seconds wait{
      0};                    // hold the refusal back for so long, where that is longer than ours
  bool end_session = false;  // no other attempt on this connection
  const AuthorityRuntime* authority = nullptr;  // whose verdict it is; null: there is none for it
};

class Authenticator {
 public:
  // Answers is the worker: OnVerdict finds the session, if it still exists.
  class Answers {
   public:
    virtual void OnVerdict(SessionId id, Verdict verdict) = 0;

   protected:
    ~Answers() = default;
  };

  virtual ~Authenticator() = default;

  // Check answers now, or returns nothing and calls OnVerdict once, later. With the mechanism
  // EXTERNAL the user is proven already, and asks to act for nobody else: the question is only
  // whether there is such a user.
  [[nodiscard]] virtual std::optional<Verdict> Check(const Request& request) = 0;

  // Cancel tells that nobody waits for the verdict any more: the session has ended. An answer that
  // comes all the same is dropped.
  virtual void Cancel(SessionId) {}
};

// BackendAuthority leaves the decision to the backend's own login, but for a client whose
// certificate has said already who it is.
class BackendAuthority final : public Authenticator {
 public:
  [[nodiscard]] std::optional<Verdict> Check(const Request& request) override {
    Verdict verdict;
    verdict.accepted = true;
    verdict.backend_decides = request.credentials.mechanism != sasl::Mechanism::kExternal;
    return verdict;
  }
};

}  // namespace gatepost::auth
