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
  Shelf(Worker& worker, const Pool& pool, std::shared_ptr<Member> member)
      : worker_(worker), pool_(pool), member_(std::move(member)) {
    Fill();
  }

  [[nodiscard]] bool IsOf(const Pool& pool) const { return &pool == &pool_; }
  [[nodiscard]] bool Holds(const Member& member) const { return &member == member_.get(); }

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
    // No use to knock there: the checks find out when it is back.
    if (!member_->health().usable()) return worker_.deadlines().Arm(*this, kRetryMs);
    while (items_.size() < pool_.settings().ready_connections) {
      items_.push_back(std::make_unique<Opening>(worker_, pool_, member_, Purpose::kLogin,
                                                 std::string(), *this));
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
  const std::shared_ptr<Member> member_;
  std::vector<std::unique_ptr<Opening>> items_;  // the oldest first
};

ReadyStore::ReadyStore(Worker& worker) : worker_(worker) {
  for (const auto& pool : worker.runtime().directory->pools()) Use(*pool);
}

void ReadyStore::Use(const Pool& pool) {
  if (pool.settings().ready_connections == 0) return;
  const Roster& roster = *worker_.Roster(pool);
  std::erase_if(shelves_, [&](const auto& shelf) {
    return shelf->IsOf(pool) && std::none_of(roster.begin(), roster.end(), [&](const auto& member) {
             return shelf->Holds(*member);
           });
  });
  for (const auto& member : roster) {
    if (std::none_of(shelves_.begin(), shelves_.end(),
                     [&](const auto& shelf) { return shelf->Holds(*member); })) {
      shelves_.push_back(std::make_unique<Shelf>(worker_, pool, member));
    }
  }
}

ReadyStore::~ReadyStore() = default;

void ReadyStore::Clear() {
  shelves_.clear();
}

std::unique_ptr<Opening> ReadyStore::Take(const Member& member, Opening::Observer& observer) {
  for (const auto& shelf : shelves_) {
    if (shelf->Holds(member)) return shelf->Take(observer);
  }
  return nullptr;
}

}  // namespace gatepost::backends
