// SPDX-License-Identifier: Apache-2.0
#include "gateway/backends/routes.h"

#include <gtest/gtest.h>

namespace gatepost::backends {
namespace {

using protocols::Protocol;

const std::vector<std::string> kPools = {"stores", "new"};

std::shared_ptr<const UserRoutes> Users(std::string_view text) {
  auto parsed = UserRoutes::Parse(text, "f", kPools);
  return parsed ? *parsed : nullptr;
}

TEST(UserRoutes, SendUsersToAPoolABackendOrBoth) {
  const auto users = Users(
      "# moved in May\n"
      "alice@example.org new\n"
      "\n"
      "bob@example.org  store7.internal:143\r\n"
      "carol new [2001:db8::7]:1143");
  ASSERT_TRUE(users);
  EXPECT_EQ(users->size(), 3U);
  EXPECT_EQ(*users->Find("alice@example.org"), (Destination{"new", std::nullopt}));
  EXPECT_EQ(*users->Find("bob@example.org"),
            (Destination{"", config::Member{"store7.internal", 143}}));
  EXPECT_EQ(*users->Find("carol"), (Destination{"new", config::Member{"2001:db8::7", 1143}}));
  EXPECT_EQ(users->Find("Carol"), nullptr);
  EXPECT_EQ(users->Find(""), nullptr);
}

TEST(UserRoutes, EveryMistakeIsToldWithItsLine) {
  const auto parsed = UserRoutes::Parse(
      "alice nowhere\nbob\ncarol new x:0\ndave new a:1 b\neve new\neve new\nfay\tnew\n", "f",
      kPools);
  ASSERT_FALSE(parsed);
  const auto& errors = parsed.error();
  ASSERT_EQ(errors.size(), 6U);
  EXPECT_EQ(errors[0], "f:1: there is no pool \"nowhere\"");
  EXPECT_TRUE(errors[1].starts_with("f:2: nothing says where the user goes; a line is"))
      << errors[1];
  EXPECT_TRUE(errors[2].starts_with("f:3: \"x:0\" is no HOST:PORT")) << errors[2];
  EXPECT_TRUE(errors[3].starts_with("f:4: too many words")) << errors[3];
  EXPECT_EQ(errors[4], "f:6: \"eve\" stands in an earlier line already");
  EXPECT_EQ(errors[5], "f:7: there is a tab or another control character");
}

config::Config Configured() {
  config::Config config;
  config.routes.resize(3);
  config.routes[0].domains = {"example.org", "*.example.org", "*.mail.example.org"};
  config.routes[0].pool = "new";
  config.routes[1].users_file = "f";
  config.routes[2].protocol = config::Protocol::kSmtp;
  config.routes[2].domains = {"example.org"};
  config.routes[2].pool = "relay";
  return config;
}

TEST(Routes, ADomainIsWhatStandsBehindTheLastAt) {
  const Routes routes(Configured());
  const Destination to_new{"new", std::nullopt};
  for (const char* user : {"alice@example.org", "alice@EXAMPLE.org", "a@b@example.org",
                           "alice@a.example.org", "alice@a.b.example.org", "@example.org"}) {
    EXPECT_EQ(routes.Find(Protocol::kImap, user), to_new) << user;
  }
  for (const char* user :
       {"alice", "example.org", "alice@example.com", "alice@anexample.org", "alice@org", "alice@",
        "alice@example.org.", "alice@example.org@x", ""}) {
    EXPECT_EQ(routes.Find(Protocol::kImap, user), std::nullopt) << user;
  }
}

TEST(Routes, AreOfOneProtocol) {
  const Routes routes(Configured());
  EXPECT_EQ(routes.Find(Protocol::kSmtp, "alice@example.org")->pool, "relay");
  EXPECT_EQ(routes.Find(Protocol::kPop3, "alice@example.org"), std::nullopt);
  EXPECT_TRUE(routes.Any(Protocol::kSmtp));
  EXPECT_FALSE(routes.Any(Protocol::kPop3));
}

TEST(Routes, AUsersOwnCountsBeforeTheDomains) {
  Routes routes(Configured());
  routes.Renew(1, Users("alice@example.org stores\nbob store7:143\n"));
  EXPECT_EQ(routes.Find(Protocol::kImap, "alice@example.org")->pool, "stores");
  EXPECT_EQ(routes.Find(Protocol::kImap, "carol@example.org")->pool, "new");
  EXPECT_EQ(routes.Find(Protocol::kImap, "bob")->backend, (config::Member{"store7", 143}));
  routes.Renew(1, Users("bob new\n"));
  EXPECT_EQ(routes.Find(Protocol::kImap, "alice@example.org")->pool, "new");
  EXPECT_EQ(routes.Find(Protocol::kImap, "bob"), (Destination{"new", std::nullopt}));
}

}  // namespace
}  // namespace gatepost::backends
