// SPDX-License-Identifier: Apache-2.0
#include "gateway/auth/login_cache.h"

#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "tests/unit/gateway/authorities.h"

namespace gatepost::auth {
namespace {

constexpr uint64_t kLifetimeMs = 1000;

TEST(LoginCache, TellsEveryLoginFromAnyOther) {
  const LoginCache cache(kLifetimeMs);
  const tls::Facts tls;
  tls::ClientCertificate certificate;
  certificate.sha1 = "ff";
  struct Parts {
    sasl::Credentials credentials = test::Login("alice", "secret");
    config::Listener listener;
    std::string address = "192.0.2.1";
    protocols::Protocol protocol = protocols::Protocol::kImap;
    const tls::Facts* tls = nullptr;
    const tls::ClientCertificate* certificate = nullptr;
  };
  const std::function<void(Parts&)> changes[] = {
      [](Parts&) {},
      [](Parts& p) { p.credentials = test::Login("alice", "secreT"); },
      [](Parts& p) { p.credentials = test::Login("alic", "esecret"); },
      [](Parts& p) { p.credentials = test::Login("alice6:secret", ""); },
      [](Parts& p) { p.credentials.mechanism = sasl::Mechanism::kExternal; },
      [](Parts& p) { p.listener.name = "other"; },
      [](Parts& p) { p.address = "192.0.2.2"; },
      [](Parts& p) { p.protocol = protocols::Protocol::kSmtp; },
      [&](Parts& p) { p.tls = &tls; },
      [&](Parts& p) { p.certificate = &certificate; },
  };
  std::set<LoginCache::Key> keys;
  for (const auto& change : changes) {
    Parts parts;
    change(parts);
    const net::Address client = *net::Address::Parse(parts.address, 1);
    const auto key = [&](uint32_t attempt) {
      return cache.KeyOf({.id = {attempt, 0},
                          .credentials = parts.credentials,
                          .protocol = parts.protocol,
                          .listener = parts.listener,
                          .client = client,
                          .local = client,
                          .session = {},
                          .client_name = {},
                          .attempt = attempt,
                          .tls = parts.tls,
                          .certificate = parts.certificate});
    };
    EXPECT_EQ(key(1), key(2));
    EXPECT_TRUE(keys.insert(key(1)).second);
  }
}

TEST(LoginCache, KeepsALoginForItsTime) {
  LoginCache cache(kLifetimeMs);
  cache.Keep({1, 2}, {config::Member{"a", 143}, "user"}, 5000);
  ASSERT_NE(cache.Find({1, 2}, 5999), nullptr);
  EXPECT_EQ(cache.Find({1, 2}, 5999)->backend_user, "user");
  EXPECT_EQ(cache.Find({1, 2}, 6000), nullptr);
  EXPECT_EQ(cache.Find({1, 3}, 5000), nullptr);
  EXPECT_EQ(cache.Find({2, 2}, 5000), nullptr);
  LoginCache off(0);
  off.Keep({1, 2}, {}, 5000);
  EXPECT_EQ(off.size(), 0U);
}

TEST(LoginCache, IsBounded) {
  LoginCache cache(kLifetimeMs);
  for (uint64_t i = 0; i < 3 * LoginCache::kMaxLogins; ++i) {
    cache.Keep({i, i}, {}, i);
    ASSERT_LE(cache.size(), LoginCache::kMaxLogins);
    ASSERT_NE(cache.Find({i, i}, i), nullptr);
  }
}

}  // namespace
}  // namespace gatepost::auth
