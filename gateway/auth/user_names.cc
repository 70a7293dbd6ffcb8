// SPDX-License-Identifier: Apache-2.0
#include "gateway/auth/user_names.h"

#include <algorithm>

namespace gatepost::auth {
namespace {

void Normalize(const config::Users& users, std::string& name) {
  if (name.empty()) return;
  size_t at = name.rfind('@');
  if (at == std::string::npos && users.default_domain) {
    at = name.size();
    name.append("@").append(*users.default_domain);
  }
  size_t begin = name.size();
  switch (users.lower_case) {
    case config::LowerCase::kNone:
      break;
    case config::LowerCase::kDomain:
      begin = std::min(at, name.size());
      break;
    case config::LowerCase::kAll:
      begin = 0;
      break;
  }
  // ASCII only: whoever has other letters in names compares them as they are.
  for (size_t i = begin; i < name.size(); ++i) {
    if (name[i] >= 'A' && name[i] <= 'Z') name[i] = static_cast<char>(name[i] - 'A' + 'a');
  }
}

}  // namespace

void NormalizeUsers(const config::Users& users, sasl::Credentials& credentials) {
  Normalize(users, credentials.authentication_identity);
  Normalize(users, credentials.authorization_identity);
  if (credentials.authorization_identity == credentials.authentication_identity) {
    credentials.authorization_identity.clear();
  }
}

std::string BackendUser(std::string_view pattern, std::string_view user) {
  const size_t at = std::min(user.rfind('@'), user.size());
  const std::string_view domain = user.substr(std::min(at + 1, user.size()));
  std::string name;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '%') {
      name += pattern[i];
      continue;
    }
    switch (pattern[++i]) {
      case 'u':
        name += user;
        break;
      case 'n':
        name += user.substr(0, at);
        break;
      case 'd':
        if (domain.empty()) return std::string(user);
        name += domain;
        break;
      default:
        name += '%';
    }
  }
  return name;
}

}  // namespace gatepost::auth
