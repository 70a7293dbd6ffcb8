// What a client says who proves that it knows its password by a keyed digest of a challenge.
//
// The messages of CRAM-MD5 (RFC 2195 §2) and of POP3's APOP (RFC 1939 §7) are the same: a name and
// an MD5 in hexadecimal. Who knows the password has to check it. Pure function; what it returns
// owns its bytes.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string_view>

#include "protocols/sasl/credentials.h"

namespace gatepost::sasl {

// ParseDigest reads "name digest", not base64, as credentials of `mechanism` whose password is the
// digest; nothing where it is no such message, or the name can't be one. A name may hold spaces.
[[nodiscard]] std::optional<Credentials> ParseDigest(Mechanism mechanism, std::string_view message);

}  // namespace gatepost::sasl
