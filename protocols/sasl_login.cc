// SPDX-License-Identifier: Apache-2.0
#include "protocols/sasl_login.h"

#include <utility>

namespace gatepost::protocols {

std::vector<std::string_view> SaslLogin::Mechanisms() const {
  using sasl::Mechanism;
  std::vector names = {sasl::Name(Mechanism::kPlain), sasl::Name(Mechanism::kLogin)};
  if (!external_identity_.empty()) names.push_back(sasl::Name(Mechanism::kExternal));
  return names;
}

std::optional<sasl::Mechanism> SaslLogin::Find(std::string_view name) {
  const std::optional<sasl::Mechanism> mechanism = sasl::FindMechanism(name);
  if (mechanism && (mechanism != sasl::Mechanism::kExternal || !external_identity_.empty())) {
    return mechanism;
  }
  ++counts_.unknown_mechanisms;
  return std::nullopt;
}

SaslLogin::Status SaslLogin::Begin(sasl::Mechanism mechanism,
                                   std::optional<std::string_view> initial_response,
                                   Buffer& output) {
  exchange_.emplace(mechanism, external_identity_);
  return Took(exchange_->Begin(initial_response), false, output);
}

SaslLogin::Status SaslLogin::Step(std::string_view line, Buffer& output) {
  return Took(exchange_->Step(line), line.empty(), output);
}

SaslLogin::Status SaslLogin::Took(Status status, bool empty_line, Buffer& output) {
  under_way_ = status == Status::kChallenge;
  switch (status) {
    case Status::kChallenge:
      output << continuation_ << exchange_->challenge() << "\r\n";
      break;
    case Status::kDone:
      break;
    case Status::kBadBase64:
      ++counts_.bad_base64;
      exchange_.reset();
      break;
    case Status::kMalformed:
      if (empty_line) ++counts_.aborted_auth;
      exchange_.reset();
      break;
    case Status::kAborted:
      ++counts_.aborted_auth;
      exchange_.reset();
      break;
  }
  return status;
}

sasl::Credentials SaslLogin::TakeCredentials() {
  sasl::Credentials credentials = exchange_->TakeCredentials();
  exchange_.reset();
  return credentials;
}

void SaslLogin::Forget() {
  exchange_.reset();
  under_way_ = false;
}

}  // namespace gatepost::protocols
