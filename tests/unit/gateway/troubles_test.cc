// SPDX-License-Identifier: Apache-2.0
#include "gateway/backends/troubles.h"

#include <gtest/gtest.h>

namespace gatepost::backends {
namespace {

constexpr uint64_t kAgainMs = Troubles::kAgainMs;
constexpr uint64_t kFlapMs = Troubles::kFlapMs;
const config::Member kOne{"store1", 143};
const config::Member kTwo{"store2", 143};

TEST(Troubles, TellTheFirstOfEachCauseOfEachMember) {
  Troubles troubles;
  EXPECT_EQ(troubles.Failed(Stage::kOpening, kOne, "unreachable", 1000), 0U);
  EXPECT_EQ(troubles.Failed(Stage::kOpening, kOne, "unreachable", 1001), std::nullopt);
  EXPECT_EQ(troubles.Failed(Stage::kOpening, kOne, "tls_expired", 1002), 0U);
  EXPECT_EQ(troubles.Failed(Stage::kLogin, kOne, "unreachable", 1003), 0U);
  EXPECT_EQ(troubles.Failed(Stage::kOpening, kTwo, "unreachable", 1004), 0U);
  EXPECT_EQ(troubles.Failed(Stage::kOpening, {"store1", 993}, "unreachable", 1005), 0U);
}

TEST(Troubles, TellAgainAfterAWhileWithTheNumberKeptBack) {
  Troubles troubles;
  EXPECT_TRUE(troubles.Failed(Stage::kOpening, kOne, "closed", 0));
  for (uint64_t i = 1; i <= 7; ++i) {
    EXPECT_FALSE(troubles.Failed(Stage::kOpening, kOne, "closed", i));
  }
  EXPECT_FALSE(troubles.Failed(Stage::kOpening, kOne, "closed", kAgainMs - 1));
  EXPECT_EQ(troubles.Failed(Stage::kOpening, kOne, "closed", kAgainMs), 8U);
  EXPECT_FALSE(troubles.Failed(Stage::kOpening, kOne, "closed", kAgainMs + 1));
  EXPECT_EQ(troubles.Failed(Stage::kOpening, kOne, "closed", 2 * kAgainMs), 1U);
}

TEST(Troubles, TellOnceThatAMemberWorksAgain) {
  Troubles troubles;
  EXPECT_FALSE(troubles.Works(Stage::kOpening, kOne, 0));
  (void)troubles.Failed(Stage::kOpening, kOne, "closed", 100);
  (void)troubles.Failed(Stage::kOpening, kOne, "timeout", 200);
  (void)troubles.Failed(Stage::kOpening, kOne, "timeout", 300);
  (void)troubles.Failed(Stage::kOpening, kTwo, "timeout", 300);
  const auto recovery = troubles.Works(Stage::kOpening, kOne, 1000);
  ASSERT_TRUE(recovery);
  EXPECT_EQ(recovery->failures, 3U);
  EXPECT_EQ(recovery->lasted_ms, 900U);
  EXPECT_FALSE(troubles.Works(Stage::kOpening, kOne, 1001));
  EXPECT_TRUE(troubles.Works(Stage::kOpening, kTwo, 1002));
}

TEST(Troubles, KnowThatAMemberWhichGreetsMayFailAtEveryLogin) {
  Troubles troubles;
  EXPECT_TRUE(troubles.Failed(Stage::kLogin, kOne, "closed", 0));
  EXPECT_FALSE(troubles.Works(Stage::kOpening, kOne, 1));
  EXPECT_FALSE(troubles.Failed(Stage::kLogin, kOne, "closed", 2));
  EXPECT_TRUE(troubles.Works(Stage::kLogin, kOne, 3));
}

TEST(Troubles, DoNotFillTheLogWithAMemberThatComesAndGoes) {
  Troubles troubles;
  int lines = 0;
  for (uint64_t now = 0; now < 10 * kFlapMs; now += 100) {
    if (troubles.Failed(Stage::kOpening, kOne, "closed", now)) ++lines;
    if (troubles.Works(Stage::kOpening, kOne, now + 50)) ++lines;
  }
  EXPECT_EQ(lines, 20);
  // One that fails for good behind that is told soon.
  EXPECT_TRUE(troubles.Failed(Stage::kOpening, kOne, "closed", 10 * kFlapMs));
}

TEST(Troubles, BearAClockThatIsBehindAnother) {
  Troubles troubles;
  EXPECT_TRUE(troubles.Failed(Stage::kOpening, kOne, "closed", 1000));
  EXPECT_FALSE(troubles.Failed(Stage::kOpening, kOne, "closed", 990));
  const auto recovery = troubles.Works(Stage::kOpening, kOne, 980);
  ASSERT_TRUE(recovery);
  EXPECT_EQ(recovery->lasted_ms, 0U);
}

}  // namespace
}  // namespace gatepost::backends
