// SPDX-License-Identifier: Apache-2.0
#include "gateway/backends/prober.h"

#include <algorithm>
#include <random>
#include <utility>

#include "gateway/backends/directory.h"
#include "gateway/backends/opening.h"
#include "gateway/net/deadlines.h"
#include "gateway/worker.h"

namespace gatepost::backends {
namespace {

constexpr uint64_t kSoonMs = 1'000;  // until a member that failed is known to be down
constexpr uint64_t kDownMs = 2'000;  // between looks at a member that is down, at most
constexpr uint64_t kBackMs = 200;    // the first of them, and until it is known to be back
constexpr uint64_t kLookMs = 1'000;  // for what sessions have met

}  // namespace

// Checks are those of one pool.
class Prober::Checks {
 public:
  Checks(Worker& worker, Pool& pool);

  // Use makes a check of each member that there is now.
  void Use();

 private:
  class Check;
  void OnChecked();

  Worker& worker_;
  Pool& pool_;
  std::vector<std::unique_ptr<Check>> checks_;
};

// Check looks at one member again and again.
class Prober::Checks::Check final : private net::Deadlines::Entry, public Opening::Observer {
 public:
  Check(Checks& checks, std::shared_ptr<Member> member)
      : checks_(checks), member_(std::move(member)) {
    Begin();
  }

  [[nodiscard]] const std::shared_ptr<Member>& member() const { return member_; }
  // Whether the first look has ended.
  [[nodiscard]] bool known() const { return known_; }

 private:
  void Begin() {
    (void)member_->health().TakeSuspicion();
    opening_ = std::make_unique<Opening>(checks_.worker_, checks_.pool_, member_, Purpose::kCheck,
                                         std::string(), *this);
  }

  void OnOpened(Opening&) override {
    const std::unique_ptr<Opening> opening = std::move(opening_);
    if (opening->state() == Opening::State::kReady) {
      opening->Leave();
      member_->SetCapabilities(opening->TakeEngine()->capabilities());
    }
    known_ = true;
    checks_.OnChecked();
    due_ms_ = checks_.worker_.Now() + Delay();
    Rest();
  }

  // The next delay: within a tenth of the interval, so that members and replicas spread.
  uint64_t Delay() {
    const auto interval = static_cast<uint64_t>(checks_.pool_.settings().health_interval.count());
    const Health& health = member_->health();
    if (!health.usable()) {
      // One that is restarted is back in a moment; one that is away is not asked all the time.
      down_ms_ = health.wavering() ? kBackMs : std::clamp(2 * down_ms_, kBackMs, kDownMs);
      return std::min(interval, down_ms_);
    }
    down_ms_ = 0;
    if (health.wavering()) return std::min(interval, kSoonMs);
    std::uniform_int_distribution<uint64_t> jitter(0, interval / 5);
    return interval - interval / 10 + jitter(random_);
  }

  void Rest() {
    const uint64_t now = checks_.worker_.Now();
    checks_.worker_.deadlines().Arm(*this, std::min(due_ms_ > now ? due_ms_ - now : 0, kLookMs));
  }

  void OnDeadline() override {
    if (checks_.worker_.Now() >= due_ms_ || member_->health().TakeSuspicion()) return Begin();
    Rest();
  }

  Checks& checks_;
  const std::shared_ptr<Member> member_;
  std::minstd_rand random_{std::random_device()()};
  bool known_ = false;
  uint64_t due_ms_ = 0;
  uint64_t down_ms_ = 0;  // the last delay while it was down
  std::unique_ptr<Opening> opening_;
};

Prober::Checks::Checks(Worker& worker, Pool& pool) : worker_(worker), pool_(pool) {
  Use();
}

void Prober::Checks::Use() {
  std::vector<std::unique_ptr<Check>> before;
  before.swap(checks_);
  const auto roster = pool_.roster();
  for (const auto& member : *roster) {
    const auto known = std::find_if(before.begin(), before.end(), [&](const auto& check) {
      return check && check->member() == member;
    });
    checks_.push_back(known != before.end() ? std::move(*known)
                                            : std::make_unique<Check>(*this, member));
  }
}

void Prober::Checks::OnChecked() {
  pool_.RenewCapabilities();
  if (std::all_of(checks_.begin(), checks_.end(),
                  [](const auto& check) { return check->known(); })) {
    pool_.SetProbed();
  }
}

Prober::Prober(Worker& worker) {
  for (const auto& pool : worker.runtime().directory->pools()) {
    pools_.push_back(std::make_unique<Checks>(worker, *pool));
  }
}

Prober::~Prober() = default;

void Prober::Use(const Pool& pool) {
  pools_[pool.index()]->Use();
}

}  // namespace gatepost::backends
