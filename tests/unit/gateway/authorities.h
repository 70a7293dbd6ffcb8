// What tests of authorities have in common: who asks, and whom they answer.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "gateway/auth/authenticator.h"

namespace gatepost::auth::test {

// Asked keeps the verdicts that came later, and the challenges, by the session's index.
struct Asked final : Authenticator::Answers {
  void OnVerdict(SessionId id, Verdict verdict) override {
    verdicts.emplace(id.index, std::move(verdict));
  }
  void OnChallenge(SessionId id, std::string_view challenge) override {
    challenges.emplace(id.index, challenge);
  }
  std::map<uint32_t, Verdict> verdicts;
  std::multimap<uint32_t, std::string> challenges;
};

inline sasl::Credentials Login(const std::string& user, const std::string& password,
                               sasl::Mechanism mechanism = sasl::Mechanism::kPlain) {
  return {mechanism, {}, user, sasl::Secret(password)};
}

// Ask has the session `index` ask `authority` about `credentials`.
inline std::optional<Verdict> Ask(Authenticator& authority, uint32_t index,
                                  const sasl::Credentials& credentials,
                                  const std::string& listener_name = "imap-993") {
  config::Listener listener;
  listener.name = listener_name;
  const net::Address address;
  return authority.Check({.id = {index, 0},
                          .credentials = credentials,
                          .protocol = protocols::Protocol::kImap,
                          .listener = listener,
                          .client = address,
                          .local = address,
                          .session = {},
                          .client_name = {}});
}

}  // namespace gatepost::auth::test
