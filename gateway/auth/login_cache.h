// Good logins about which a service was asked a moment ago, and need not be asked again.
//
// Of a login only a hash is kept, with a key that nobody else has: not its password, nor its user.
// Of fixed size at most. One worker's.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>

#include "config/schema.h"
#include "gateway/auth/authenticator.h"
#include "tls/keyed_hash.h"

namespace gatepost::auth {

class LoginCache {
 public:
  static constexpr size_t kMaxLogins = 4096;

  // A login is good for `lifetime_ms`; 0: nothing is kept.
  explicit LoginCache(uint64_t lifetime_ms) : lifetime_ms_(lifetime_ms) {}

  // Key is one login: the credentials, from where, by which listener and under which TLS.
  using Key = std::array<uint64_t, 2>;
  [[nodiscard]] Key KeyOf(const Request& request) const;

  // What the service said of it.
  struct Login {
    std::optional<config::Member> backend;
    std::string backend_user;
  };
  // Find returns a login that is still good, or null; valid until the next call.
  [[nodiscard]] const Login* Find(const Key& key, uint64_t now_ms) const;
  void Keep(const Key& key, Login login, uint64_t now_ms);

  [[nodiscard]] size_t size() const { return logins_.size(); }

 private:
  struct Entry {
    uint64_t check;  // the key's other half
    uint64_t until_ms;
    Login login;
  };

  const uint64_t lifetime_ms_;
  const tls::KeyedHash hash_;
  std::unordered_map<uint64_t, Entry> logins_;
};

}  // namespace gatepost::auth
