// SPDX-License-Identifier: Apache-2.0
#include "protocols/sasl_login.h"

#include <utility>

#include "protocols/sasl/base64.h"
#include "protocols/sasl/oauth.h"

namespace gatepost::protocols {

std::vector<std::string_view> SaslLogin::Mechanisms() const {
  std::vector<std::string_view> names;
  for (size_t i = 0; i < static_cast<size_t>(sasl::Mechanism::kProtocol); ++i) {
    const auto mechanism = static_cast<sasl::Mechanism>(i);
    if (Offers(mechanism)) names.push_back(sasl::Name(mechanism));
  }
  return names;
}

std::optional<sasl::Mechanism> SaslLogin::Find(std::string_view name) {
  const std::optional<sasl::Mechanism> mechanism = sasl::FindMechanism(name);
  if (mechanism && Offers(*mechanism)) return mechanism;
  ++counts_.unknown_mechanisms;
  return std::nullopt;
}

SaslLogin::Status SaslLogin::Begin(sasl::Mechanism mechanism,
                                   std::optional<std::string_view> initial_response,
                                   Buffer& output) {
  passing_ = false;
  refusal_.reset();
  mechanism_ = mechanism;
  exchange_.emplace(mechanism, external_identity_);
  return Took(exchange_->Begin(initial_response), false, output);
}

SaslLogin::Status SaslLogin::Step(std::string_view line, Buffer& output) {
  if (refusal_) {  // whatever the client says: RFC 7628 §3.2.3 has it say nothing that counts
    under_way_ = false;
    return Status::kDone;
  }
  if (!passing_) return Took(exchange_->Step(line), line.empty(), output);
  if (line == "*") return Took(Status::kAborted, false, output);
  Buffer message;
  if (!sasl::DecodeBase64(line, message)) return Took(Status::kBadBase64, false, output);
  answer_ = sasl::Secret(message.view());
  return Took(Status::kDone, false, output);
}

SaslLogin::Status SaslLogin::Took(Status status, bool empty_line, Buffer& output) {
  under_way_ = status == Status::kChallenge;
  if (!under_way_ && status != Status::kDone) mechanism_ = sasl::Mechanism::kProtocol;
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

std::optional<ServerAction> SaslLogin::TakeAction() {
  if (refusal_) return std::nullopt;
  if (passing_) return protocols::Answer{std::move(answer_)};
  sasl::Credentials credentials = exchange_->TakeCredentials();
  exchange_.reset();
  return Authenticate{std::move(credentials)};
}

SaslLogin::Refusal SaslLogin::TakeRefusal() {
  Refusal refusal = *std::move(refusal_);
  refusal_.reset();
  return refusal;
}

void SaslLogin::Challenge(std::string_view message, Buffer& output) {
  passing_ = true;
  under_way_ = true;
  output << continuation_;
  sasl::EncodeBase64(message, output);
  output << "\r\n";
}

std::optional<ServerAction> SaslLogin::Ended(std::optional<ServerAction> outcome) {
  if (std::exchange(passing_, false) && !outcome) return Cancelled{};
  return outcome;
}

bool SaslLogin::HoldBack(LoginFailure reason, std::string_view text, Buffer& output) {
  const bool passed = std::exchange(passing_, false);
  const bool token = sasl::IsToken(std::exchange(mechanism_, sasl::Mechanism::kProtocol));
  if (passed || !token || reason != LoginFailure::kBadCredentials) return false;
  refusal_ = Refusal{reason, std::string(text)};
  under_way_ = true;
  output << continuation_;
  sasl::EncodeBase64(sasl::kOauthFailure, output);
  output << "\r\n";
  return true;
}

void SaslLogin::Forget() {
  exchange_.reset();
  refusal_.reset();
  mechanism_ = sasl::Mechanism::kProtocol;
  under_way_ = false;
}

}  // namespace gatepost::protocols
