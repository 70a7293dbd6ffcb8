// SPDX-License-Identifier: Apache-2.0
#include "gateway/backends/health.h"

#include <gtest/gtest.h>

namespace gatepost::backends {
namespace {

using Sign = Health::Sign;

class HealthTest : public testing::Test {
 protected:
  std::optional<Health::Change> Check(Sign sign, std::string_view cause = "closed") {
    return health_.Checked(sign, sign == Sign::kWorks ? "" : cause, ++now_ms_);
  }
  std::optional<Health::Change> Meet(Sign sign, std::string_view cause = "closed") {
    return health_.Met(sign, sign == Sign::kWorks ? "" : cause, ++now_ms_);
  }

  uint64_t now_ms_ = 1000;
  Health health_{{2, 3, 1000}};
};

TEST_F(HealthTest, IsHopedForUntilTheFirstLook) {
  EXPECT_TRUE(health_.usable());
  EXPECT_FALSE(Check(Sign::kWorks));  // no news
  EXPECT_EQ(health_.transitions(), 0U);
  EXPECT_TRUE(health_.usable());
}

TEST_F(HealthTest, TheFirstLookThatFailsIsEnough) {
  const auto change = Check(Sign::kFails, "unreachable");
  ASSERT_TRUE(change);
  EXPECT_FALSE(change->up);
  EXPECT_EQ(change->cause, "unreachable");
  EXPECT_FALSE(health_.usable());
}

TEST_F(HealthTest, GoesDownAfterFailuresInARowOnly) {
  (void)Check(Sign::kWorks);
  EXPECT_FALSE(Check(Sign::kFails));
  EXPECT_TRUE(health_.wavering());
  EXPECT_FALSE(Check(Sign::kFails));
  EXPECT_FALSE(Check(Sign::kWorks));
  EXPECT_FALSE(health_.wavering());
  EXPECT_FALSE(Check(Sign::kFails));
  EXPECT_FALSE(Meet(Sign::kFails));  // sessions count, too
  EXPECT_TRUE(health_.usable());
  EXPECT_TRUE(Meet(Sign::kFails));
  EXPECT_FALSE(health_.usable());
}

TEST_F(HealthTest, ComesBackByChecksInARowOnly) {
  (void)Check(Sign::kFails);
  EXPECT_FALSE(Meet(Sign::kWorks));
  EXPECT_FALSE(Check(Sign::kWorks));
  EXPECT_FALSE(Check(Sign::kFails, "timeout"));
  EXPECT_FALSE(Check(Sign::kWorks));
  EXPECT_FALSE(health_.usable());
  const auto change = Check(Sign::kWorks);
  ASSERT_TRUE(change);
  EXPECT_TRUE(change->up);
  EXPECT_EQ(change->cause, "timeout");
  EXPECT_EQ(change->lasted_ms, 5U);
  EXPECT_TRUE(health_.usable());
  EXPECT_EQ(health_.transitions(), 2U);
}

TEST_F(HealthTest, OneThatSaysGoodbyeIsDownAtOnce) {
  (void)Check(Sign::kWorks);
  const auto change = Meet(Sign::kLeaves, "shutting_down");
  ASSERT_TRUE(change);
  EXPECT_EQ(change->cause, "shutting_down");
  EXPECT_FALSE(health_.usable());
}

TEST_F(HealthTest, KnowsWhetherWaitingWillMend) {
  (void)Check(Sign::kMisconfigured, "no_starttls");
  EXPECT_TRUE(health_.misconfigured());
  (void)Check(Sign::kFails);
  EXPECT_FALSE(health_.misconfigured());
  (void)Check(Sign::kMisconfigured, "no_starttls");
  (void)Check(Sign::kWorks);
  (void)Check(Sign::kWorks);
  EXPECT_FALSE(health_.misconfigured());
}

TEST_F(HealthTest, AFailureOfASessionHasACheckComeSoon) {
  (void)Check(Sign::kWorks);
  EXPECT_FALSE(health_.TakeSuspicion());
  (void)Meet(Sign::kFails);
  EXPECT_TRUE(health_.TakeSuspicion());
  EXPECT_FALSE(health_.TakeSuspicion());
  health_.LoginFailed(1, now_ms_);
  EXPECT_TRUE(health_.TakeSuspicion());
}

TEST_F(HealthTest, StartsSlowlyAfterItCameBackAndNotBefore) {
  (void)Check(Sign::kWorks);
  EXPECT_EQ(health_.Share(now_ms_), 1);
  (void)Check(Sign::kFails);
  (void)Check(Sign::kFails);
  (void)Check(Sign::kFails);
  (void)Check(Sign::kWorks);
  (void)Check(Sign::kWorks);
  EXPECT_GT(health_.Share(now_ms_), 0);
  EXPECT_LT(health_.Share(now_ms_), 0.1);
  EXPECT_GT(health_.Share(now_ms_ - 5), 0);  // another worker's clock
  EXPECT_DOUBLE_EQ(health_.Share(now_ms_ + 500), 0.5);
  EXPECT_EQ(health_.Share(now_ms_ + 1000), 1);
}

TEST_F(HealthTest, OneUserWhoseAccountIsBrokenDoesNotSpeakForTheMember) {
  for (int i = 0; i < 100; ++i) health_.LoginFailed(42, now_ms_);
  EXPECT_FALSE(health_.avoided(now_ms_ + 1));
  health_.LoginFailed(43, now_ms_);
  health_.LoginFailed(44, now_ms_);
  EXPECT_TRUE(health_.avoided(now_ms_ + 1));
  EXPECT_TRUE(health_.usable());
  EXPECT_FALSE(health_.avoided(now_ms_ + Health::kAvoidMs));
  health_.LoginAnswered();
  EXPECT_FALSE(health_.avoided(now_ms_ + 1));
  health_.LoginFailed(45, now_ms_);
  EXPECT_FALSE(health_.avoided(now_ms_ + 1));
}

}  // namespace
}  // namespace gatepost::backends
