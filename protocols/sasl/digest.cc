// SPDX-License-Identifier: Apache-2.0
#include "protocols/sasl/digest.h"

#include <string>

namespace gatepost::sasl {

std::optional<Credentials> ParseDigest(Mechanism mechanism, std::string_view message) {
  constexpr size_t kDigits = 32;  // of an MD5
  if (message.size() < kDigits + 2 || message[message.size() - kDigits - 1] != ' ') {
    return std::nullopt;
  }
  const std::string_view digest = message.substr(message.size() - kDigits);
  message.remove_suffix(kDigits + 1);
  if (digest.find_first_not_of("0123456789abcdefABCDEF") != std::string_view::npos ||
      message.find_first_of(std::string_view("\0\r\n", 3)) != std::string_view::npos) {
    return std::nullopt;
  }
  return Credentials{mechanism, {}, std::string(message), Secret(digest)};
}

}  // namespace gatepost::sasl
