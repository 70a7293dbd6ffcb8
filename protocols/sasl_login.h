// The SASL part of a server engine: the mechanisms that are offered, and the exchange under way.
//
// What IMAP, POP3 and SMTP share; the commands around it and the replies are theirs. Owned by its
// engine; one thread. RFC 4422.
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

  // `continuation` is what stands before a challenge: "+ " or "334 ". `counts` are the engine's;
  // what goes wrong is added to them.
  SaslLogin(std::string_view continuation, ServerCounts& counts)
      : continuation_(continuation), counts_(counts) {}

  // SetExternalIdentity says whom TLS proved the client to be; empty: nobody, and no EXTERNAL.
  void SetExternalIdentity(std::string identity) { external_identity_ = std::move(identity); }

  // Mechanisms returns the names of those that are offered.
  [[nodiscard]] std::vector<std::string_view> Mechanisms() const;
  // Find returns the mechanism of a name (any case), or nothing when it isn't offered.
  [[nodiscard]] std::optional<sasl::Mechanism> Find(std::string_view name);

  // Begin starts an exchange and Step takes the client's next line, without CRLF. A challenge has
  // been appended to `output` after kChallenge; after anything else the exchange is over.
  // `initial_response` is as sasl::ServerExchange::Begin has it.
  [[nodiscard]] Status Begin(sasl::Mechanism mechanism,
                             std::optional<std::string_view> initial_response, Buffer& output);
  [[nodiscard]] Status Step(std::string_view line, Buffer& output);

  // TakeCredentials returns what the client presented; once, after kDone.
  [[nodiscard]] sasl::Credentials TakeCredentials();

  // Whether the client's next line belongs to an exchange.
  [[nodiscard]] bool under_way() const { return under_way_; }
  // Forget drops an exchange under way.
  void Forget();

 private:
  Status Took(Status status, bool empty_line, Buffer& output);

  std::string_view continuation_;
  ServerCounts& counts_;
  std::string external_identity_;
  std::optional<sasl::ServerExchange> exchange_;
  bool under_way_ = false;
};

}  // namespace gatepost::protocols
