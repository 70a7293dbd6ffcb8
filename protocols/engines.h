// Makes the engines of a protocol by its name: the one place that knows which protocols exist.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "protocols/engine.h"

namespace gatepost::protocols {

enum class Protocol : uint8_t { kImap, kPop3, kSmtp, kCount };

// Name returns "imap", "pop3" or "smtp": configuration value, metric label and log word.
std::string_view Name(Protocol protocol);

// AlpnId returns the IANA ALPN protocol id: "imap", "pop3", and "smtp" as nginx and Dovecot use it.
std::string_view AlpnId(Protocol protocol);

// Name returns why a login failed as metrics and the log call it: "credentials", "unavailable", …
std::string_view Name(LoginFailure failure);

std::unique_ptr<ServerEngine> MakeServerEngine(Protocol protocol, ServerFacts facts);
std::unique_ptr<ClientEngine> MakeClientEngine(Protocol protocol, ClientFacts facts);

}  // namespace gatepost::protocols
