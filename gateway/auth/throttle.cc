// SPDX-License-Identifier: Apache-2.0
#include "gateway/auth/throttle.h"

#include <algorithm>
#include <cmath>

#include "gateway/net/networks.h"

namespace gatepost::auth {
namespace {

constexpr size_t kEntries = size_t{1} << 16;  // of each table: 1.5 MiB where all are used
constexpr uint64_t kFamiliarMs = uint64_t{30} * 24 * 3'600'000;
constexpr uint32_t kLimitOfNoLimit = 10;  // a pair's, to compare others with

// What a score may be above its limit, so that failures that were under way when the refusal began
// lengthen it by one half-life at most.
constexpr double kMostOverLimit = 2;

uint16_t Mark(uint64_t hash) {
  const auto mark = static_cast<uint16_t>(hash);
  return mark == 0 ? 1 : mark;
}

// IsRefusing ends a refusal when half of what it began with is forgotten.
bool IsRefusing(ScoreTable::Entry& entry, double most) {
  entry.refusing = entry.refusing && static_cast<double>(entry.score) >= most / 2;
  return entry.refusing;
}

}  // namespace

std::string UserKey(std::string_view user) {
  std::string key(user);
  std::transform(key.begin(), key.end(), key.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return key;
}

std::string_view Name(Throttle::Scope scope) {
  static constexpr std::array<std::string_view, static_cast<size_t>(Throttle::Scope::kCount)>
      kNames = {"network", "user", "pair"};
  return kNames[static_cast<size_t>(scope)];
}

Throttle::Throttle(const config::Throttle& settings, const sasl::Secret& shared_key)
    : limits_{settings.max_failures_per_address, settings.max_failures_per_user,
              settings.max_failures_per_user_and_address},
      half_life_ms_(static_cast<double>(settings.half_life.count())),
      exempt_(settings.exempt_networks),
      hash_(shared_key.empty() ? tls::KeyedHash() : tls::KeyedHash(shared_key.Reveal())),
      tables_{ScoreTable(static_cast<uint64_t>(settings.half_life.count()), kEntries),
              ScoreTable(static_cast<uint64_t>(settings.half_life.count()), kEntries),
              ScoreTable(static_cast<uint64_t>(settings.half_life.count()), kEntries)},
      familiar_(kFamiliarMs, kEntries) {}

Throttle::Keys Throttle::KeysOf(const net::Address& client, std::string_view user) const {
  const net::Address::NetworkKey network = client.Network();
  std::string bytes(network.begin(), network.end());
  const auto hash = [this](Scope scope, std::string_view of) {
    return std::max<uint64_t>(hash_.Of(of, static_cast<uint64_t>(scope)), 1);  // 0: a free entry
  };
  Keys keys{};
  keys[static_cast<size_t>(Scope::kNetwork)] = hash(Scope::kNetwork, bytes);
  const std::string name = UserKey(user);
  if (!user.empty()) keys[static_cast<size_t>(Scope::kUser)] = hash(Scope::kUser, name);
  keys[static_cast<size_t>(Scope::kPair)] = hash(Scope::kPair, bytes.append(name));
  return keys;
}

bool Throttle::Refuses(Scope scope, uint64_t key, uint64_t now_ms) {
  const uint32_t most = limit(scope);
  if (most == 0) return false;
  return Table(scope).Find(key, now_ms,
                           [most](ScoreTable::Entry& entry) { return IsRefusing(entry, most); });
}

std::optional<Throttle::Scope> Throttle::Refuses(const net::Address& client, std::string_view user,
                                                 uint64_t now_ms) {
  if (net::IsIn(client, exempt_)) return std::nullopt;
  const Keys keys = KeysOf(client, user);
  const uint64_t pair = keys[static_cast<size_t>(Scope::kPair)];
  if (Refuses(Scope::kPair, pair, now_ms)) return Scope::kPair;
  if (IsFamiliar(pair, now_ms)) return std::nullopt;
  for (const Scope scope : {Scope::kNetwork, Scope::kUser}) {
    const uint64_t key = keys[static_cast<size_t>(scope)];
    if (key != 0 && Refuses(scope, key, now_ms)) return scope;
  }
  return std::nullopt;
}

bool Throttle::IsFamiliar(uint64_t pair, uint64_t now_ms) {
  return familiar_.Find(pair, now_ms,
                        [](const ScoreTable::Entry& entry) { return entry.score >= 0.5F; });
}

bool Throttle::Seen(uint64_t pair, uint16_t mark, uint64_t now_ms) {
  if (mark == 0) return false;
  return Table(Scope::kPair).Make(pair, now_ms, [mark](ScoreTable::Entry& entry) {
    auto& seen = entry.seen;
    auto* const place = std::find(seen.begin(), seen.end(), mark);
    const bool known = place != seen.end();
    std::rotate(seen.begin(), known ? place : seen.end() - 1, known ? place + 1 : seen.end());
    seen.front() = mark;
    return known;
  });
}

Throttle::Failure Throttle::Failed(const net::Address& client, std::string_view user,
                                   std::string_view secret, uint64_t now_ms) {
  if (net::IsIn(client, exempt_)) return {};
  const Keys keys = KeysOf(client, user);
  const uint64_t pair = keys[static_cast<size_t>(Scope::kPair)];
  const uint16_t mark = secret.empty() ? 0 : Mark(hash_.Of(secret, pair));
  const bool seen = Seen(pair, mark, now_ms);
  if (!seen && courier_) courier_->Tell({ThrottleEvent::Kind::kFailed, keys, mark});
  return Count(keys, seen ? 0 : 1, now_ms);
}

Throttle::Failure Throttle::Count(const Keys& keys, double added, uint64_t now_ms) {
  Failure failure;
  const bool familiar = IsFamiliar(keys[static_cast<size_t>(Scope::kPair)], now_ms);
  const uint32_t of_pair = limit(Scope::kPair) != 0 ? limit(Scope::kPair) : kLimitOfNoLimit;
  double weight = 0;
  for (const Scope scope : {Scope::kNetwork, Scope::kUser, Scope::kPair}) {
    const double most = limit(scope);
    const uint64_t key = keys[static_cast<size_t>(scope)];
    if (most == 0 || key == 0) continue;
    const bool begun = Table(scope).Make(key, now_ms, [&](ScoreTable::Entry& entry) {
      const bool refusing = IsRefusing(entry, most);
      const double score =
          std::min(static_cast<double>(entry.score) + added, kMostOverLimit * most);
      entry.score = static_cast<float>(score);
      if (scope == Scope::kPair || !familiar) weight = std::max(weight, score * of_pair / most);
      // What has faded since the first failure is not missed.
      if (refusing || score < most - 0.5) return false;
      entry.refusing = true;
      return true;
    });
    if (begun) failure.begun.push_back(scope);
  }
  failure.weight = static_cast<uint32_t>(std::ceil(weight));
  return failure;
}

void Throttle::Succeeded(const net::Address& client, std::string_view user, uint64_t now_ms) {
  if (net::IsIn(client, exempt_)) return;
  const Keys keys = KeysOf(client, user);
  const uint64_t pair = keys[static_cast<size_t>(Scope::kPair)];
  if (courier_) {
    // Most logins are nothing new.
    const bool failed = Table(Scope::kPair).Find(pair, now_ms, [](const ScoreTable::Entry& entry) {
      return entry.score > 0;
    });
    if (failed || !IsFamiliar(pair, now_ms)) {
      courier_->Tell({ThrottleEvent::Kind::kSucceeded, keys});
    }
  }
  Forgive(pair, now_ms);
}

void Throttle::Forgive(uint64_t pair, uint64_t now_ms) {
  Table(Scope::kPair).Find(pair, now_ms, [](ScoreTable::Entry& entry) {
    entry.score = 0;
    entry.refusing = false;
    return true;
  });
  familiar_.Make(pair, now_ms, [](ScoreTable::Entry& entry) {
    entry.score = 1;
    return true;
  });
}

void Throttle::Apply(const ThrottleEvent& event, uint64_t age_ms, uint64_t now_ms) {
  const uint64_t pair = event.keys[static_cast<size_t>(Scope::kPair)];
  if (pair == 0) return;
  switch (event.kind) {
    case ThrottleEvent::Kind::kFailed: {
      if (Seen(pair, event.mark, now_ms)) return;
      // What has faded since is not counted.
      (void)Count(event.keys, std::exp2(-static_cast<double>(age_ms) / half_life_ms_), now_ms);
      return;
    }
    case ThrottleEvent::Kind::kSucceeded:
      return Forgive(pair, now_ms);
  }
}

size_t Throttle::Refusing(Scope scope, uint64_t now_ms) const {
  return tables_[static_cast<size_t>(scope)].CountRefusing(limit(scope) / 2.0, now_ms);
}

size_t Throttle::bytes() const {
  size_t sum = sizeof(*this) - sizeof(tables_) - sizeof(familiar_) + familiar_.bytes();
  for (const ScoreTable& table : tables_) sum += table.bytes();
  return sum;
}

}  // namespace gatepost::auth
