// SPDX-License-Identifier: Apache-2.0
#include "gateway/net/hello_queue.h"

#include <gtest/gtest.h>

#include <vector>

namespace gatepost::net {
namespace {

class Client final : public HelloQueue::Client {
 public:
  explicit Client(std::vector<Client*>& turns) : turns_(turns) {}
  void OnTurn() override { turns_.push_back(this); }

 private:
  std::vector<Client*>& turns_;
};

struct HelloQueueTest : testing::Test {
  HelloQueue queue;
  std::vector<Client*> turns;
  Client a{turns}, b{turns}, c{turns}, d{turns};
};

TEST_F(HelloQueueTest, AnswersOneAnIteration) {
  EXPECT_TRUE(queue.MayAnswer(a));
  EXPECT_FALSE(queue.MayAnswer(b));
  EXPECT_FALSE(queue.MayAnswer(a));
  queue.NextIteration();
  EXPECT_TRUE(queue.MayAnswer(b));
}

TEST_F(HelloQueueTest, ServesInTheOrderOfJoining) {
  (void)queue.Join(a);
  (void)queue.Join(b);
  for (Client* expected : {&a, &b}) {
    queue.NextIteration();
    EXPECT_EQ(turns.back(), expected);
    EXPECT_TRUE(queue.MayAnswer(*expected));
    EXPECT_FALSE(queue.MayAnswer(*expected));
  }
  queue.NextIteration();
  EXPECT_EQ(turns, (std::vector{&a, &b}));
}

TEST_F(HelloQueueTest, LetsNobodyPassThoseWhoWait) {
  (void)queue.Join(a);
  EXPECT_FALSE(queue.MayAnswer(b));
  queue.NextIteration();
  EXPECT_FALSE(queue.MayAnswer(b));
  EXPECT_TRUE(queue.MayAnswer(a));
}

TEST_F(HelloQueueTest, SkipsWhoHasLeft) {
  const auto first = queue.Join(a);
  (void)queue.Join(b);
  const auto third = queue.Join(c);
  (void)queue.Join(d);
  queue.Leave(first, a);
  queue.NextIteration();
  EXPECT_EQ(turns, (std::vector{&b}));
  queue.Leave(third, c);
  queue.NextIteration();
  EXPECT_EQ(turns, (std::vector{&b, &d}));
}

TEST_F(HelloQueueTest, ForgetsWhoLeavesInItsTurn) {
  (void)queue.Join(a);
  queue.NextIteration();
  queue.Leave(HelloQueue::kNone, a);
  EXPECT_TRUE(queue.MayAnswer(b));
}

TEST_F(HelloQueueTest, GoesOnWhenATurnIsNotUsed) {
  (void)queue.Join(a);
  (void)queue.Join(b);
  queue.NextIteration();
  queue.NextIteration();
  EXPECT_EQ(turns, (std::vector{&a, &b}));
  EXPECT_FALSE(queue.MayAnswer(a));
  EXPECT_TRUE(queue.MayAnswer(b));
}

}  // namespace
}  // namespace gatepost::net
