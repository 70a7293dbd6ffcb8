// Guessers are refused, others are not, and a million addresses take no more memory than one.
// SPDX-License-Identifier: Apache-2.0
#include "gateway/auth/throttle.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "config/values.h"

namespace gatepost::auth {
namespace {

using Scope = Throttle::Scope;

constexpr uint64_t kMinute = 60'000;
constexpr uint64_t kStart = 1'000'000;

config::Throttle Limits(uint32_t address, uint32_t user, uint32_t pair) {
  config::Throttle settings;
  settings.max_failures_per_address = address;
  settings.max_failures_per_user = user;
  settings.max_failures_per_user_and_address = pair;
  settings.half_life = config::milliseconds(30 * kMinute);
  return settings;
}

// Failures are known again by 16 bits of a hash: with the same key, they are always the same.
sasl::Secret Key() {
  return sasl::Secret("the key of these tests");
}

net::Address At(const std::string& host) {
  return *net::Address::Parse(host, 1);
}

// The n-th of many IPv4 addresses.
net::Address Nth(uint32_t n) {
  return At("10." + std::to_string(n >> 16 & 0xff) + "." + std::to_string(n >> 8 & 0xff) + "." +
            std::to_string(n & 0xff));
}

// Guess fails `times` with different passwords, and returns the last outcome.
Throttle::Failure Guess(Throttle& throttle, const net::Address& client, const std::string& user,
                        int times, uint64_t now) {
  static int number = 0;
  Throttle::Failure failure;
  for (int i = 0; i < times; ++i) {
    failure = throttle.Failed(client, user, "guess" + std::to_string(++number), now);
  }
  return failure;
}

TEST(Throttle, RefusesAPairThatFailsTooOften) {
  Throttle throttle(Limits(50, 100, 10), Key());
  const auto client = At("192.0.2.1");
  EXPECT_TRUE(Guess(throttle, client, "alice", 9, kStart).begun.empty());
  EXPECT_EQ(throttle.Refuses(client, "alice", kStart), std::nullopt);
  EXPECT_EQ(Guess(throttle, client, "alice", 1, kStart).begun, std::vector{Scope::kPair});
  EXPECT_EQ(throttle.Refuses(client, "alice", kStart), Scope::kPair);
  EXPECT_EQ(throttle.Refuses(client, "ALICE", kStart), Scope::kPair);
  EXPECT_EQ(throttle.Refuses(client, "bob", kStart), std::nullopt);
  EXPECT_EQ(throttle.Refuses(At("192.0.2.2"), "alice", kStart), std::nullopt);
}

TEST(Throttle, RefusesANetworkThatGuessesManyUsers) {
  Throttle throttle(Limits(50, 100, 10), Key());
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(throttle.Refuses(At("2001:db8::1"), "x", kStart), std::nullopt) << i;
    const std::string host = "2001:db8::" + std::to_string(i);
    Guess(throttle, At(host), "user" + std::to_string(i), 1, kStart);
  }
  EXPECT_EQ(throttle.Refuses(At("2001:db8::ffff"), "alice", kStart), Scope::kNetwork);
  EXPECT_EQ(throttle.Refuses(At("2001:db8:0:1::1"), "alice", kStart), std::nullopt);
}

TEST(Throttle, RefusesAUserThatManyNetworksGuess) {
  Throttle throttle(Limits(50, 100, 10), Key());
  for (uint32_t i = 0; i < 100; ++i) Guess(throttle, Nth(i), "alice", 1, kStart);
  EXPECT_EQ(throttle.Refuses(Nth(1000), "alice", kStart), Scope::kUser);
  EXPECT_EQ(throttle.Refuses(Nth(1), "bob", kStart), std::nullopt);
}

TEST(Throttle, ForgetsHalfInAHalfLife) {
  Throttle throttle(Limits(0, 0, 10), Key());
  const auto client = At("192.0.2.1");
  Guess(throttle, client, "alice", 10, kStart);
  EXPECT_EQ(throttle.Refuses(client, "alice", kStart + 29 * kMinute), Scope::kPair);
  EXPECT_EQ(throttle.Refusing(Scope::kPair, kStart + 29 * kMinute), 1U);
  EXPECT_EQ(throttle.Refusing(Scope::kPair, kStart + 31 * kMinute), 0U);
  EXPECT_EQ(throttle.Refuses(client, "alice", kStart + 31 * kMinute), std::nullopt);
  // Half are left: the other half suffices.
  EXPECT_TRUE(Guess(throttle, client, "alice", 4, kStart + 31 * kMinute).begun.empty());
  EXPECT_EQ(Guess(throttle, client, "alice", 1, kStart + 31 * kMinute).begun.size(), 1U);
  // And after days nothing is.
  EXPECT_EQ(Guess(throttle, client, "alice", 9, kStart + 4 * 24 * 60 * kMinute).weight, 9U);
}

TEST(Throttle, BeginsARefusalOnce) {
  Throttle throttle(Limits(0, 0, 3), Key());
  const auto client = At("192.0.2.1");
  EXPECT_EQ(Guess(throttle, client, "alice", 3, kStart).begun.size(), 1U);
  // Attempts that were under way: they lengthen it by one half-life at most.
  EXPECT_TRUE(Guess(throttle, client, "alice", 1000, kStart).begun.empty());
  EXPECT_EQ(throttle.Refuses(client, "alice", kStart + 59 * kMinute), Scope::kPair);
  EXPECT_EQ(throttle.Refuses(client, "alice", kStart + 61 * kMinute), std::nullopt);
}

// Nobody asked in between: where a user is at home its network's and its own refusals are not
// looked at.
TEST(Throttle, BeginsARefusalAnewWhenTheFirstIsOver) {
  Throttle throttle(Limits(0, 10, 0), Key());
  EXPECT_EQ(Guess(throttle, At("192.0.2.1"), "alice", 10, kStart).begun, std::vector{Scope::kUser});
  const uint64_t later = kStart + 70 * kMinute;  // two are left
  EXPECT_TRUE(Guess(throttle, At("192.0.2.1"), "alice", 5, later).begun.empty());
  EXPECT_EQ(throttle.Refuses(At("192.0.2.1"), "alice", later), std::nullopt);
  EXPECT_FALSE(Guess(throttle, At("192.0.2.1"), "alice", 3, later).begun.empty());
}

TEST(Throttle, CountsTheSamePasswordOnce) {
  Throttle throttle(Limits(10, 10, 10), Key());
  const auto client = At("192.0.2.1");
  for (int i = 0; i < 1000; ++i) {
    // A telephone, a tablet and a laptop that have not heard of the new password.
    for (const char* old : {"spring", "summer", "autumn"}) {
      EXPECT_TRUE(throttle.Failed(client, "alice", old, kStart).begun.empty());
    }
  }
  EXPECT_EQ(throttle.Refuses(client, "alice", kStart), std::nullopt);
  EXPECT_EQ(throttle.Failed(client, "alice", "spring", kStart).weight, 3U);
  // The same for another user is another guess, and what has no password is always one.
  for (int i = 0; i < 7; ++i) {
    EXPECT_EQ(throttle.Refuses(client, "alice", kStart), std::nullopt);
    throttle.Failed(client, "user" + std::to_string(i), i % 2 == 0 ? "spring" : "", kStart);
  }
  EXPECT_EQ(throttle.Refuses(client, "alice", kStart), Scope::kNetwork);
}

TEST(Throttle, ASuccessForgivesThePairAndNoOther) {
  Throttle throttle(Limits(50, 100, 10), Key());
  const auto client = At("192.0.2.1");
  Guess(throttle, client, "alice", 9, kStart);
  Guess(throttle, client, "bob", 9, kStart);
  throttle.Succeeded(client, "Alice", kStart);
  EXPECT_EQ(Guess(throttle, client, "alice", 9, kStart).weight, 9U);
  EXPECT_EQ(throttle.Refuses(client, "alice", kStart), std::nullopt);
  EXPECT_EQ(Guess(throttle, client, "bob", 1, kStart).begun, std::vector{Scope::kPair});
  // 28 of this network's: they have stayed.
  Guess(throttle, client, "carol", 9, kStart);
  Guess(throttle, client, "dave", 9, kStart);
  EXPECT_EQ(Guess(throttle, client, "eve", 4, kStart).begun, std::vector{Scope::kNetwork});
}

TEST(Throttle, SparesAUserWhereItIsAtHome) {
  Throttle throttle(Limits(50, 100, 10), Key());
  const auto home = At("192.0.2.1");
  throttle.Succeeded(home, "alice", kStart);
  for (uint32_t i = 0; i < 200; ++i) Guess(throttle, Nth(i), "alice", 1, kStart);
  for (int i = 0; i < 60; ++i) Guess(throttle, home, "user" + std::to_string(i), 1, kStart);
  EXPECT_EQ(throttle.Refuses(home, "alice", kStart), std::nullopt);
  EXPECT_EQ(throttle.Refuses(At("198.51.100.1"), "alice", kStart), Scope::kUser);
  EXPECT_EQ(throttle.Refuses(home, "bob", kStart), Scope::kNetwork);
  // The neighbours' failures do not delay it either, and its own count as everybody's.
  EXPECT_EQ(Guess(throttle, home, "alice", 1, kStart).weight, 1U);
  Guess(throttle, home, "alice", 9, kStart);
  EXPECT_EQ(throttle.Refuses(home, "alice", kStart), Scope::kPair);
  // For a month.
  EXPECT_EQ(throttle.Refuses(home, "alice", kStart + uint64_t{31} * 24 * 60 * kMinute),
            std::nullopt);
  const uint64_t later = kStart + uint64_t{31} * 24 * 60 * kMinute;
  for (uint32_t i = 0; i < 200; ++i) Guess(throttle, Nth(i), "alice", 1, later);
  EXPECT_EQ(throttle.Refuses(home, "alice", later), Scope::kUser);
}

TEST(Throttle, WeighsFailuresByHowNearTheyAreToALimit) {
  Throttle throttle(Limits(50, 100, 10), Key());
  EXPECT_EQ(Guess(throttle, At("192.0.2.1"), "alice", 1, kStart).weight, 1U);
  EXPECT_EQ(Guess(throttle, At("192.0.2.1"), "alice", 3, kStart).weight, 4U);
  for (int i = 0; i < 24; ++i) {
    Guess(throttle, At("192.0.2.9"), "user" + std::to_string(i), 1, kStart);
  }
  EXPECT_EQ(Guess(throttle, At("192.0.2.9"), "bob", 1, kStart).weight, 5U);
}

TEST(Throttle, LeavesExemptNetworksAlone) {
  config::Throttle settings = Limits(2, 2, 2);
  settings.exempt_networks = {*config::ParseNetwork("192.0.2.0/24")};
  Throttle throttle(settings, Key());
  EXPECT_EQ(Guess(throttle, At("192.0.2.1"), "alice", 100, kStart).weight, 0U);
  EXPECT_EQ(throttle.Refuses(At("192.0.2.1"), "alice", kStart), std::nullopt);
  EXPECT_EQ(throttle.Refuses(At("198.51.100.1"), "alice", kStart), std::nullopt);
}

TEST(Throttle, HasLimitsThatCanBeTurnedOff) {
  Throttle throttle(Limits(0, 0, 0), Key());
  EXPECT_EQ(Guess(throttle, At("192.0.2.1"), "alice", 1000, kStart).weight, 0U);
  EXPECT_EQ(throttle.Refuses(At("192.0.2.1"), "alice", kStart), std::nullopt);
}

TEST(Throttle, TakesTheSameMemoryForAMillionAddresses) {
  Throttle throttle(Limits(10, 100, 10), Key());
  const size_t bytes = throttle.bytes();
  EXPECT_LE(bytes, size_t{6} * 1024 * 1024 + 32 * 1024);
  const auto guesser = At("192.0.2.1");
  for (int i = 0; i < 10; ++i) Guess(throttle, guesser, "user" + std::to_string(i), 1, kStart);
  ASSERT_EQ(throttle.Refuses(guesser, "x", kStart), Scope::kNetwork);
  for (uint32_t i = 0; i < 1'000'000; ++i) {
    throttle.Failed(Nth(i), "u" + std::to_string(i), "x", kStart + i / 100);
  }
  EXPECT_EQ(throttle.bytes(), bytes);
  // A million others that fail once do not make it forget somebody who failed often.
  EXPECT_EQ(throttle.Refuses(guesser, "x", kStart + 10'000), Scope::kNetwork);
  EXPECT_EQ(throttle.Refusing(Scope::kNetwork, kStart + 10'000), 1U);
  // And those who come then are counted as ever.
  for (int i = 0; i < 10; ++i) {
    Guess(throttle, At("198.51.100.7"), "v" + std::to_string(i), 1, kStart + 10'000);
  }
  EXPECT_EQ(throttle.Refuses(At("198.51.100.7"), "x", kStart + 10'000), Scope::kNetwork);
}

TEST(Throttle, IsSharedByThreads) {
  Throttle throttle(Limits(4000, 4000, 4000), Key());
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&throttle] {
      for (int i = 0; i < 1000; ++i) {
        throttle.Failed(At("192.0.2.1"), "alice", {}, kStart);
        (void)throttle.Refuses(At("192.0.2.1"), "alice", kStart);
        (void)throttle.Refusing(Scope::kUser, kStart);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(throttle.Refuses(At("192.0.2.1"), "alice", kStart), Scope::kPair);
  EXPECT_EQ(throttle.Refuses(At("192.0.2.1"), "bob", kStart), Scope::kNetwork);
  EXPECT_EQ(throttle.Refuses(At("192.0.2.2"), "alice", kStart), Scope::kUser);
}

}  // namespace
}  // namespace gatepost::auth
