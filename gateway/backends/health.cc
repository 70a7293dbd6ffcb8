// SPDX-License-Identifier: Apache-2.0
#include "gateway/backends/health.h"

#include <algorithm>
#include <utility>

namespace gatepost::backends {
namespace {

constexpr double kLeastShare = 0.02;  // of a member that has just come back

}  // namespace

std::optional<Health::Change> Health::Checked(Sign sign, std::string_view cause, uint64_t now_ms) {
  if (sign == Sign::kWorks && !wavering() && state_.load(std::memory_order_relaxed) == State::kUp) {
    return std::nullopt;
  }
  const std::lock_guard lock(mutex_);
  const State state = state_.load(std::memory_order_relaxed);
  if (sign == Sign::kWorks) {
    const uint32_t needed = state == State::kDown ? settings_.rise : 1;
    if (state == State::kUp) {
      streak_.store(0, std::memory_order_relaxed);
    } else if (streak_.fetch_add(1, std::memory_order_relaxed) + 1 >= needed) {
      return Enter(State::kUp, cause_, now_ms);
    }
    return std::nullopt;
  }
  if (state != State::kDown) return Fails(sign, cause, now_ms, state == State::kUnknown);
  streak_.store(0, std::memory_order_relaxed);
  cause_ = cause;
  misconfigured_.store(sign == Sign::kMisconfigured, std::memory_order_relaxed);
  return std::nullopt;
}

std::optional<Health::Change> Health::Met(Sign sign, std::string_view cause, uint64_t now_ms) {
  // Only checks bring a member back: a connection that was begun before says nothing of now.
  if (!usable() || (sign == Sign::kWorks && !wavering())) return std::nullopt;
  const std::lock_guard lock(mutex_);
  if (!usable()) return std::nullopt;
  if (sign == Sign::kWorks) {
    streak_.store(0, std::memory_order_relaxed);
    return std::nullopt;
  }
  suspicious_.store(true, std::memory_order_relaxed);
  return Fails(sign, cause, now_ms, false);
}

std::optional<Health::Change> Health::Fails(Sign sign, std::string_view cause, uint64_t now_ms,
                                            bool at_once) {
  if (!at_once && sign != Sign::kLeaves &&
      streak_.fetch_add(1, std::memory_order_relaxed) + 1 < settings_.fall) {
    return std::nullopt;
  }
  misconfigured_.store(sign == Sign::kMisconfigured, std::memory_order_relaxed);
  return Enter(State::kDown, cause, now_ms);
}

std::optional<Health::Change> Health::Enter(State state, std::string_view cause, uint64_t now_ms) {
  const State before = state_.load(std::memory_order_relaxed);
  // The workers' clocks are each a loop's own: one may be behind the other.
  const bool later = before != State::kUnknown && now_ms > since_ms_;
  Change change{state == State::kUp, std::string(cause), later ? now_ms - since_ms_ : 0};
  since_ms_ = now_ms;
  streak_.store(0, std::memory_order_relaxed);
  if (state == State::kUp) {
    cause_.clear();
    misconfigured_.store(false, std::memory_order_relaxed);
    if (before == State::kDown) came_back_ms_.store(now_ms, std::memory_order_relaxed);
  } else {
    cause_ = change.cause;
  }
  state_.store(state, std::memory_order_relaxed);
  if (before == State::kUnknown && state == State::kUp) return std::nullopt;  // as was hoped
  transitions_.fetch_add(1, std::memory_order_relaxed);
  return change;
}

void Health::LoginFailed(uint64_t who, uint64_t now_ms) {
  suspicious_.store(true, std::memory_order_relaxed);
  const std::lock_guard lock(mutex_);
  const bool same = std::exchange(last_who_, who) == who;
  if (same && failed_logins_.load(std::memory_order_relaxed) > 0) return;
  if (failed_logins_.fetch_add(1, std::memory_order_relaxed) + 1 < settings_.fall) return;
  avoid_until_ms_.store(now_ms + kAvoidMs, std::memory_order_relaxed);
}

void Health::LoginAnswered() {
  if (failed_logins_.load(std::memory_order_relaxed) == 0) return;
  const std::lock_guard lock(mutex_);
  failed_logins_.store(0, std::memory_order_relaxed);
  avoid_until_ms_.store(0, std::memory_order_relaxed);
}

double Health::Share(uint64_t now_ms) const {
  const uint64_t since_ms = came_back_ms_.load(std::memory_order_relaxed);
  if (since_ms == 0 || settings_.slow_start_ms == 0) return 1;
  const uint64_t passed_ms = now_ms > since_ms ? now_ms - since_ms : 0;
  if (passed_ms >= settings_.slow_start_ms) return 1;
  return std::max(kLeastShare,
                  static_cast<double>(passed_ms) / static_cast<double>(settings_.slow_start_ms));
}

}  // namespace gatepost::backends
