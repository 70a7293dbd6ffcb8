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

Throttle::Throttle(const config::Throttle& settings)
    : limits_{settings.max_failures_per_address, settings.max_failures_per_user,
              settings.max_failures_per_user_and_address},
      exempt_(settings.exempt_networks),
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
  keys[static_cast<size_t>(Scope::kUser)] = hash(Scope::kUser, name);
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
    if (scope == Scope::kUser && user.empty()) continue;
    if (Refuses(scope, keys[static_cast<size_t>(scope)], now_ms)) return scope;
  }
  return std::nullopt;
}

bool Throttle::IsFamiliar(uint64_t pair, uint64_t now_ms) {
  return familiar_.Find(pair, now_ms,
                        [](const ScoreTable::Entry& entry) { return entry.score >= 0.5F; });
}

bool Throttle::Seen(uint64_t pair, std::string_view secret, uint64_t now_ms) {
  if (secret.empty()) return false;
  const uint16_t mark = Mark(hash_.Of(secret, pair));
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
  Failure failure;
  if (net::IsIn(client, exempt_)) return failure;
  const Keys keys = KeysOf(client, user);
  const uint64_t pair = keys[static_cast<size_t>(Scope::kPair)];
  const double added = Seen(pair, secret, now_ms) ? 0 : 1;
  const bool familiar = IsFamiliar(pair, now_ms);
  const uint32_t of_pair = limit(Scope::kPair) != 0 ? limit(Scope::kPair) : kLimitOfNoLimit;
  double weight = 0;
  for (const Scope scope : {Scope::kNetwork, Scope::kUser, Scope::kPair}) {
    const double most = limit(scope);
    if (most == 0 || (scope == Scope::kUser && user.empty())) continue;
    const bool begun =
        Table(scope).Make(keys[static_cast<size_t>(scope)], now_ms, [&](ScoreTable::Entry& entry) {
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
  const uint64_t pair = KeysOf(client, user)[static_cast<size_t>(Scope::kPair)];
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

size_t Throttle::Refusing(Scope scope, uint64_t now_ms) const {
  return tables_[static_cast<size_t>(scope)].CountRefusing(limit(scope) / 2.0, now_ms);
}

size_t Throttle::bytes() const {
  size_t sum = sizeof(*this) - sizeof(tables_) - sizeof(familiar_) + familiar_.bytes();
  for (const ScoreTable& table : tables_) sum += table.bytes();
  return sum;
}

}  // namespace gatepost::auth
