// Users' names as they are written here, and as a backend wants them.
// SPDX-License-Identifier: Apache-2.0
#include "gateway/auth/user_names.h"

#include <gtest/gtest.h>

namespace gatepost::auth {
namespace {

std::string Normal(const config::Users& users, std::string_view name) {
  sasl::Credentials credentials = {sasl::Mechanism::kPlain, "", std::string(name),
                                   sasl::Secret("P\xC3\x84SS")};
  sasl::Credentials wish = {sasl::Mechanism::kPlain, std::string(name), "else", {}};
  NormalizeUsers(users, credentials);
  NormalizeUsers(users, wish);
  EXPECT_EQ(wish.authorization_identity, credentials.authentication_identity);
  EXPECT_EQ(credentials.password.Reveal(), "P\xC3\x84SS");
  return credentials.authentication_identity;
}

TEST(UserNames, StayAsTheyAreByDefault) {
  EXPECT_EQ(Normal({}, "Alice@Example.ORG"), "Alice@Example.ORG");
  EXPECT_EQ(Normal({}, "Alice"), "Alice");
}

TEST(UserNames, AreMadeLowerCaseAsFarAsTold) {
  const config::Users domain{config::LowerCase::kDomain, std::nullopt};
  EXPECT_EQ(Normal(domain, "Alice@Example.ORG"), "Alice@example.org");
  EXPECT_EQ(Normal(domain, "A@B@Example.ORG"), "A@B@example.org");
  EXPECT_EQ(Normal(domain, "Alice"), "Alice");
  const config::Users all{config::LowerCase::kAll, std::nullopt};
  EXPECT_EQ(Normal(all, "\xC3\x84Lice@Example.ORG"), "\xC3\x84lice@example.org");
}

TEST(UserNames, GetTheDefaultDomainWhereTheyHaveNone) {
  const config::Users users{config::LowerCase::kDomain, "Example.net"};
  EXPECT_EQ(Normal(users, "Alice"), "Alice@example.net");
  EXPECT_EQ(Normal(users, "Alice@Example.ORG"), "Alice@example.org");
  EXPECT_EQ(Normal(users, ""), "");  // no authorization identity is none
}

// RFC 4422 §3.4.1: mutt and Postfix name themselves in both places.
TEST(UserNames, AreGivenOnceByWhoActsAsItself) {
  const config::Users users{config::LowerCase::kDomain, "example.net"};
  const auto wish = [&](std::string authorization, std::string authentication) {
    sasl::Credentials credentials = {sasl::Mechanism::kPlain, std::move(authorization),
                                     std::move(authentication), sasl::Secret("p")};
    NormalizeUsers(users, credentials);
    return credentials.authorization_identity;
  };
  EXPECT_EQ(wish("alice", "alice"), "");
  EXPECT_EQ(wish("alice", "alice@Example.net"), "");
  EXPECT_EQ(wish("bob", "alice"), "bob@example.net");
  EXPECT_EQ(wish("Alice", "alice"), "Alice@example.net");
}

TEST(UserNames, AreWrittenAsTheBackendWantsThem) {
  EXPECT_EQ(BackendUser("%u", "alice@example.org"), "alice@example.org");
  EXPECT_EQ(BackendUser("%n", "alice@example.org"), "alice");
  EXPECT_EQ(BackendUser("%n", "a@b@example.org"), "a@b");
  EXPECT_EQ(BackendUser("%d+%n%%", "alice@example.org"), "example.org+alice%");
  EXPECT_EQ(BackendUser("x%u", "alice"), "xalice");
  EXPECT_EQ(BackendUser("%n@%d", "alice"), "alice");
  EXPECT_EQ(BackendUser("%d+%n", "alice@"), "alice@");
}

}  // namespace
}  // namespace gatepost::auth
