// SPDX-License-Identifier: Apache-2.0
#include "gateway/backends/directory.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "gateway/backends/account.h"
#include "gateway/net/connection_limits.h"

namespace gatepost::backends {
namespace {

config::Pool Stores(size_t members) {
  config::Pool pool;
  pool.name = "stores";
  for (size_t i = 0; i < members; ++i) {
    pool.members.push_back({"store" + std::to_string(i) + ".internal", 143});
  }
  return pool;
}

TEST(Pool, AUserMeetsTheSameMemberFromEveryReplica) {
  observe::Metrics metrics;
  const Pool one(Stores(5), protocols::Protocol::kImap, 0, metrics);
  const Pool two(Stores(5), protocols::Protocol::kImap, 0, metrics);
  std::map<uint32_t, int> share;
  for (int i = 0; i < 5000; ++i) {
    const std::string user = "user" + std::to_string(i) + "@example.org";
    EXPECT_EQ(one.Order(user), two.Order(user));
    ++share[one.Order(user).front()];
  }
  for (const auto& [member, users] : share) {
    EXPECT_GT(users, 800) << member;  // 1000 expected, about 28 standard deviation
    EXPECT_LT(users, 1200) << member;
  }
}

TEST(Pool, LosingAMemberMovesOnlyItsUsers) {
  observe::Metrics metrics;
  const Pool whole(Stores(5), protocols::Protocol::kImap, 0, metrics);
  const Pool less(Stores(4), protocols::Protocol::kImap, 0, metrics);  // without the last
  for (int i = 0; i < 2000; ++i) {
    const std::string user = "user" + std::to_string(i);
    const auto order = whole.Order(user);
    if (order.front() != 4) {
      EXPECT_EQ(less.Order(user).front(), order.front());
    } else {
      EXPECT_EQ(less.Order(user).front(), order[1]);
    }
  }
}

// RFC 4616 §2
TEST(Pool, ItsMasterUserActsForOthers) {
  observe::Metrics metrics;
  config::Pool settings = Stores(1);
  EXPECT_FALSE(Pool(settings, protocols::Protocol::kImap, 0, metrics).MasterLogin("alice"));
  settings.master_user = "gate";
  const Pool pool(settings, protocols::Protocol::kImap, 0, metrics, {sasl::Secret("m p"), {}});
  const auto login = pool.MasterLogin("alice");
  ASSERT_TRUE(login);
  EXPECT_EQ(login->authorization_identity, "alice");
  EXPECT_EQ(login->authentication_identity, "gate");
  EXPECT_EQ(login->password.Reveal(), "m p");
}

TEST(Pool, RemembersWhichMembersBelieveIt) {
  observe::Metrics metrics;
  Pool pool(Stores(3), protocols::Protocol::kImap, 0, metrics);
  EXPECT_TRUE(pool.Trust().empty());
  pool.SetTrust({"store2.internal", 143}, true);
  pool.SetTrust({"store0.internal", 143}, true);
  pool.SetTrust({"store0.internal", 143}, false);
  pool.SetTrust({"elsewhere.internal", 143}, true);
  const std::vector<std::pair<std::string, bool>> expected = {{"store0.internal:143", false},
                                                              {"store2.internal:143", true}};
  EXPECT_EQ(pool.Trust(), expected);
}

// Dovecot's auth_master_user_separator
TEST(Pool, ItsMasterUserMayStandBehindTheUser) {
  observe::Metrics metrics;
  config::Pool settings = Stores(1);
  settings.master_user = "gate";
  settings.master_user_separator = "*";
  const Pool pool(settings, protocols::Protocol::kImap, 0, metrics, {sasl::Secret("m p"), {}});
  const auto login = pool.MasterLogin("alice@example.org");
  ASSERT_TRUE(login);
  EXPECT_EQ(login->authorization_identity, "");
  EXPECT_EQ(login->authentication_identity, "alice@example.org*gate");
  EXPECT_FALSE(pool.MasterLogin("alice*other"));
}

sasl::Credentials Client(sasl::Mechanism mechanism = sasl::Mechanism::kPlain) {
  return {mechanism, "wish@example.org", "alice@example.org", sasl::Secret("own")};
}

TEST(AccountFor, UsesTheClientsOwnOrThePoolsAsItSays) {
  observe::Metrics metrics;
  config::Pool settings = Stores(1);
  settings.backend_user = "%n";
  settings.master_user = "gate";
  settings.account = "relay";
  const auto account = [&](sasl::Credentials own, bool vouched) {
    const Pool pool(settings, protocols::Protocol::kImap, 0, metrics,
                    {sasl::Secret("master's"), sasl::Secret("account's")});
    return AccountFor(pool, std::move(own), vouched);
  };
  // The backend decides: all that the client said, with names as the backend has them.
  const auto own = account(Client(), false);
  ASSERT_TRUE(own);
  EXPECT_EQ(own->authentication_identity, "alice");
  EXPECT_EQ(own->authorization_identity, "wish");
  EXPECT_EQ(own->password.Reveal(), "own");
  for (const auto login :
       {config::BackendLogin::kMaster, config::BackendLogin::kFixed, config::BackendLogin::kNone}) {
    settings.login = login;
    EXPECT_FALSE(account(Client(), false));
  }
  settings.login = config::BackendLogin::kSame;
  EXPECT_EQ(account(Client(), true)->authorization_identity, "");
  EXPECT_EQ(account(Client(), true)->password.Reveal(), "own");
  EXPECT_EQ(account(Client(sasl::Mechanism::kExternal), true)->authorization_identity, "alice");
  EXPECT_EQ(account(Client(sasl::Mechanism::kExternal), true)->password.Reveal(), "master's");
  EXPECT_FALSE(account(Client(sasl::Mechanism::kScramSha256), true));
  settings.login = config::BackendLogin::kMaster;
  EXPECT_EQ(account(Client(), true)->authentication_identity, "gate");
  EXPECT_EQ(account(Client(), true)->authorization_identity, "alice");
  settings.login = config::BackendLogin::kFixed;
  EXPECT_EQ(account(Client(), true)->authentication_identity, "relay");
  EXPECT_EQ(account(Client(), true)->authorization_identity, "");
  EXPECT_EQ(account(Client(), true)->password.Reveal(), "account's");
}

TEST(ConnectionLimits, CountsTheServerAndEachNetworkAndForgetsReleased) {
  net::ConnectionLimits limits(3, 2);
  const auto a = *net::Address::Parse("192.0.2.1", 1000);
  const auto b = *net::Address::Parse("192.0.2.2", 1000);
  using Outcome = net::ConnectionLimits::Outcome;
  EXPECT_EQ(limits.Admit(a), Outcome::kAdmitted);
  EXPECT_EQ(limits.Admit(a), Outcome::kAdmitted);
  EXPECT_EQ(limits.Admit(a), Outcome::kTooManyOfAddress);
  EXPECT_EQ(limits.Admit(b), Outcome::kAdmitted);
  EXPECT_EQ(limits.Admit(b), Outcome::kServerFull);
  limits.Release(a);
  EXPECT_EQ(limits.Admit(b), Outcome::kAdmitted);
}

TEST(ConnectionLimits, CountsAClientOnceItIsKnown) {
  net::ConnectionLimits limits(3, 1);
  const auto a = *net::Address::Parse("192.0.2.1", 1000);
  EXPECT_TRUE(limits.AdmitUnknown());
  EXPECT_TRUE(limits.AdmitUnknown());
  EXPECT_TRUE(limits.AdmitUnknown());
  EXPECT_FALSE(limits.AdmitUnknown());
  EXPECT_EQ(limits.total(), 3U);
  EXPECT_TRUE(limits.Identify(a));
  EXPECT_FALSE(limits.Identify(a));
  limits.ReleaseUnknown();
  limits.Release(a);
  EXPECT_EQ(limits.total(), 1U);
  EXPECT_TRUE(limits.Identify(a));
}

TEST(ConnectionLimits, IPv6ClientsShareTheirNetwork) {
  net::ConnectionLimits limits(10, 1);
  using Outcome = net::ConnectionLimits::Outcome;
  EXPECT_EQ(limits.Admit(*net::Address::Parse("2001:db8:0:1::1", 1)), Outcome::kAdmitted);
  EXPECT_EQ(limits.Admit(*net::Address::Parse("2001:db8:0:1::2", 1)), Outcome::kTooManyOfAddress);
  EXPECT_EQ(limits.Admit(*net::Address::Parse("2001:db8:0:2::1", 1)), Outcome::kAdmitted);
}

TEST(Address, AMappedAddressIsTheIPv4ClientThatItIs) {
  const auto mapped = net::Address::Parse("::ffff:192.0.2.7", 143);
  ASSERT_TRUE(mapped.has_value());
  EXPECT_EQ(net::Address(mapped->get()).Text(), "192.0.2.7:143");
  EXPECT_EQ(net::Address::Parse("2001:db8::1", 993)->Text(), "[2001:db8::1]:993");
  EXPECT_FALSE(net::Address::Parse("localhost", 1).has_value());
}

}  // namespace
}  // namespace gatepost::backends
