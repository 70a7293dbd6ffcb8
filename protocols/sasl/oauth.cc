// SPDX-License-Identifier: Apache-2.0
#include "protocols/sasl/oauth.h"

#include <algorithm>
#include <string>

#include "protocols/line_framer.h"

namespace gatepost::sasl {
namespace {

constexpr std::string_view kSeparator = "\x01";
constexpr std::string_view kAuth = "auth=";
constexpr std::string_view kUser = "user=";
constexpr std::string_view kBearer = "Bearer ";

// Names go into lines and logs: no control character at all.
bool IsName(std::string_view text) {
  return !text.empty() && !protocols::HasControl(text);
}

// RFC 6750 §2.1: b64token = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="; some
// servers hand out others, so that all that is printable and no space goes.
bool IsTokenText(std::string_view text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7F; });
}

// TakePair cuts the next "key=value" and its separator off; empty at the end or without one.
std::string_view TakePair(std::string_view& pairs) {
  const size_t end = pairs.find(kSeparator);
  if (end == std::string_view::npos) return {};
  const std::string_view pair = pairs.substr(0, end);
  pairs.remove_prefix(end + 1);
  return pair;
}

void AppendSaslName(std::string_view name, protocols::Buffer& output) {
  for (size_t i = 0; i < name.size(); ++i) {
    if (name[i] == ',') {
      output << "=2C";
    } else if (name[i] == '=') {
      output << "=3D";
    } else {
      output << name.substr(i, 1);
    }
  }
}

}  // namespace

bool DecodeSaslName(std::string_view text, std::string& name) {
  name.clear();
  while (!text.empty()) {
    if (text.starts_with("=2C") || text.starts_with("=3D")) {
      name += text[2] == 'C' ? ',' : '=';
      text.remove_prefix(3);
    } else if (text.front() == '=' || text.front() == ',') {
      return false;
    } else {
      name += text.front();
      text.remove_prefix(1);
    }
  }
  return IsName(name);
}

std::optional<Credentials> ParseOauth(Mechanism mechanism, std::string_view message) {
  Credentials credentials;
  credentials.mechanism = mechanism;
  std::string& user = credentials.authentication_identity;
  if (mechanism == Mechanism::kOauthbearer) {
    // gs2-header kvsep *kvpair kvsep; we offer no channel binding, so that "p=" is a mistake.
    if (!message.starts_with("n,a=") && !message.starts_with("y,a=")) return std::nullopt;
    message.remove_prefix(4);
    const size_t end = message.find(',');
    if (end == std::string_view::npos || !DecodeSaslName(message.substr(0, end), user)) {
      return std::nullopt;
    }
    message.remove_prefix(end + 1);
    if (!message.starts_with(kSeparator)) return std::nullopt;
    message.remove_prefix(1);
  }
  while (!message.empty() && message != kSeparator) {
    std::string_view pair = TakePair(message);
    if (pair.empty()) return std::nullopt;
    if (pair.starts_with(kUser) && mechanism == Mechanism::kXoauth2) {
      if (!user.empty()) return std::nullopt;
      user = pair.substr(kUser.size());
    } else if (pair.starts_with(kAuth)) {
      pair.remove_prefix(kAuth.size());
      if (!credentials.password.empty() ||
          !protocols::EqualsIgnoreCase(pair.substr(0, kBearer.size()), kBearer)) {
        return std::nullopt;
      }
      pair.remove_prefix(kBearer.size());
      if (!IsTokenText(pair)) return std::nullopt;
      credentials.password = Secret(pair);
    }
  }
  if (message.empty() || !IsName(user) || credentials.password.empty()) return std::nullopt;
  return credentials;
}

bool AppendOauth(Mechanism mechanism, const Credentials& credentials, protocols::Buffer& output) {
  const std::string_view user = credentials.authentication_identity;
  const std::string_view token = credentials.password.Reveal();
  if (!IsName(user) || !IsTokenText(token)) return false;
  if (mechanism == Mechanism::kOauthbearer) {
    output << "n,a=";
    AppendSaslName(user, output);
    output << ",";
  } else {
    output << kUser << user;
  }
  output << kSeparator << kAuth << kBearer << token << kSeparator << kSeparator;
  return true;
}

}  // namespace gatepost::sasl
