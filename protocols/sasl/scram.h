// The one message of SCRAM that we read: the client's first, for whom it names.
//
// RFC 5802 §7, RFC 7677; GS2 header: RFC 5801. Pure functions.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string_view>

#include "protocols/sasl/credentials.h"

namespace gatepost::sasl {

// ParseScramFirst returns the names in `message` (not base64), and the message itself as the
// password; nothing when it is malformed, too long for any name, or asks for channel binding.
[[nodiscard]] std::optional<Credentials> ParseScramFirst(Mechanism mechanism,
                                                         std::string_view message);

}  // namespace gatepost::sasl
