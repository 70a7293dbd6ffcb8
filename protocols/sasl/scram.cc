// SPDX-License-Identifier: Apache-2.0
#include "protocols/sasl/scram.h"

#include "protocols/line_framer.h"
#include "protocols/sasl/oauth.h"

namespace gatepost::sasl {
namespace {

constexpr size_t kMaxMessageBytes = 2048;

// TakeAttribute cuts "name=value," off and returns the value; nothing when it is not there.
std::optional<std::string_view> TakeAttribute(std::string_view& message, char name) {
  const size_t end = message.find(',');
  if (end == std::string_view::npos || end < 2 || message[0] != name || message[1] != '=') {
    return std::nullopt;
  }
  const std::string_view value = message.substr(2, end - 2);
  message.remove_prefix(end + 1);
  return value;
}

}  // namespace

std::optional<Credentials> ParseScramFirst(Mechanism mechanism, std::string_view message) {
  if (message.size() > kMaxMessageBytes || protocols::HasControl(message)) return std::nullopt;
  Credentials credentials;
  credentials.mechanism = mechanism;
  credentials.password = Secret(message);
  // gs2-cbind-flag: "p=…" would need the channel that ends with us.
  if (!message.starts_with("n,") && !message.starts_with("y,")) return std::nullopt;
  message.remove_prefix(2);
  if (message.starts_with(',')) {
    message.remove_prefix(1);
  } else {
    const auto authorization = TakeAttribute(message, 'a');
    if (!authorization || !DecodeSaslName(*authorization, credentials.authorization_identity)) {
      return std::nullopt;
    }
  }
  // A mandatory extension ("m=") is one that nobody has.
  const auto user = TakeAttribute(message, 'n');
  if (!user || !DecodeSaslName(*user, credentials.authentication_identity)) return std::nullopt;
  if (!message.starts_with("r=") || message.size() == 2) return std::nullopt;
  return credentials;
}

}  // namespace gatepost::sasl
