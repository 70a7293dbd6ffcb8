// The SASL part of a server engine: the mechanisms that are offered, and the exchange under way.
//
// What IMAP, POP3 and SMTP share; the commands around it and the replies are theirs. The client's
// first words are understood here; what a backend or authority asks behind them is passed on.
// Owned by its engine; one thread. RFC 4422, RFC 7628.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "protocols/buffer.h"
#include "protocols/engine.h"
#include "protocols/sasl/mechanisms.h"

namespace gatepost::protocols {

class SaslLogin {
 public:
  using Status = sasl::ServerExchange::Status;

  // A refusal that waits for the client's answer to an error challenge.
  struct Refusal {
    LoginFailure reason;
    std::string text;
  };

  // `continuation` is what stands before a challenge: "+ " or "334 ". `counts` are the engine's;
  // what goes wrong is added to them.
  SaslLogin(std::string_view continuation, ServerCounts& counts)
      : continuation_(continuation), counts_(counts) {}

  // Offer says which mechanisms there are.
  void Offer(sasl::MechanismSet mechanisms) { offered_ = mechanisms; }
  // SetExternalIdentity says whom TLS proved the client to be; empty: nobody, and no EXTERNAL.
  void SetExternalIdentity(std::string identity) { external_identity_ = std::move(identity); }

  // Mechanisms returns the names of those that are offered.
  [[nodiscard]] std::vector<std::string_view> Mechanisms() const;
  // Find returns the mechanism of a name (any case), or nothing when it isn't offered.
  [[nodiscard]] std::optional<sasl::Mechanism> Find(std::string_view name);

  // Begin starts an exchange and Step takes the client's next line, without CRLF. A challenge has
  // been appended to `output` after kChallenge; after anything else the exchange is over, or, with
  // kDone, it is the session's turn: TakeAction. `initial_response` is as
  // sasl::ServerExchange::Begin has it.
  [[nodiscard]] Status Begin(sasl::Mechanism mechanism,
                             std::optional<std::string_view> initial_response, Buffer& output);
  [[nodiscard]] Status Step(std::string_view line, Buffer& output);

  // TakeAction returns what the client presented, once, after kDone: Authenticate, or Answer to a
  // Challenge. Nothing: it was the answer to an error challenge, and TakeRefusal's is due.
  [[nodiscard]] std::optional<ServerAction> TakeAction();
  [[nodiscard]] Refusal TakeRefusal();

  // Challenge appends what somebody behind us asks the client.
  void Challenge(std::string_view message, Buffer& output);

  // Ended says what an exchange that ended badly, with `outcome`, means for the session: Cancelled,
  // where it waits for an answer.
  [[nodiscard]] std::optional<ServerAction> Ended(std::optional<ServerAction> outcome);

  // HoldBack appends an error challenge where the mechanism wants one before the refusal, and keeps
  // that until the client has answered.
  [[nodiscard]] bool HoldBack(LoginFailure reason, std::string_view text, Buffer& output);

  // Whether the client's next line belongs to an exchange.
  [[nodiscard]] bool under_way() const { return under_way_; }
  // Forget drops an exchange under way.
  void Forget();

 private:
  Status Took(Status status, bool empty_line, Buffer& output);
  [[nodiscard]] bool Offers(sasl::Mechanism mechanism) const {
    return offered_.Has(mechanism) &&
           (mechanism != sasl::Mechanism::kExternal || !external_identity_.empty());
  }

  std::string_view continuation_;
  ServerCounts& counts_;
  sasl::MechanismSet offered_;
  std::string external_identity_;
  std::optional<sasl::ServerExchange> exchange_;
  sasl::Mechanism mechanism_ = sasl::Mechanism::kProtocol;  // of the login under way
  bool under_way_ = false;
  bool passing_ = false;  // a challenge from behind us was passed on, or awaits its answer
  sasl::Secret answer_;
  std::optional<Refusal> refusal_;
};

}  // namespace gatepost::protocols
