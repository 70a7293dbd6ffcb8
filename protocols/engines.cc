// SPDX-License-Identifier: Apache-2.0
#include "protocols/engines.h"

#include <array>
#include <utility>

#include "protocols/imap/client_engine.h"
#include "protocols/imap/server_engine.h"
#include "protocols/pop3/client_engine.h"
#include "protocols/pop3/server_engine.h"
#include "protocols/smtp/client_engine.h"
#include "protocols/smtp/server_engine.h"

namespace gatepost::protocols {

std::string_view Name(Protocol protocol) {
  static constexpr std::array<std::string_view, static_cast<size_t>(Protocol::kCount)> kNames = {
      "imap", "pop3", "smtp"};
  return kNames[static_cast<size_t>(protocol)];
}

std::string_view AlpnId(Protocol protocol) {
  return Name(protocol);
}

std::string_view Name(LoginFailure failure) {
  static constexpr auto kNames = std::to_array<std::string_view>(
      {"credentials", "authorization", "unavailable", "misconfigured", "connections", "rate",
       "disabled", "expired", "policy"});
  static_assert(kNames.size() == static_cast<size_t>(LoginFailure::kCount));
  return kNames[static_cast<size_t>(failure)];
}

std::unique_ptr<ServerEngine> MakeServerEngine(Protocol protocol, ServerFacts facts) {
  switch (protocol) {
    case Protocol::kImap:
      return std::make_unique<imap::ServerEngine>(std::move(facts));
    case Protocol::kPop3:
      return std::make_unique<pop3::ServerEngine>(std::move(facts));
    case Protocol::kSmtp:
      return std::make_unique<smtp::ServerEngine>(std::move(facts));
    case Protocol::kCount:
      break;
  }
  return nullptr;
}

std::unique_ptr<ClientEngine> MakeClientEngine(Protocol protocol, ClientFacts facts) {
  switch (protocol) {
    case Protocol::kImap:
      return std::make_unique<imap::ClientEngine>(std::move(facts));
    case Protocol::kPop3:
      return std::make_unique<pop3::ClientEngine>(std::move(facts));
    case Protocol::kSmtp:
      return std::make_unique<smtp::ClientEngine>(std::move(facts));
    case Protocol::kCount:
      break;
  }
  return nullptr;
}

}  // namespace gatepost::protocols
