// SPDX-License-Identifier: Apache-2.0
#include "gateway/auth/throttle_event.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gateway/auth/throttle.h"

namespace gatepost::auth {
namespace {

constexpr uint64_t kNow = 10'000'000;
constexpr uint64_t kHalfLife = 1'000'000;

TEST(ThrottleEvent, IsReadAsItWasWritten) {
  const ThrottleEvent failed{ThrottleEvent::Kind::kFailed, {1, 0, UINT64_MAX}, 0xffff, 0xabc};
  EXPECT_EQ(Encode(failed), "f 1 0 ffffffffffffffff ffff abc");
  EXPECT_EQ(ParseThrottleEvent(Encode(failed)), failed);
  const ThrottleEvent succeeded{ThrottleEvent::Kind::kSucceeded, {7, 8, 9}};
  EXPECT_EQ(ParseThrottleEvent(Encode(succeeded)), succeeded);
}

TEST(ThrottleEvent, NothingElseIsOne) {
  for (const std::string_view text :
       {"", "f", "x 1 2 3 4 5", "f 1 2 3 4", "f 1 2 3 4 5 6", "f 1 2 3 10000 5", "f  1 2 3 4 5",
        "f 1 2 3 4 5 ", "f 01 2 3 4 5", "f A 2 3 4 5", "f -1 2 3 4 5",
        "f 10000000000000000 2 3 4 5", "f 0x1 2 3 4 5"}) {
    EXPECT_FALSE(ParseThrottleEvent(text)) << text;
  }
}

struct Kept final : Throttle::Courier {
  explicit Kept(std::vector<ThrottleEvent>& to) : events(to) {}
  void Tell(ThrottleEvent event) override { events.push_back(event); }
  [[nodiscard]] Figures figures() const override { return {}; }
  std::vector<ThrottleEvent>& events;
};

config::Throttle Limits() {
  config::Throttle settings;
  settings.max_failures_per_user_and_address = 3;
  settings.half_life = config::milliseconds(kHalfLife);
  return settings;
}

class SharedThrottleTest : public testing::Test {
 protected:
  SharedThrottleTest() { here_.Use(std::make_unique<Kept>(told_)); }

  void Guess(const std::string& user, int times) {
    for (int i = 0; i < times; ++i) {
      (void)here_.Failed(client_, user, "guess" + std::to_string(++guesses_), kNow);
    }
  }
  void Carry(uint64_t age_ms = 0) {
    for (const ThrottleEvent& event : std::exchange(told_, {})) there_.Apply(event, age_ms, kNow);
  }
  [[nodiscard]] bool RefusedThere(const std::string& user) {
    return there_.Refuses(client_, user, kNow).has_value();
  }

  const net::Address client_ = *net::Address::Parse("192.0.2.1", 1);
  std::vector<ThrottleEvent> told_;
  int guesses_ = 0;
  Throttle here_{Limits(), sasl::Secret("a key that both have")};
  Throttle there_{Limits(), sasl::Secret("a key that both have")};
};

TEST_F(SharedThrottleTest, WhoGuessesHereIsRefusedThere) {
  Guess("alice", 2);
  Carry();
  EXPECT_FALSE(RefusedThere("alice"));
  Guess("Alice", 1);
  Carry();
  EXPECT_TRUE(RefusedThere("alice"));
  EXPECT_FALSE(RefusedThere("bob"));
}

TEST_F(SharedThrottleTest, WhatIsOldHasFaded) {
  Guess("alice", 3);
  Carry(kHalfLife);
  EXPECT_FALSE(RefusedThere("alice"));
  Guess("alice", 3);
  Carry(kHalfLife);
  EXPECT_TRUE(RefusedThere("alice"));
}

TEST_F(SharedThrottleTest, TheSamePasswordCountsOnceWhereverItFails) {
  for (int i = 0; i < 5; ++i) (void)here_.Failed(client_, "alice", "old", kNow);
  EXPECT_EQ(told_.size(), 1U);
  Carry();
  (void)there_.Failed(client_, "alice", "old", kNow);
  (void)there_.Failed(client_, "alice", "one", kNow);
  EXPECT_FALSE(RefusedThere("alice"));
  (void)there_.Failed(client_, "alice", "two", kNow);
  EXPECT_TRUE(RefusedThere("alice"));
}

TEST_F(SharedThrottleTest, ALoginForgivesThereAndIsToldOnce) {
  Guess("alice", 2);
  here_.Succeeded(client_, "alice", kNow);
  here_.Succeeded(client_, "alice", kNow);
  EXPECT_EQ(told_.size(), 3U);
  Carry();
  Guess("alice", 2);
  Carry();
  EXPECT_FALSE(RefusedThere("alice"));
}

TEST_F(SharedThrottleTest, AnotherKeyUnderstandsNothing) {
  Throttle other(Limits(), sasl::Secret("a key of its own"));
  Guess("alice", 3);
  for (const ThrottleEvent& event : told_) other.Apply(event, 0, kNow);
  EXPECT_FALSE(other.Refuses(client_, "alice", kNow));
}

TEST_F(SharedThrottleTest, AnEventForNobodyIsNothing) {
  there_.Apply({}, 0, kNow);
  EXPECT_EQ(there_.Refusing(Throttle::Scope::kPair, kNow), 0U);
}

}  // namespace
}  // namespace gatepost::auth
