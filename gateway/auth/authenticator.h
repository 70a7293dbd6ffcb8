// The seam between a session and whatever decides who a client is.
//
// An Authenticator belongs to one worker. It answers at once or later, by the session's id: the
// session may be gone by then, and the worker drops the answer. Before it answers it may ask the
// client back, where the mechanism has it so. An outage is never "wrong password".
// SPDX-License-Identifier: Apache-2.0
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
#include "protocols/relay_scanner.h"
#include "protocols/sasl/credentials.h"
#include "protocols/sasl/mechanisms.h"
#include "tls/channel.h"
#include "tls/client_verifier.h"

namespace gatepost::auth {

// SessionId names a session of one worker; it is never reused for another session.
struct SessionId {
  uint32_t index = 0;
  uint32_t generation = 0;
  bool operator==(const SessionId&) const = default;
};

// KeyOf returns a number that no other session of the worker has.
[[nodiscard]] constexpr uint64_t KeyOf(SessionId id) {
  return uint64_t{id.generation} << 32 | id.index;
}

// What an authority is asked: who wants to log in, and all that is known about the client. Borrowed
// throughout, valid during the call.
struct Request {
  SessionId id;
  const sasl::Credentials& credentials;
  protocols::Protocol protocol;
  const config::Listener& listener;
  const net::Address& client;
  const net::Address& local;
  bool proxied = false;  // both addresses are what a PROXY header said
  // Then the ends of the connection itself; else null.
  const net::Address* real_client = nullptr;
  const net::Address* real_local = nullptr;
  std::string_view session;         // the session's id in logs, at most 64 bytes
  std::string_view client_name;     // EHLO or HELO argument, printable ASCII; empty elsewhere
  std::string_view challenge = {};  // with APOP: the timestamp of our greeting
  // Not null: nobody logs in; whether mail may go to this recipient is the question, to the
  // authority that the listener names for it.
  const protocols::RelayScanner::Recipient* recipient = nullptr;
  uint32_t attempt = 1;                                 // of this session, from 1
  const tls::Facts* tls = nullptr;                      // null: no TLS
  const tls::ClientCertificate* certificate = nullptr;  // null: the client presented none
};

struct AuthorityRuntime;

// What the backends of a listener's pool make possible.
struct BackendMechanisms {
  sasl::MechanismSet judged;  // they judge by themselves who logs in so
  sasl::MechanismSet served;  // who has logged in so, as another has found, can be logged in there
};

// Those that any authority knows what to do with: a password, however it comes, or a certificate
// that TLS has verified.
inline constexpr sasl::MechanismSet kPasswordMechanisms = {
    sasl::Mechanism::kPlain, sasl::Mechanism::kLogin, sasl::Mechanism::kExternal,
    sasl::Mechanism::kProtocol};

// What an authority says.
struct Verdict {
  bool accepted = false;
  // The backend itself is the authority: its answer to the login, with the client's own
  // credentials and no others, is the verdict.
  bool backend_decides = false;
  protocols::LoginFailure reason = protocols::LoginFailure::kBadCredentials;  // when not accepted
  bool timed_out = false;  // where that is why there is no answer
  std::string detail;      // for the log; no secret
  // Who the client is, as the authority writes the name; empty: whom the client named. When not
  // accepted: whom it may have meant.
  std::string user;
  std::string pool;                       // empty: the listener's
  std::optional<config::Member> backend;  // instead of the pool's members
  // How to speak to the backend, instead of what its pool says; TLS only where the pool has TLS.
  std::optional<config::BackendTls> backend_tls;
  std::optional<protocols::LoginMechanism> backend_mechanism;
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
  // Answers is the worker, who finds the session, if it still exists.
  class Answers {
   public:
    virtual void OnVerdict(SessionId id, Verdict verdict) = 0;
    // OnChallenge asks the client (not base64) before there is a verdict: Continue or Cancel
    // follows.
    virtual void OnChallenge(SessionId id, std::string_view challenge) = 0;

   protected:
    ~Answers() = default;
  };

  virtual ~Authenticator() = default;

  // Mechanisms returns what clients may log in with, where the backends of their listener's pool
  // make `backend` possible.
  [[nodiscard]] virtual sasl::MechanismSet Mechanisms(const BackendMechanisms& /*backend*/) const {
    return kPasswordMechanisms;
  }

  // Check answers now, or returns nothing and calls OnVerdict once, later; before that OnChallenge
  // as often as the mechanism wants.
  // With EXTERNAL the user is proven already, and asks to act for nobody else: the question is only
  // whether there is such a user.
  [[nodiscard]] virtual std::optional<Verdict> Check(const Request& request) = 0;

  // Continue gives the client's answer (not base64) to the challenge, to whoever has asked.
  virtual void Continue(SessionId, std::string_view /*answer*/) {}

  // Cancel tells that nobody waits for the verdict any more: the session has ended, or the client
  // has cancelled. An answer that comes all the same is dropped.
  virtual void Cancel(SessionId) {}
};

// BackendAuthority leaves the decision to the backend's own login, but for a client whose
// certificate has said already who it is.
class BackendAuthority final : public Authenticator {
 public:
  [[nodiscard]] sasl::MechanismSet Mechanisms(const BackendMechanisms& backend) const override {
    return kPasswordMechanisms | backend.judged;
  }
  [[nodiscard]] std::optional<Verdict> Check(const Request& request) override {
    Verdict verdict;
    verdict.accepted = true;
    verdict.backend_decides = request.credentials.mechanism != sasl::Mechanism::kExternal;
    return verdict;
  }
};

}  // namespace gatepost::auth
