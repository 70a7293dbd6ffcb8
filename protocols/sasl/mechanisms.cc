// SPDX-License-Identifier: Apache-2.0
#include "protocols/sasl/mechanisms.h"

#include <utility>

#include "protocols/line_framer.h"
#include "protocols/sasl/base64.h"
#include "protocols/sasl/oauth.h"
#include "protocols/sasl/scram.h"

namespace gatepost::sasl {
namespace {

constexpr std::string_view kUsernamePrompt = "VXNlcm5hbWU6";  // "Username:"
constexpr std::string_view kPasswordPrompt = "UGFzc3dvcmQ6";  // "Password:"

bool Presentable(std::string_view part) {
  return part.find_first_of(std::string_view("\0\r\n", 3)) == std::string_view::npos;
}

}  // namespace

std::optional<Mechanism> FindMechanism(std::string_view name) {
  for (size_t i = 0; i < static_cast<size_t>(Mechanism::kProtocol); ++i) {
    const auto mechanism = static_cast<Mechanism>(i);
    if (protocols::EqualsIgnoreCase(name, Name(mechanism))) return mechanism;
  }
  return std::nullopt;
}

ServerExchange::ServerExchange(Mechanism mechanism, std::string_view external_identity) {
  credentials_.mechanism = mechanism;
  if (mechanism == Mechanism::kExternal) credentials_.authentication_identity = external_identity;
}

ServerExchange::Status ServerExchange::Begin(std::optional<std::string_view> initial_response) {
  if (credentials_.mechanism == Mechanism::kCramMd5) {
    return initial_response ? Status::kMalformed : Status::kDone;  // the server speaks first
  }
  if (initial_response) return Step(*initial_response == "=" ? "" : *initial_response);
  challenge_ = credentials_.mechanism == Mechanism::kLogin ? kUsernamePrompt : std::string_view();
  return Status::kChallenge;
}

ServerExchange::Status ServerExchange::Step(std::string_view line) {
  if (line == "*") return Status::kAborted;
  protocols::Buffer message;
  if (!DecodeBase64(line, message)) return Status::kBadBase64;
  return Accept(message.view());
}

ServerExchange::Status ServerExchange::Accept(std::string_view message) {
  if (credentials_.mechanism == Mechanism::kLogin) {
    if (!Presentable(message)) return Status::kMalformed;
    if (!have_user_) {
      if (message.empty()) return Status::kMalformed;
      credentials_.authentication_identity = message;
      have_user_ = true;
      challenge_ = kPasswordPrompt;
      return Status::kChallenge;
    }
    credentials_.password = Secret(message);
    return Status::kDone;
  }
  if (credentials_.mechanism == Mechanism::kExternal) {
    // RFC 4422 §A.2: message = [authzid]
    if (!Presentable(message) || credentials_.authentication_identity.empty()) {
      return Status::kMalformed;
    }
    credentials_.authorization_identity = message;
    return Status::kDone;
  }
  if (IsToken(credentials_.mechanism) || IsRelayed(credentials_.mechanism)) {
    std::optional<Credentials> credentials = IsToken(credentials_.mechanism)
                                                 ? ParseOauth(credentials_.mechanism, message)
                                                 : ParseScramFirst(credentials_.mechanism, message);
    if (!credentials) return Status::kMalformed;
    credentials_ = *std::move(credentials);
    return Status::kDone;
  }
  // RFC 4616 §2: message = [authzid] NUL authcid NUL passwd
  const size_t first = message.find('\0');
  if (first == std::string_view::npos) return Status::kMalformed;
  const size_t second = message.find('\0', first + 1);
  if (second == std::string_view::npos) return Status::kMalformed;
  const std::string_view authorization = message.substr(0, first);
  const std::string_view authentication = message.substr(first + 1, second - first - 1);
  const std::string_view password = message.substr(second + 1);
  if (authentication.empty() || !Presentable(authorization) || !Presentable(authentication) ||
      !Presentable(password)) {
    return Status::kMalformed;
  }
  credentials_.authorization_identity = authorization;
  credentials_.authentication_identity = authentication;
  credentials_.password = Secret(password);
  return Status::kDone;
}

Credentials ServerExchange::TakeCredentials() {
  return std::move(credentials_);
}

bool AppendFirst(Mechanism mechanism, const Credentials& credentials, protocols::Buffer& output) {
  if (IsRelayed(mechanism)) {
    EncodeBase64(credentials.password.Reveal(), output);
    return true;
  }
  if (!IsToken(mechanism)) {
    AppendPlain(credentials, output);
    return true;
  }
  protocols::Buffer message;
  if (!AppendOauth(mechanism, credentials, message)) return false;
  EncodeBase64(message.view(), output);
  return true;
}

void AppendPlain(const Credentials& credentials, protocols::Buffer& output) {
  protocols::Buffer message;
  message << credentials.authorization_identity << std::string_view("\0", 1)
          << credentials.authentication_identity << std::string_view("\0", 1)
          << credentials.password.Reveal();
  EncodeBase64(message.view(), output);
}

bool QuotesPassword(std::string_view text, const Credentials& credentials) {
  if (credentials.password.empty()) return false;
  const auto quotes = [&](std::string_view secret) {
    return text.find(secret) != std::string_view::npos;
  };
  protocols::Buffer encoded;
  EncodeBase64(credentials.password.Reveal(), encoded);
  if (quotes(credentials.password.Reveal()) || quotes(encoded.view())) return true;
  for (const auto mechanism : {Mechanism::kPlain, Mechanism::kXoauth2, Mechanism::kOauthbearer}) {
    protocols::Buffer message;
    if (AppendFirst(mechanism, credentials, message) && quotes(message.view())) return true;
  }
  return false;
}

std::string WithoutPassword(std::string_view text, const Credentials& credentials) {
  return QuotesPassword(text, credentials) ? "(withheld: it quotes the password)"
                                           : std::string(text);
}

}  // namespace gatepost::sasl
