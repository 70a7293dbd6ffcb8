// What takes long to free, and is waited for by nobody.
// SPDX-License-Identifier: Apache-2.0
#include "gateway/undertaker.h"

#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <memory>
#include <vector>

namespace gatepost {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kLong = std::chrono::minutes(2);

// Slow can't be freed before it is allowed.
class Slow {
 public:
  Slow(int number, std::vector<int>& freed, std::shared_future<void> allowed)
      : number_(number), freed_(freed), allowed_(std::move(allowed)) {}
  ~Slow() {
    allowed_.wait();
    freed_.push_back(number_);
  }
  Slow(const Slow&) = delete;
  Slow& operator=(const Slow&) = delete;

 private:
  const int number_;
  std::vector<int>& freed_;
  const std::shared_future<void> allowed_;
};

TEST(Undertaker, FreesInOrderWhatNobodyWaitsFor) {
  Undertaker undertaker;
  EXPECT_TRUE(undertaker.Finish(milliseconds(0)));
  for (int round = 0; round < 3; ++round) {
    std::vector<int> freed;
    std::promise<void> allow;
    const std::shared_future<void> allowed = allow.get_future().share();
    for (const int number : {1, 2, 3}) {
      undertaker.Take(std::make_unique<Slow>(number, freed, allowed));
    }
    EXPECT_FALSE(undertaker.Finish(milliseconds(1)));
    allow.set_value();
    EXPECT_TRUE(undertaker.Finish(kLong));
    EXPECT_EQ(freed, (std::vector<int>{1, 2, 3}));
  }
}

TEST(Undertaker, ItsOwnEndWaitsForEverything) {
  std::vector<int> freed;
  {
    Undertaker undertaker;
    std::promise<void> allow;
    undertaker.Take(std::make_unique<Slow>(1, freed, allow.get_future().share()));
    allow.set_value();
  }
  EXPECT_EQ(freed, (std::vector<int>{1}));
}

}  // namespace
}  // namespace gatepost
