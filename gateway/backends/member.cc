// SPDX-License-Identifier: Apache-2.0
#include "gateway/backends/member.h"

#include <utility>

#include "config/values.h"

namespace gatepost::backends {

std::string MemberName(const config::Member& member) {
  return config::Text(config::SocketAddress{member.host, member.port});
}

// FNV-1a; who combines hashes mixes them.
uint64_t StableHash(std::string_view text) {
  uint64_t hash = 14695981039346656037ULL;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  return hash;
}

Member::Member(MemberFacts facts, const Health::Settings& health)
    : facts_(std::move(facts)),
      name_(MemberName(facts_.address)),
      hash_(StableHash(name_)),
      health_(health) {}

void Member::NoteLogin(uint64_t took_ms) {
  constexpr double kWeight = 0.1;  // of the newest
  const auto took = static_cast<double>(took_ms);
  // Two at once may lose one of both: an average does not mind.
  const double before = login_ms_.load(std::memory_order_relaxed);
  login_ms_.store(before < 0 ? took : before + kWeight * (took - before),
                  std::memory_order_relaxed);
}

std::optional<double> Member::login_ms() const {
  const double average = login_ms_.load(std::memory_order_relaxed);
  if (average < 0) return std::nullopt;
  return average;
}

std::shared_ptr<const protocols::Capabilities> Member::capabilities() const {
  const std::lock_guard lock(mutex_);
  return capabilities_;
}

bool Member::SetCapabilities(const protocols::Capabilities& capabilities) {
  auto learnt = std::make_shared<const protocols::Capabilities>(capabilities);
  const std::lock_guard lock(mutex_);
  if (capabilities_ && *capabilities_ == *learnt) return false;
  capabilities_.swap(learnt);
  return true;
}

std::string Member::problem() const {
  const std::lock_guard lock(mutex_);
  return problem_;
}

void Member::SetProblem(std::string_view problem) {
  const std::lock_guard lock(mutex_);
  problem_ = problem;
}

}  // namespace gatepost::backends
