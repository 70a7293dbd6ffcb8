// SPDX-License-Identifier: Apache-2.0
#include "gateway/backends/choice.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

namespace gatepost::backends {
namespace {

// Mix makes one hash of two, of which every bit depends on all of theirs (the finaliser of
// MurmurHash3).
uint64_t Mix(uint64_t a, uint64_t b) {
  uint64_t hash = a + b * 0x9e3779b97f4a7c15ULL;
  hash ^= hash >> 33;
  hash *= 0xff51afd7ed558ccdULL;
  hash ^= hash >> 33;
  hash *= 0xc4ceb9fe1a85ec53ULL;
  return hash ^ hash >> 33;
}

// Unit returns a number between 0 and 1, neither of them.
double Unit(uint64_t hash) {
  constexpr int kUnusedBits = 11;  // a double has 53
  return (static_cast<double>(hash >> kUnusedBits) + 0.5) * 0x1p-53;
}

// Draw is the member's chance for the user: the highest wins. w / -ln(u) makes the chance
// proportional to the weight, and a change of one member's weight moves users to or from it only.
double Draw(uint64_t user, const Member& member, double weight) {
  return weight / -std::log(Unit(Mix(user, member.hash())));
}

// The members that come into question: those whose logins fail only where there are no others, and
// of them those with the lowest priority (RFC 2782).
class Candidates {
 public:
  Candidates(const Roster& roster, const Question& question, bool avoided)
      : roster_(roster), question_(question), avoided_(avoided) {
    std::optional<uint32_t> lowest;
    ForEach([&](uint32_t, const Member& member) {
      lowest = std::min(lowest.value_or(member.priority()), member.priority());
      return true;
    });
    priority_ = lowest;
  }

  // ForEach calls visit(index, member) until that returns false.
  template <typename Visitor>
  void ForEach(Visitor visit) const {
    const auto& tried = question_.tried;
    for (uint32_t i = 0; i < roster_.size(); ++i) {
      const Health& health = roster_[i]->health();
      if (!health.usable() || health.avoided(question_.now_ms) != avoided_) continue;
      if (priority_ && roster_[i]->priority() != *priority_) continue;
      if (std::find(tried.begin(), tried.end(), i) != tried.end()) continue;
      if (!visit(i, *roster_[i])) return;
    }
  }

  // Best returns the one with the highest rank(member); rank is ordered by <.
  template <typename Rank>
  std::optional<uint32_t> Best(Rank rank) const {
    std::optional<uint32_t> best;
    decltype(rank(*roster_.front())) highest{};
    ForEach([&](uint32_t i, const Member& member) {
      const auto own = rank(member);
      if (!best || highest < own) {
        best = i;
        highest = own;
      }
      return true;
    });
    return best;
  }

  std::optional<uint32_t> Next() const;

 private:
  const Roster& roster_;
  const Question& question_;
  const bool avoided_;
  std::optional<uint32_t> priority_;  // nothing: any
};

// Next goes round in layers: all, then those of weight 2 and more, and so on, so that a heavy
// member does not get its turns all at once. One that starts slowly lets its turn pass now and
// then.
std::optional<uint32_t> Candidates::Next() const {
  uint32_t divisor = 0;
  uint64_t turns = 0;
  ForEach([&](uint32_t, const Member& member) {
    divisor = std::gcd(divisor, member.weight());
    turns += member.weight();
    return true;
  });
  if (turns == 0) return std::nullopt;
  turns /= divisor;
  uint64_t skip = question_.turn % turns;
  uint64_t visited = 0;
  std::optional<uint32_t> chosen;
  for (uint32_t layer = 0; visited < 2 * turns; ++layer) {
    const uint64_t before = visited;
    ForEach([&](uint32_t i, const Member& member) {
      if (member.weight() / divisor <= layer) return true;
      ++visited;
      if (skip > 0) {
        --skip;
        return true;
      }
      chosen = i;
      const bool takes =
          Unit(Mix(question_.turn, member.hash())) < member.health().Share(question_.now_ms);
      if (takes) visited = 2 * turns;
      return !takes;
    });
    if (visited != before) continue;
    if (layer == 0) break;  // nobody is left: other threads have found out that they are down
    layer = UINT32_MAX;     // the last layer is done: from the first again
  }
  return chosen;
}

std::optional<uint32_t> ChooseAmong(const Candidates& candidates, const Question& question) {
  const uint64_t user = StableHash(question.user);
  const auto weight = [&](const Member& member) {
    return member.weight() * member.health().Share(question.now_ms);
  };
  switch (question.balance) {
    case config::Balance::kUserHash:
      return candidates.Best(
          [&](const Member& member) { return Draw(user, member, weight(member)); });
    case config::Balance::kLeastSessions:
      return candidates.Best([&](const Member& member) {
        const double load = 1.0 + member.logins() + member.sessions();
        return std::pair(-load / weight(member), Draw(user, member, weight(member)));
      });
    case config::Balance::kRoundRobin:
      return candidates.Next();
  }
  return std::nullopt;
}

}  // namespace

std::optional<uint32_t> Choose(const Roster& roster, const Question& question) {
  for (const bool avoided : {false, true}) {
    if (const auto chosen = ChooseAmong({roster, question, avoided}, question)) return chosen;
  }
  return std::nullopt;
}

}  // namespace gatepost::backends
