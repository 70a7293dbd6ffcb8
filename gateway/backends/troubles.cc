// SPDX-License-Identifier: Apache-2.0
#include "gateway/backends/troubles.h"

#include <algorithm>
#include <utility>

namespace gatepost::backends {
namespace {

// An authority may name members that no pool has.
constexpr size_t kMaxMembers = 4096;

}  // namespace

std::optional<uint64_t> Troubles::Failed(Stage stage, const config::Member& member,
                                         std::string_view cause, uint64_t now_ms) {
  const std::lock_guard lock(mutex_);
  const MemberKey key(member.host, member.port);
  if (members_.size() >= kMaxMembers && !members_.contains(key)) return std::nullopt;
  std::vector<Trouble>& troubles = members_[key];
  auto trouble = std::find_if(troubles.begin(), troubles.end(), [&](const Trouble& other) {
    return other.stage == stage && other.cause == cause;
  });
  if (trouble == troubles.end()) {
    troubles.push_back({stage, std::string(cause), now_ms, now_ms, 1, 0, true});
    ++failing_;
    return 0;
  }
  ++trouble->failures;
  // The workers' clocks are each a loop's own: one may be behind the other.
  const uint64_t silent_ms = now_ms > trouble->told_ms ? now_ms - trouble->told_ms : 0;
  if (silent_ms < (trouble->failing ? kAgainMs : kFlapMs)) {
    ++trouble->kept_back;
    return std::nullopt;
  }
  if (!trouble->failing) {
    trouble->failing = true;
    trouble->since_ms = now_ms;
    trouble->failures = 1;
    ++failing_;
  }
  trouble->told_ms = now_ms;
  return std::exchange(trouble->kept_back, 0);
}

std::optional<Troubles::Recovery> Troubles::Works(Stage stage, const config::Member& member,
                                                  uint64_t now_ms) {
  if (failing_.load(std::memory_order_relaxed) == 0) return std::nullopt;
  const std::lock_guard lock(mutex_);
  const auto found = members_.find({member.host, member.port});
  if (found == members_.end()) return std::nullopt;
  std::optional<Recovery> recovery;
  for (Trouble& trouble : found->second) {
    if (!trouble.failing || trouble.stage != stage) continue;
    trouble.failing = false;
    --failing_;
    if (!recovery) recovery.emplace();
    recovery->failures += trouble.failures;
    recovery->lasted_ms =
        std::max(recovery->lasted_ms, now_ms > trouble.since_ms ? now_ms - trouble.since_ms : 0);
  }
  return recovery;
}

void Troubles::Forget(const config::Member& member) {
  const std::lock_guard lock(mutex_);
  const auto found = members_.find({member.host, member.port});
  if (found == members_.end()) return;
  for (const Trouble& trouble : found->second) {
    if (trouble.failing) --failing_;
  }
  members_.erase(found);
}

}  // namespace gatepost::backends
