// SPDX-License-Identifier: Apache-2.0
#include "gateway/net/deadlines.h"

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <vector>

namespace gatepost::net {
namespace {

class Alarm final : public Deadlines::Entry {
 public:
  explicit Alarm(std::function<void()> ring) : ring_(std::move(ring)) {}

 private:
  void OnDeadline() override { ring_(); }
  std::function<void()> ring_;
};

class DeadlinesTest : public testing::Test {
 protected:
  DeadlinesTest() {
    uv_loop_init(&loop_);
    deadlines_ = std::make_unique<Deadlines>(&loop_);
    // The wheel's own timer does not keep a loop alive; this one does.
    uv_timer_init(&loop_, &keep_alive_);
    uv_timer_start(
        &keep_alive_, [](uv_timer_t* timer) { uv_stop(timer->loop); }, 5'000, 0);
  }
  ~DeadlinesTest() override {
    deadlines_.reset();
    uv_close(reinterpret_cast<uv_handle_t*>(&keep_alive_), nullptr);
    uv_run(&loop_, UV_RUN_DEFAULT);
    EXPECT_EQ(uv_loop_close(&loop_), 0);
  }

  uv_loop_t loop_;
  uv_timer_t keep_alive_;
  std::unique_ptr<Deadlines> deadlines_;
};

TEST_F(DeadlinesTest, RingInOrderAndNotEarly) {
  std::vector<int> rung;
  uint64_t began = uv_now(&loop_);
  uint64_t first_at = 0;
  Alarm late([&] {
    rung.push_back(2);
    uv_stop(&loop_);
  });
  Alarm early([&] {
    rung.push_back(1);
    first_at = uv_now(&loop_);
  });
  deadlines_->Arm(late, 350);
  deadlines_->Arm(early, 150);
  uv_run(&loop_, UV_RUN_DEFAULT);
  EXPECT_EQ(rung, (std::vector<int>{1, 2}));
  EXPECT_GE(first_at, began + 150);
}

TEST_F(DeadlinesTest, ArmingAgainReplacesAndDisarmForgets) {
  int rung = 0;
  Alarm moved([&] {
    ++rung;
    uv_stop(&loop_);
  });
  Alarm forgotten([&] { rung += 100; });
  deadlines_->Arm(moved, 100);
  deadlines_->Arm(moved, 300);
  deadlines_->Arm(forgotten, 100);
  Deadlines::Disarm(forgotten);
  uv_run(&loop_, UV_RUN_DEFAULT);
  EXPECT_EQ(rung, 1);
}

TEST_F(DeadlinesTest, AnEntryMayDestroyOthersAndArmItselfWhileRinging) {
  int rung = 0;
  auto victim = std::make_unique<Alarm>([&] { rung += 100; });
  std::unique_ptr<Alarm> killer;
  killer = std::make_unique<Alarm>([&] {
    victim.reset();
    if (++rung < 3) {
      deadlines_->Arm(*killer, 100);
    } else {
      uv_stop(&loop_);
    }
  });
  deadlines_->Arm(*killer, 100);  // the same slot, the killer first
  deadlines_->Arm(*victim, 100);
  uv_run(&loop_, UV_RUN_DEFAULT);
  EXPECT_EQ(rung, 3);
}

TEST_F(DeadlinesTest, ADeadlineOfSeveralRoundsWaitsForItsRound) {
  // 1024 slots of 100 ms are one round: this one shares its slot with the near one and must not
  // ring.
  int rung = 0;
  Alarm far([&] { rung += 100; });
  Alarm near([&] {
    ++rung;
    uv_stop(&loop_);
  });
  deadlines_->Arm(far, 1024 * 100 + 200);
  deadlines_->Arm(near, 200);
  uv_run(&loop_, UV_RUN_DEFAULT);
  EXPECT_EQ(rung, 1);
  Deadlines::Disarm(far);
}

}  // namespace
}  // namespace gatepost::net
