// SPDX-License-Identifier: Apache-2.0
#include "gateway/backends/choice.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace gatepost::backends {
namespace {

constexpr uint64_t kNow = 1'000'000;

Roster Stores(const std::vector<uint32_t>& weights, const Health::Settings& health = {}) {
  Roster roster;
  for (size_t i = 0; i < weights.size(); ++i) {
    const config::Member address{"store" + std::to_string(i) + ".internal", 143};
    roster.push_back(std::make_shared<Member>(MemberFacts{address, {}, weights[i], 0}, health));
  }
  return roster;
}

void TakeDown(Member& member) {
  (void)member.health().Checked(Health::Sign::kFails, "closed", kNow);
}

void BringUp(Member& member, uint64_t now_ms) {
  (void)member.health().Checked(Health::Sign::kWorks, "", now_ms);
  (void)member.health().Checked(Health::Sign::kWorks, "", now_ms);
}

std::string User(int number) {
  return "user" + std::to_string(number) + "@example.org";
}

uint32_t First(const Roster& roster, const std::string& user, uint64_t now_ms = kNow) {
  return Choose(roster, {.user = user, .now_ms = now_ms}).value();
}

TEST(Choice, AUserMeetsTheSameMemberFromEveryReplica) {
  const Roster one = Stores({1, 1, 1, 1, 1});
  const Roster two = Stores({1, 1, 1, 1, 1});
  std::map<uint32_t, int> share;
  for (int i = 0; i < 5000; ++i) {
    EXPECT_EQ(First(one, User(i)), First(two, User(i)));
    ++share[First(one, User(i))];
  }
  for (const auto& [member, users] : share) {
    EXPECT_GT(users, 850) << member;  // 1000 expected, about 28 standard deviation
    EXPECT_LT(users, 1150) << member;
  }
}

TEST(Choice, ALostMemberMovesOnlyItsUsersToAllOthers) {
  const Roster roster = Stores({1, 1, 1, 1, 1});
  std::vector<uint32_t> before;
  for (int i = 0; i < 5000; ++i) before.push_back(First(roster, User(i)));
  TakeDown(*roster[2]);
  std::map<uint32_t, int> moved;
  for (int i = 0; i < 5000; ++i) {
    const uint32_t now = First(roster, User(i));
    if (before[static_cast<size_t>(i)] != 2) {
      EXPECT_EQ(now, before[static_cast<size_t>(i)]);
    } else {
      ++moved[now];
    }
  }
  EXPECT_EQ(moved.size(), 4U);
  for (const auto& [member, users] : moved) {
    EXPECT_GT(users, 190) << member;  // 250 expected
    EXPECT_LT(users, 310) << member;
  }
  BringUp(*roster[2], kNow + 1);
  for (int i = 0; i < 5000; ++i) {
    EXPECT_EQ(First(roster, User(i), kNow + 2), before[static_cast<size_t>(i)]);
  }
}

// The other way to lose one: it stands in no configuration any more.
TEST(Choice, ARemovedMemberMovesOneInN) {
  const Roster whole = Stores({1, 1, 1, 1, 1, 1, 1, 1});
  Roster less = whole;
  less.erase(less.begin() + 3);
  int moved = 0;
  for (int i = 0; i < 8000; ++i) {
    if (whole[First(whole, User(i))] != less[First(less, User(i))]) ++moved;
  }
  EXPECT_GT(moved, 850);  // 1000 expected
  EXPECT_LT(moved, 1150);
}

TEST(Choice, AMemberThatComesBackTakesOnItsUsersOneAfterAnother) {
  const Roster roster = Stores({1, 1, 1, 1}, {2, 3, 10'000});
  std::vector<uint32_t> whole;
  for (int i = 0; i < 4000; ++i) whole.push_back(First(roster, User(i)));
  TakeDown(*roster[0]);
  BringUp(*roster[0], kNow);
  std::vector<uint32_t> earlier(4000, 1);
  int last = -1;
  for (const uint64_t passed : {0U, 2'500U, 5'000U, 7'500U, 10'000U}) {
    int users = 0;
    for (size_t i = 0; i < 4000; ++i) {
      const uint32_t now = First(roster, User(static_cast<int>(i)), kNow + passed);
      if (now == 0) ++users;
      EXPECT_TRUE(earlier[i] != 0 || now == 0);  // who has moved stays
      earlier[i] = now;
    }
    EXPECT_GT(users, last);
    last = users;
  }
  EXPECT_EQ(earlier, whole);
}

TEST(Choice, TriesEachUsableMemberOnceAndThenNone) {
  const Roster roster = Stores({1, 1, 1});
  TakeDown(*roster[1]);
  std::vector<uint32_t> tried;
  while (const auto next = Choose(roster, {.user = "alice", .tried = tried, .now_ms = kNow}))
    tried.push_back(*next);
  ASSERT_EQ(tried.size(), 2U);
  EXPECT_EQ(tried[0] + tried[1], 2U);
  TakeDown(*roster[0]);
  TakeDown(*roster[2]);
  EXPECT_EQ(Choose(roster, {.user = "alice", .now_ms = kNow}), std::nullopt);
}

TEST(Choice, AMemberWhoseLoginsFailIsTheLastToBeTried) {
  const Roster roster = Stores({1, 1, 1});
  for (uint64_t who = 1; who <= 3; ++who) roster[1]->health().LoginFailed(who, kNow);
  for (int i = 0; i < 100; ++i) {
    std::vector<uint32_t> tried;
    const std::string user = User(i);
    while (const auto next = Choose(roster, {.user = user, .tried = tried, .now_ms = kNow + 1})) {
      tried.push_back(*next);
    }
    ASSERT_EQ(tried.size(), 3U);
    EXPECT_EQ(tried.back(), 1U);
  }
  int first = 0;
  for (int i = 0; i < 100; ++i) {
    if (First(roster, User(i), kNow + Health::kAvoidMs) == 1) ++first;
  }
  EXPECT_GT(first, 10);
}

TEST(Choice, UsersSpreadByWeight) {
  const Roster roster = Stores({1, 2, 5});
  std::map<uint32_t, int> share;
  for (int i = 0; i < 8000; ++i) ++share[First(roster, User(i))];
  EXPECT_NEAR(share[0], 1000, 150);
  EXPECT_NEAR(share[1], 2000, 200);
  EXPECT_NEAR(share[2], 5000, 250);
}

TEST(Choice, AChangedWeightMovesUsersToThatMemberOnly) {
  const Roster before = Stores({1, 1, 1});
  const Roster after = Stores({1, 2, 1});
  for (int i = 0; i < 2000; ++i) {
    const uint32_t now = First(after, User(i));
    if (now != First(before, User(i))) {
      EXPECT_EQ(now, 1U);
    }
  }
}

TEST(Choice, LeastSessionsCountsLoginsThatAreUnderWay) {
  const Roster roster = Stores({1, 1, 2});
  std::vector<Attempt> logins;
  std::map<uint32_t, int> share;
  for (int i = 0; i < 400; ++i) {
    const std::string user = User(i);
    const uint32_t member =
        Choose(roster, {.balance = config::Balance::kLeastSessions, .user = user}).value();
    logins.emplace_back(roster[member]);
    ++share[member];
  }
  EXPECT_NEAR(share[0], 100, 1);
  EXPECT_NEAR(share[1], 100, 1);
  EXPECT_NEAR(share[2], 200, 1);
  logins.clear();
  EXPECT_EQ(roster[2]->logins(), 0U);
  for (int i = 0; i < 5; ++i) roster[2]->BeginSession();
  for (int i = 0; i < 100; ++i) {
    const std::string user = User(i);
    EXPECT_NE(Choose(roster, {.balance = config::Balance::kLeastSessions, .user = user}), 2U);
  }
}

// RFC 2782
TEST(Choice, AHigherPriorityIsForWhenAllOthersAreDown) {
  Roster roster = Stores({1, 1});
  roster.push_back(std::make_shared<Member>(MemberFacts{{"spare.internal", 143}, {}, 100, 7},
                                            Health::Settings{}));
  for (int i = 0; i < 100; ++i) EXPECT_NE(First(roster, User(i)), 2U);
  std::vector<uint32_t> tried;
  while (const auto next = Choose(roster, {.user = "alice", .tried = tried, .now_ms = kNow})) {
    tried.push_back(*next);
  }
  ASSERT_EQ(tried.size(), 3U);
  EXPECT_EQ(tried.back(), 2U);
  TakeDown(*roster[0]);
  TakeDown(*roster[1]);
  EXPECT_EQ(First(roster, "alice"), 2U);
}

std::vector<uint32_t> Rounds(const Roster& roster, uint64_t turns, uint64_t now_ms = kNow) {
  std::vector<uint32_t> members;
  for (uint64_t turn = 0; turn < turns; ++turn) {
    members.push_back(
        Choose(roster, {.balance = config::Balance::kRoundRobin, .turn = turn, .now_ms = now_ms})
            .value());
  }
  return members;
}

TEST(Choice, RoundRobinGoesRound) {
  EXPECT_EQ(Rounds(Stores({1, 1, 1}), 7), (std::vector<uint32_t>{0, 1, 2, 0, 1, 2, 0}));
  EXPECT_EQ(Rounds(Stores({7, 7}), 4), (std::vector<uint32_t>{0, 1, 0, 1}));
  EXPECT_EQ(Rounds(Stores({1, 3, 2}), 8), (std::vector<uint32_t>{0, 1, 2, 1, 2, 1, 0, 1}));
  const Roster roster = Stores({1, 1, 1});
  TakeDown(*roster[1]);
  EXPECT_EQ(Rounds(roster, 4), (std::vector<uint32_t>{0, 2, 0, 2}));
}

TEST(Choice, RoundRobinStartsSlowly) {
  const Roster roster = Stores({1, 1}, {2, 3, 10'000});
  TakeDown(*roster[0]);
  BringUp(*roster[0], kNow);
  const auto count = [&](uint64_t now_ms) {
    const auto members = Rounds(roster, 2000, now_ms);
    return std::count(members.begin(), members.end(), 0U);
  };
  EXPECT_NEAR(static_cast<double>(count(kNow)), 20, 20);
  EXPECT_NEAR(static_cast<double>(count(kNow + 5'000)), 500, 80);
  EXPECT_EQ(count(kNow + 10'000), 1000);
  TakeDown(*roster[1]);
  EXPECT_EQ(Rounds(roster, 3), (std::vector<uint32_t>{0, 0, 0}));
}

TEST(Choice, RoundRobinEndsWhenAllMembersLeaveMeanwhile) {
  std::vector<uint32_t> weights(64, 100);
  weights.front() = 99;  // no common divisor: the last turn is far away, and takes long to find
  const uint64_t last_turn = 63 * 100 + 99 - 1;
  for (int round = 0; round < 50; ++round) {
    const Roster roster = Stores(weights);
    std::atomic<bool> going{false};
    std::thread other([&] {
      while (!going) std::this_thread::yield();
      for (const auto& member : roster) TakeDown(*member);
    });
    std::optional<uint32_t> chosen;
    do {
      chosen = Choose(roster,
                      {.balance = config::Balance::kRoundRobin, .turn = last_turn, .now_ms = kNow});
      going = true;
    } while (chosen);
    other.join();
  }
}

}  // namespace
}  // namespace gatepost::backends
