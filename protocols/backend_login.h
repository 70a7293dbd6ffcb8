// The SASL part of a client engine: which mechanism a backend is given, and what is said in it.
//
// What IMAP, POP3 and SMTP share; the commands around it are theirs. RFC 4422, RFC 7628.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "protocols/buffer.h"
#include "protocols/engine.h"
#include "protocols/sasl/mechanisms.h"

namespace gatepost::protocols {

// OffersMechanism says whether a backend's capabilities name a SASL mechanism: "AUTH=NAME" in IMAP,
// "SASL NAME …" in POP3, "AUTH NAME …" (or, of old, "AUTH=NAME …") in SMTP.
[[nodiscard]] bool OffersMechanism(const Capabilities& capabilities, sasl::Mechanism mechanism);

// MechanismFor returns how to log in with `credentials`, as `wanted` and the capabilities have it;
// kProtocol stands for the protocol's own commands (SMTP: for LOGIN). Nothing: it can't be done.
// `own_first`: an open choice falls on the protocol's own commands rather than on PLAIN.
[[nodiscard]] std::optional<sasl::Mechanism> MechanismFor(const sasl::Credentials& credentials,
                                                          LoginMechanism wanted,
                                                          const Capabilities& capabilities,
                                                          bool own_first);

// NoMechanism returns why MechanismFor has nothing that the backend would understand.
[[nodiscard]] Failed NoMechanism(const sasl::Credentials& credentials);

// BackendExchange is an exchange in which the first word is ours or the client's: PLAIN, the bearer
// tokens, and what is relayed.
class BackendExchange {
 public:
  // Begin appends the base64 of the first message; false where the credentials can't be written.
  // Both are borrowed until the exchange is over.
  [[nodiscard]] bool Begin(sasl::Mechanism mechanism, const sasl::Credentials& credentials,
                           Buffer& message);

  // OnChallenge takes a challenge behind the first message, in base64. It returns Challenged when
  // the client must answer it; nothing when we have, in answer(); or Failed.
  [[nodiscard]] std::optional<ClientAction> OnChallenge(std::string_view challenge);

  // Answer takes the client's, not base64.
  void Answer(std::string_view message);

  // TakeAnswer appends the base64 of the answer, where there is one to be sent.
  [[nodiscard]] bool TakeAnswer(Buffer& line);

 private:
  sasl::Mechanism mechanism_ = sasl::Mechanism::kPlain;
  bool client_follows_ = false;  // the client speaks such a mechanism, and understands challenges
  bool challenged_ = false;      // an answer is awaited
  std::optional<sasl::Secret> answer_;
};

}  // namespace gatepost::protocols
