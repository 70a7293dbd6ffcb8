// SPDX-License-Identifier: Apache-2.0
#include "gateway/auth/score_table.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <type_traits>

namespace gatepost::auth {

static_assert(sizeof(ScoreTable::Entry) == 24);
// Zeroed memory is a table of free entries.
static_assert(std::is_trivially_copyable_v<ScoreTable::Entry>);

ScoreTable::ScoreTable(uint64_t half_life_ms, size_t entries)
    : half_life_ticks_(static_cast<double>(half_life_ms) / 256),
      set_count_(std::max<size_t>(entries / kWays, 1)),
      // Pages of calloc's that nobody has written to take no memory.
      sets_(static_cast<Set*>(std::calloc(set_count_, sizeof(Set)))) {
  if (!sets_) throw std::bad_alloc();
}

double ScoreTable::ScoreAt(const Entry& entry, uint32_t ticks) const {
  if (ticks <= entry.touched) return static_cast<double>(entry.score);
  return static_cast<double>(entry.score) *
         std::exp2(-static_cast<double>(ticks - entry.touched) / half_life_ticks_);
}

ScoreTable::Entry* ScoreTable::Lookup(uint64_t key, uint64_t now_ms) {
  for (Entry& entry : sets_[SetOf(key)]) {
    if (entry.key != key) continue;
    const uint32_t ticks = Ticks(now_ms);
    entry.score = static_cast<float>(ScoreAt(entry, ticks));
    entry.touched = std::max(entry.touched, ticks);
    return &entry;
  }
  return nullptr;
}

ScoreTable::Entry& ScoreTable::Replace(uint64_t key, uint64_t now_ms) {
  const uint32_t ticks = Ticks(now_ms);
  Set& set = sets_[SetOf(key)];
  Entry& lowest = *std::min_element(set.begin(), set.end(), [&](const Entry& a, const Entry& b) {
    return ScoreAt(a, ticks) < ScoreAt(b, ticks);
  });
  lowest = Entry{.key = key, .touched = ticks};
  return lowest;
}

size_t ScoreTable::CountRefusing(double least, uint64_t now_ms) const {
  const uint32_t ticks = Ticks(now_ms);
  size_t count = 0;
  for (size_t lock_index = 0; lock_index < kLocks; ++lock_index) {
    const std::lock_guard lock(mutexes_[lock_index]);
    for (size_t set = lock_index; set < set_count_; set += kLocks) {
      count += static_cast<size_t>(std::count_if(
          sets_[set].begin(), sets_[set].end(),
          [&](const Entry& entry) { return entry.refusing && ScoreAt(entry, ticks) >= least; }));
    }
  }
  return count;
}

size_t ScoreTable::bytes() const {
  return sizeof(*this) + set_count_ * sizeof(Set);
}

}  // namespace gatepost::auth
