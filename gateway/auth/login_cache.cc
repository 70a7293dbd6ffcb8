// SPDX-License-Identifier: Apache-2.0
#include "gateway/auth/login_cache.h"

#include <utility>

#include "protocols/buffer.h"

namespace gatepost::auth {

LoginCache::Key LoginCache::KeyOf(const Request& request) const {
  protocols::Buffer text;
  const auto add = [&](std::string_view part) {
    text << std::to_string(part.size()) << ":" << part;  // no two logins give the same text
  };
  add(sasl::Name(request.credentials.mechanism));
  add(request.credentials.authentication_identity);
  add(request.credentials.password.Reveal());
  add(protocols::Name(request.protocol));
  add(request.listener.name);
  add(request.client.Host());
  add(request.tls == nullptr ? "" : "tls");
  add(request.certificate == nullptr ? "" : request.certificate->sha1);
  return {hash_.Of(text.view(), 0), hash_.Of(text.view(), 1)};
}

const LoginCache::Login* LoginCache::Find(const Key& key, uint64_t now_ms) const {
  const auto found = logins_.find(key[0]);
  if (found == logins_.end() || found->second.check != key[1] || found->second.until_ms <= now_ms) {
    return nullptr;
  }
  return &found->second.login;
}

void LoginCache::Keep(const Key& key, Login login, uint64_t now_ms) {
  if (lifetime_ms_ == 0) return;
  if (logins_.size() >= kMaxLogins) {
    std::erase_if(logins_, [&](const auto& entry) { return entry.second.until_ms <= now_ms; });
    if (logins_.size() >= kMaxLogins) logins_.clear();
  }
  logins_.insert_or_assign(key[0], Entry{key[1], now_ms + lifetime_ms_, std::move(login)});
}

}  // namespace gatepost::auth
