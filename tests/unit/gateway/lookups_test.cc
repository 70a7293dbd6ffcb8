// Lookups that are given up while all of libuv's threads are busy: nobody waits for them.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <uv.h>

#include <array>
#include <chrono>
#include <future>
#include <latch>
#include <memory>
#include <string_view>

#include "gateway/net/address.h"
#include "gateway/net/deadlines.h"
#include "gateway/net/resolver.h"
#include "gateway/net/reverse_lookup.h"

namespace gatepost::net {
namespace {

class LookupsTest : public testing::Test {
 protected:
  LookupsTest() {
    uv_loop_init(&loop_);
    uv_loop_init(&busy_loop_);
    for (Busy& busy : busy_) {
      busy.test = this;
      busy.work.data = &busy;
      uv_queue_work(
          &busy_loop_, &busy.work,
          [](uv_work_t* work) {
            LookupsTest& test = *static_cast<Busy*>(work->data)->test;
            test.all_busy_.count_down();
            test.released_.wait();
          },
          nullptr);
    }
    all_busy_.wait();
  }
  ~LookupsTest() override {
    release_.set_value();
    for (uv_loop_t* loop : {&busy_loop_, &loop_}) {
      uv_run(loop, UV_RUN_DEFAULT);
      EXPECT_EQ(uv_loop_close(loop), 0);
    }
  }

  uv_loop_t loop_;

 private:
  static constexpr size_t kThreads = 4;  // libuv's default
  struct Busy {
    uv_work_t work;
    LookupsTest* test;
  };

  uv_loop_t busy_loop_;
  std::array<Busy, kThreads> busy_{};
  std::latch all_busy_{kThreads};
  std::promise<void> release_;
  const std::shared_future<void> released_ = release_.get_future().share();
};

TEST_F(LookupsTest, AResolverTakesBackItsQuestions) {
  auto resolver = std::make_unique<Resolver>(&loop_);
  const auto ticket =
      resolver->Resolve("localhost", [](const Resolver::Answer&) { ADD_FAILURE(); });
  resolver.reset();
  uv_run(&loop_, UV_RUN_NOWAIT);
  EXPECT_FALSE(uv_loop_alive(&loop_));
}

TEST_F(LookupsTest, AReverseLookupTakesBackItsQuestion) {
  struct Nobody final : ReverseLookup::Observer {
    void OnName(std::string_view) override { ADD_FAILURE(); }
  } nobody;
  const auto running = std::make_shared<uint32_t>(0);
  auto deadlines = std::make_unique<Deadlines>(&loop_);
  auto lookup = ReverseLookup::Start(&loop_, *deadlines, *Address::Parse("127.0.0.1", 25),
                                     std::chrono::minutes(2), running, 1, nobody);
  ASSERT_TRUE(lookup);
  EXPECT_EQ(*running, 1U);
  lookup.reset();
  uv_run(&loop_, UV_RUN_NOWAIT);
  EXPECT_EQ(*running, 0U);
  deadlines.reset();
  uv_run(&loop_, UV_RUN_NOWAIT);
  EXPECT_FALSE(uv_loop_alive(&loop_));
}

}  // namespace
}  // namespace gatepost::net
