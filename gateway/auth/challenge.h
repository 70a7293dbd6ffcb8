// What CRAM-MD5 and APOP have a client make its digest of, where we ask it ourselves.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace gatepost::auth {

// NewChallenge returns "<random.seconds@host>" (RFC 1939 §7, RFC 2195 §2), which nobody can foresee
// and which does not come again; empty: the system gave no randomness.
[[nodiscard]] std::string NewChallenge(std::string_view host);

}  // namespace gatepost::auth
