// SPDX-License-Identifier: Apache-2.0
#include "protocols/backend_login.h"

#include <algorithm>

#include "protocols/line_framer.h"
#include "protocols/sasl/base64.h"
#include "protocols/sasl/oauth.h"

namespace gatepost::protocols {

using sasl::Mechanism;

bool OffersMechanism(const Capabilities& capabilities, Mechanism mechanism) {
  const std::string_view name = sasl::Name(mechanism);
  return std::any_of(capabilities.begin(), capabilities.end(), [&](std::string_view line) {
    const std::string_view keyword = line.substr(0, line.find_first_of(" ="));
    if (!EqualsIgnoreCase(keyword, "AUTH") && !EqualsIgnoreCase(keyword, "SASL")) return false;
    line.remove_prefix(std::min(keyword.size() + 1, line.size()));
    while (!line.empty()) {
      const size_t end = std::min(line.find(' '), line.size());
      if (EqualsIgnoreCase(line.substr(0, end), name)) return true;
      line.remove_prefix(std::min(end + 1, line.size()));
    }
    return false;
  });
}

std::optional<Mechanism> MechanismFor(const sasl::Credentials& credentials, LoginMechanism wanted,
                                      const Capabilities& capabilities, bool own_first) {
  const auto if_offered = [&](Mechanism mechanism) -> std::optional<Mechanism> {
    // Only PLAIN can say on whose behalf, and the client's own message.
    const bool carries = mechanism == Mechanism::kPlain || sasl::IsRelayed(mechanism) ||
                         credentials.authorization_identity.empty();
    if (!carries || !OffersMechanism(capabilities, mechanism)) return std::nullopt;
    return mechanism;
  };
  if (sasl::IsRelayed(credentials.mechanism)) {
    return wanted == LoginMechanism::kAuto ? if_offered(credentials.mechanism) : std::nullopt;
  }
  switch (wanted) {
    case LoginMechanism::kPlain:
      return if_offered(Mechanism::kPlain);
    case LoginMechanism::kLogin:
      return Mechanism::kProtocol;
    case LoginMechanism::kXoauth2:
      return if_offered(Mechanism::kXoauth2);
    case LoginMechanism::kOauthbearer:
      return if_offered(Mechanism::kOauthbearer);
    case LoginMechanism::kAuto:
      break;
  }
  if (sasl::IsToken(credentials.mechanism)) {
    // A token is the same in both; nothing else may carry it.
    if (auto same = if_offered(credentials.mechanism)) return same;
    return if_offered(credentials.mechanism == Mechanism::kXoauth2 ? Mechanism::kOauthbearer
                                                                   : Mechanism::kXoauth2);
  }
  if (own_first) return Mechanism::kProtocol;
  return if_offered(Mechanism::kPlain).value_or(Mechanism::kProtocol);
}

Failed NoMechanism(const sasl::Credentials& credentials) {
  if (credentials.authorization_identity.empty() || sasl::IsRelayed(credentials.mechanism)) {
    return {BackendFailure::kNoMechanism, "no mechanism for these credentials is offered"};
  }
  return {BackendFailure::kNoAuthorization,
          "no mechanism for an authorization identity is offered"};
}

bool BackendExchange::Begin(Mechanism mechanism, const sasl::Credentials& credentials,
                            Buffer& message) {
  mechanism_ = mechanism;
  client_follows_ = sasl::IsToken(credentials.mechanism) || sasl::IsRelayed(mechanism);
  challenged_ = false;
  answer_.reset();
  return sasl::AppendFirst(mechanism, credentials, message);
}

std::optional<ClientAction> BackendExchange::OnChallenge(std::string_view challenge) {
  Buffer message;
  // PLAIN is over with its first message; of a token, only why it was refused may be asked about.
  const bool expected = sasl::IsRelayed(mechanism_) || (sasl::IsToken(mechanism_) && !challenged_);
  if (!expected || !sasl::DecodeBase64(challenge, message)) {
    return Failed{BackendFailure::kProtocolError, "unexpected challenge"};
  }
  challenged_ = true;
  if (client_follows_) return Challenged{std::string(message.view())};
  answer_ = sasl::Secret(sasl::OauthDummy(mechanism_));
  return std::nullopt;
}

void BackendExchange::Answer(std::string_view message) {
  // Where the mechanism is not the client's, neither is its way to say nothing.
  answer_ = sasl::Secret(sasl::IsToken(mechanism_) ? sasl::OauthDummy(mechanism_) : message);
}

bool BackendExchange::TakeAnswer(Buffer& line) {
  if (!answer_) return false;
  sasl::EncodeBase64(answer_->Reveal(), line);
  answer_.reset();
  return true;
}

}  // namespace gatepost::protocols
