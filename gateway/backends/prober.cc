// SPDX-License-Identifier: Apache-2.0
#include "gateway/backends/prober.h"

#include <utility>

#include "gateway/backends/directory.h"
#include "gateway/backends/opening.h"
#include "gateway/net/deadlines.h"
#include "gateway/worker.h"

namespace gatepost::backends {
namespace {

constexpr uint64_t kKnownMs = 60'000;
constexpr uint64_t kUnknownMs = 3'000;

}  // namespace

// Probe asks one pool, member after member until one answers, again and again.
class Prober::Probe final : private net::Deadlines::Entry, public Opening::Observer {
 public:
  Probe(Worker& worker, Pool& pool) : worker_(worker), pool_(pool) { Open(0); }

 private:
  void Open(size_t member) {
    member_ = member;
    opening_ = std::make_unique<Opening>(worker_, pool_, pool_.settings().members[member], true,
                                         std::string(), *this);
  }

  void OnOpened(Opening&) override {
    const std::unique_ptr<Opening> opening = std::move(opening_);
    if (opening->state() == Opening::State::kReady) {
      opening->Leave();
      const auto engine = opening->TakeEngine();
      pool_.SetCapabilities(engine->capabilities());
      return Rest(kKnownMs);
    }
    if (member_ + 1 < pool_.settings().members.size()) return Open(member_ + 1);
    Rest(pool_.capabilities() ? kKnownMs : kUnknownMs);
  }

  void Rest(uint64_t delay_ms) {
    pool_.SetProbed();
    worker_.deadlines().Arm(*this, delay_ms);
  }

  void OnDeadline() override { Open(0); }

  Worker& worker_;
  Pool& pool_;
  size_t member_ = 0;
  std::unique_ptr<Opening> opening_;
};

Prober::Prober(Worker& worker) {
  for (const auto& pool : worker.runtime().directory->pools()) {
    probes_.push_back(std::make_unique<Probe>(worker, *pool));
  }
}

Prober::~Prober() = default;

}  // namespace gatepost::backends
