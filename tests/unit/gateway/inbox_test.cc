// Work that other threads hand to a loop.
// SPDX-License-Identifier: Apache-2.0
#include "gateway/net/inbox.h"

#include <gtest/gtest.h>

#include <memory>
#include <thread>
#include <vector>

namespace gatepost::net {
namespace {

class InboxTest : public testing::Test {
 protected:
  InboxTest() {
    uv_loop_init(&loop_);
    inbox_ = std::make_unique<Inbox>(&loop_);
  }
  ~InboxTest() override {
    inbox_.reset();
    uv_run(&loop_, UV_RUN_DEFAULT);
    EXPECT_EQ(uv_loop_close(&loop_), 0);
  }

  uv_loop_t loop_;
  std::unique_ptr<Inbox> inbox_;
};

TEST_F(InboxTest, RunsInOrderWhatAnotherThreadPosts) {
  std::vector<int> seen;
  std::thread other([&] {
    for (int i = 0; i < 100; ++i) inbox_->Post([&seen, i] { seen.push_back(i); });
    inbox_->Post([&] { uv_stop(&loop_); });
  });
  uv_run(&loop_, UV_RUN_DEFAULT);
  other.join();
  ASSERT_EQ(seen.size(), 100U);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(seen[static_cast<size_t>(i)], i);
}

TEST_F(InboxTest, GivesOthersTheirTurnBeforeWhatItsWorkPosts) {
  int turns = 0;
  bool again_ran = false;
  inbox_->Post([&] {
    inbox_->Post([&] { again_ran = true; });
    ++turns;
  });
  uv_run(&loop_, UV_RUN_NOWAIT);
  EXPECT_EQ(turns, 1);
  EXPECT_FALSE(again_ran);
  uv_run(&loop_, UV_RUN_NOWAIT);
  EXPECT_TRUE(again_ran);
}

TEST_F(InboxTest, DestroysUnrunWhatComesTooLate) {
  const auto held = std::make_shared<int>();
  bool ran = false;
  inbox_->Post([held, &ran] { ran = true; });
  EXPECT_EQ(held.use_count(), 2);
  inbox_->Close();
  EXPECT_EQ(held.use_count(), 1);
  inbox_->Post([held, &ran] { ran = true; });
  EXPECT_EQ(held.use_count(), 1);
  uv_run(&loop_, UV_RUN_DEFAULT);
  EXPECT_FALSE(ran);
}

}  // namespace
}  // namespace gatepost::net
