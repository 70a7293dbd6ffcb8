// How users' names are written: once, before a name is used for anything.
//
// Log, routing, authority and backend all see the name that NormalizeUsers made; BackendUser writes
// it as one pool's backends want it. Pure functions.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "config/schema.h"
#include "protocols/sasl/credentials.h"

namespace gatepost::auth {

// NormalizeUsers rewrites both identities as `users` has it. Who asks to act as itself asks for
// nothing (RFC 4422 §3.4.1): its authorization identity is empty from here on. What a relayed
// mechanism's first message says stays as it is: it is signed.
void NormalizeUsers(const config::Users& users, sasl::Credentials& credentials);

// BackendUser writes `user` by `pattern` (config::IsUserPattern). A name without a domain stays as
// it is where the pattern asks for the domain.
[[nodiscard]] std::string BackendUser(std::string_view pattern, std::string_view user);

}  // namespace gatepost::auth
