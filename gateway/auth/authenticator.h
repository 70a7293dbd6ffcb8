// The seam between a session and whatever decides who a client is.
//
// An Authenticator belongs to one worker. It answers at once or later, by the session's id: the
// session may be gone by then, and the worker drops the answer. An outage is never "wrong
// password". SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "config/schema.h"
#include "protocols/engine.h"
#include "protocols/sasl/credentials.h"

namespace gatepost::auth {

// SessionId names a session of one worker; it is never reused for another session.
struct SessionId {
  uint32_t index = 0;
  uint32_t generation = 0;
  bool operator==(const SessionId&) const = default;
};

// What an authority says.
struct Verdict {
  bool accepted = false;
  // The backend itself is the authority: its answer to the login, with the client's own
  // credentials and no others, is the verdict.
  bool backend_decides = false;
  protocols::LoginFailure reason = protocols::LoginFailure::kBadCredentials;  // when not accepted
  std::string detail;                     // for the log; no secret
  std::string pool;                       // empty: the listener's
  std::optional<config::Member> backend;  // instead of the pool's members
  // Nothing: the client's own, or those of the pool's master user.
  std::optional<sasl::Credentials> backend_credentials;
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

  // Check answers now, or returns nothing and calls OnVerdict once, later. `credentials` is valid
  // during the call. With the mechanism EXTERNAL the user is proven already, and asks to act for
  // nobody else: the question is only whether there is such a user.
  [[nodiscard]] virtual std::optional<Verdict> Check(SessionId id,
                                                     const sasl::Credentials& credentials) = 0;

  // Metric label of the authority.
  [[nodiscard]] virtual std::string_view name() const = 0;
};

// BackendAuthority leaves the decision to the backend's own login, but for a client whose
// certificate has said already who it is.
class BackendAuthority final : public Authenticator {
 public:
  [[nodiscard]] std::optional<Verdict> Check(SessionId,
                                             const sasl::Credentials& credentials) override {
    Verdict verdict;
    verdict.accepted = true;
    verdict.backend_decides = credentials.mechanism != sasl::Mechanism::kExternal;
    return verdict;
  }
  [[nodiscard]] std::string_view name() const override { return "backend"; }
};

}  // namespace gatepost::auth
