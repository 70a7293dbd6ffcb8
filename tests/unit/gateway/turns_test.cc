// SPDX-License-Identifier: Apache-2.0
#include "gateway/auth/turns.h"

#include <gtest/gtest.h>

#include <vector>

namespace gatepost::auth {
namespace {

class TurnsTest : public testing::Test {
 protected:
  void Start() {
    turns_.Start([this](int key) {
      if (key < 0) return false;  // has gone
      begun_.push_back(key);
      return true;
    });
  }

  Turns<int> turns_{2};
  std::vector<int> begun_;
};

TEST_F(TurnsTest, SoManyAtATimeInTheirOrder) {
  for (const int key : {1, 2, 3, 4}) turns_.Wait(key);
  Start();
  EXPECT_EQ(begun_, (std::vector{1, 2}));
  Start();
  EXPECT_EQ(begun_.size(), 2U);
  turns_.Release();
  Start();
  EXPECT_EQ(begun_, (std::vector{1, 2, 3}));
}

TEST_F(TurnsTest, WhoHasGoneTakesNoTurn) {
  for (const int key : {-1, -2, -3, 1, 2, 3}) turns_.Wait(key);
  Start();
  EXPECT_EQ(begun_, (std::vector{1, 2}));
}

TEST_F(TurnsTest, WhoAsksOnceMoreCounts) {
  turns_.Take();
  for (const int key : {1, 2}) turns_.Wait(key);
  Start();
  EXPECT_EQ(begun_, std::vector{1});
}

TEST_F(TurnsTest, TheNumberOfThoseWhoWaitIsBounded) {
  for (size_t i = 0; i < Turns<int>::kWaiting; ++i) {
    EXPECT_FALSE(turns_.full());
    turns_.Wait(static_cast<int>(i));
  }
  EXPECT_TRUE(turns_.full());
  turns_.Clear();
  EXPECT_FALSE(turns_.full());
  Start();
  EXPECT_TRUE(begun_.empty());
}

TEST_F(TurnsTest, OneMayBeginWhileAnotherDoes) {
  for (const int key : {1, 2, 3}) turns_.Wait(key);
  turns_.Start([this](int key) {
    begun_.push_back(key);
    turns_.Release();  // answered at once
    Start();
    turns_.Take();
    return true;
  });
  EXPECT_EQ(begun_.size(), 3U);
}

}  // namespace
}  // namespace gatepost::auth
