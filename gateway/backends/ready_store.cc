// SPDX-License-Identifier: Apache-2.0
#include "gateway/backends/ready_store.h"

#include <algorithm>
#include <utility>

#include "gateway/net/deadlines.h"
#include "gateway/worker.h"

namespace gatepost::backends {
namespace {

// The age at which a connection that nobody took is renewed. Servers wait a minute or more for a
// login.
constexpr uint64_t kRenewMs = 45'000;
constexpr uint64_t kRetryMs = 5'000;  // after a failure

}  // namespace

// Shelf holds the connections of one member.
class ReadyStore::Shelf final : private net::Deadlines::Entry, public Opening::Observer {
 public:
  Shelf(Worker& worker, const Pool& pool, const config::Member& member)
      : worker_(worker), pool_(pool), member_(member) {
    Fill();
  }

  [[nodiscard]] bool Holds(const Pool& pool, const config::Member& member) const {
    return &pool == &pool_ && member == member_;
  }

  // The youngest, which is the least likely to be given up by the backend just now.
  [[nodiscard]] std::unique_ptr<Opening> Take(Opening::Observer& observer) {
    for (auto item = items_.rbegin(); item != items_.rend(); ++item) {
      if ((*item)->state() != Opening::State::kReady) continue;
      std::unique_ptr<Opening> taken = std::move(*item);
      items_.erase(std::next(item).base());
      taken->SetObserver(observer);
      worker_.deadlines().Arm(*this, 0);  // fills the gap outside the login's way
      return taken;
    }
    return nullptr;
  }

 private:
  void Fill() {
    while (items_.size() < pool_.settings().ready_connections) {
      items_.push_back(
          std::make_unique<Opening>(worker_, pool_, member_, false, std::string(), *this));
    }
    worker_.deadlines().Arm(*this, kRenewMs / pool_.settings().ready_connections);
  }

  void OnOpened(Opening& opening) override {
    if (opening.state() == Opening::State::kReady) return;
    std::erase_if(items_, [&](const auto& item) { return item.get() == &opening; });
    worker_.deadlines().Arm(*this, kRetryMs);
  }

  void OnDeadline() override {
    if (items_.size() >= pool_.settings().ready_connections &&
        items_.front()->state() == Opening::State::kReady) {
      items_.front()->Leave();
      items_.erase(items_.begin());
    }
    Fill();
  }

  Worker& worker_;
  const Pool& pool_;
  const config::Member member_;
  std::vector<std::unique_ptr<Opening>> items_;  // the oldest first
};

ReadyStore::ReadyStore(Worker& worker) {
  for (const auto& pool : worker.runtime().directory->pools()) {
    if (pool->settings().ready_connections == 0) continue;
    for (const config::Member& member : pool->settings().members) {
      shelves_.push_back(std::make_unique<Shelf>(worker, *pool, member));
    }
  }
}

ReadyStore::~ReadyStore() = default;

std::unique_ptr<Opening> ReadyStore::Take(const Pool& pool, const config::Member& member,
                                          Opening::Observer& observer) {
  for (const auto& shelf : shelves_) {
    if (shelf->Holds(pool, member)) return shelf->Take(observer);
  }
  return nullptr;
}

}  // namespace gatepost::backends
