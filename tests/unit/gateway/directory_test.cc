// SPDX-License-Identifier: Apache-2.0
#include "gateway/backends/directory.h"

#include <gtest/gtest.h>

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
    pool.members.push_back({{"store" + std::to_string(i) + ".internal", 143}});
  }
  return pool;
}

TEST(Pool, FindsItsOwnMemberByAddressAndTakesAnyOther) {
  observe::Metrics metrics;
  const Pool pool(Stores(2), protocols::Protocol::kImap, 0, metrics);
  EXPECT_EQ(pool.At({"store1.internal", 143}), (*pool.roster())[1]);
  const auto stranger = pool.At({"::1", 143});
  EXPECT_EQ(stranger->name(), "[::1]:143");
  EXPECT_EQ(pool.roster()->size(), 2U);
}

TEST(Pool, ShowsWhatEveryUsableMemberOffers) {
  observe::Metrics metrics;
  Pool pool(Stores(3), protocols::Protocol::kImap, 0, metrics);
  EXPECT_EQ(pool.capabilities(), nullptr);
  (*pool.roster())[0]->SetCapabilities({"IMAP4rev1", "IDLE", "MOVE", "AUTH=PLAIN"});
  pool.RenewCapabilities();
  EXPECT_EQ(*pool.capabilities(),
            (protocols::Capabilities{"IMAP4rev1", "IDLE", "MOVE", "AUTH=PLAIN"}));
  (*pool.roster())[1]->SetCapabilities({"AUTH=PLAIN", "IMAP4rev1", "idle", "SORT"});
  pool.RenewCapabilities();
  EXPECT_EQ(*pool.capabilities(), (protocols::Capabilities{"IMAP4rev1", "IDLE", "AUTH=PLAIN"}));
  (void)(*pool.roster())[1]->health().Checked(Health::Sign::kFails, "closed", 1);
  pool.RenewCapabilities();
  EXPECT_EQ(pool.capabilities()->size(), 4U);
  // While nobody serves, the last that was known stays.
  (void)(*pool.roster())[0]->health().Checked(Health::Sign::kFails, "closed", 1);
  pool.RenewCapabilities();
  EXPECT_EQ(pool.capabilities()->size(), 4U);
}

TEST(Pool, SaysWhyNoMemberIsUp) {
  observe::Metrics metrics;
  const Pool pool(Stores(2), protocols::Protocol::kImap, 0, metrics);
  (void)(*pool.roster())[0]->health().Checked(Health::Sign::kMisconfigured, "no_starttls", 1);
  (void)(*pool.roster())[1]->health().Checked(Health::Sign::kFails, "unreachable", 1);
  (*pool.roster())[0]->SetProblem("no STARTTLS");
  (*pool.roster())[1]->SetProblem("connection refused");
  EXPECT_EQ(pool.WhyDown().text,
            "no member of the pool is up: store0.internal:143 (no STARTTLS) store1.internal:143 "
            "(connection refused)");
  EXPECT_FALSE(pool.WhyDown().misconfigured);
  (void)(*pool.roster())[1]->health().Checked(Health::Sign::kMisconfigured, "no_starttls", 1);
  EXPECT_TRUE(pool.WhyDown().misconfigured);
}

TEST(Pool, ANewRosterKeepsWhoWasThereAlready) {
  observe::Metrics metrics;
  Pool pool(Stores(0), protocols::Protocol::kImap, 0, metrics);
  EXPECT_EQ(pool.WhyDown().text, "the pool's names have no addresses");
  const MemberFacts one{{"192.0.2.1", 143}, "store.example.org", 1, 0};
  const MemberFacts two{{"192.0.2.2", 143}, "store.example.org", 1, 0};
  EXPECT_TRUE(pool.Renew({one}));
  EXPECT_FALSE(pool.Renew({one}));
  const auto before = (*pool.roster())[0];
  before->BeginSession();
  EXPECT_TRUE(pool.Renew({two, one, one}));  // two names may have the same address
  ASSERT_EQ(pool.roster()->size(), 2U);
  EXPECT_EQ((*pool.roster())[1], before);
  EXPECT_EQ(pool.ServerName(*before), "store.example.org");
  EXPECT_TRUE(pool.Renew({two}));
  EXPECT_EQ(before->sessions(), 1U);  // its sessions keep it
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
  const auto roster = pool.roster();
  (*roster)[2]->SetTrust(true);
  (*roster)[0]->SetTrust(true);
  (*roster)[0]->SetTrust(false);
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
  const auto account = [&](sasl::Credentials own, const std::optional<std::string>& user) {
    const Pool pool(settings, protocols::Protocol::kImap, 0, metrics,
                    {sasl::Secret("master's"), sasl::Secret("account's")});
    return AccountFor(pool, std::move(own), user);
  };
  // The backend decides: all that the client said, with names as the backend has them.
  const auto own = account(Client(), std::nullopt);
  ASSERT_TRUE(own);
  EXPECT_EQ(own->authentication_identity, "alice");
  EXPECT_EQ(own->authorization_identity, "wish");
  EXPECT_EQ(own->password.Reveal(), "own");
  for (const auto login :
       {config::BackendLogin::kMaster, config::BackendLogin::kFixed, config::BackendLogin::kNone}) {
    settings.login = login;
    EXPECT_FALSE(account(Client(), std::nullopt));
  }
  // An authority has said who the client is.
  const std::string user = "bob@example.org";
  settings.login = config::BackendLogin::kSame;
  sasl::Credentials itself = Client();
  itself.authorization_identity.clear();
  const auto as_itself = account(std::move(itself), user);
  EXPECT_EQ(as_itself->authorization_identity, "");
  EXPECT_EQ(as_itself->authentication_identity, "bob");
  EXPECT_EQ(as_itself->password.Reveal(), "own");
  // Who was let act for another there is to act for it here.
  EXPECT_EQ(account(Client(), user)->authorization_identity, "wish");
  EXPECT_EQ(account(Client(), user)->authentication_identity, "alice");
  for (const auto mechanism :
       {sasl::Mechanism::kExternal, sasl::Mechanism::kScramSha256, sasl::Mechanism::kCramMd5}) {
    EXPECT_EQ(account(Client(mechanism), user)->authorization_identity, "bob");
    EXPECT_EQ(account(Client(mechanism), user)->password.Reveal(), "master's");
    settings.master_user.reset();
    EXPECT_FALSE(account(Client(mechanism), user));
    settings.master_user = "gate";
  }
  settings.login = config::BackendLogin::kMaster;
  EXPECT_EQ(account(Client(), user)->authentication_identity, "gate");
  EXPECT_EQ(account(Client(), user)->authorization_identity, "bob");
  settings.login = config::BackendLogin::kFixed;
  EXPECT_EQ(account(Client(), user)->authentication_identity, "relay");
  EXPECT_EQ(account(Client(), user)->authorization_identity, "");
  EXPECT_EQ(account(Client(), user)->password.Reveal(), "account's");
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
