// Failures by who made them: a score for each key, which fades, in memory of fixed size.
//
// A set-associative table: a key has its place in one set of a few entries. Where a set is full,
// the new key takes the place of the lowest score, so that whoever wants a high score forgotten
// must first give as high a one to every other entry of its set, which the keyed hash does not let
// it choose. Thread-safe: short locks, each over a part of the sets. It reads no clock.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <utility>

namespace gatepost::auth {

class ScoreTable {
 public:
  struct Entry {
    uint64_t key = 0;  // 0: free
    float score = 0;   // as of `touched`
    uint32_t touched = 0;
    std::array<uint16_t, 3> seen{};  // marks of what was counted last, the newest first; 0: none
    bool refusing = false;
  };

  // `half_life_ms`: after which half of a score is forgotten; not 0. `entries`: about so many keys
  // are remembered, 24 bytes each, of which the kernel gives only what is used.
  ScoreTable(uint64_t half_life_ms, size_t entries);

  // Find calls `use(Entry&)` with the key's entry, its score as of `now_ms`, and returns what that
  // returns; without one a value-initialised result. `now_ms`: any clock that goes forward; the
  // workers' may differ a little.
  template <typename Use>
  auto Find(uint64_t key, uint64_t now_ms, Use use) -> decltype(use(std::declval<Entry&>())) {
    const std::lock_guard lock(MutexOf(key));
    Entry* const entry = Lookup(key, now_ms);
    if (entry == nullptr) return {};
    return use(*entry);
  }
  // Make does so with a new entry where there is none.
  template <typename Use>
  auto Make(uint64_t key, uint64_t now_ms, Use use) {
    const std::lock_guard lock(MutexOf(key));
    Entry* entry = Lookup(key, now_ms);
    return use(entry != nullptr ? *entry : Replace(key, now_ms));
  }

  // CountRefusing returns how many entries are refusing whose score is still `least` or more.
  [[nodiscard]] size_t CountRefusing(double least, uint64_t now_ms) const;

  [[nodiscard]] size_t bytes() const;

 private:
  static constexpr size_t kWays = 8;
  static constexpr size_t kLocks = 64;
  using Set = std::array<Entry, kWays>;

  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };

  // What the clock shows, in the unit of Entry::touched.
  static uint32_t Ticks(uint64_t now_ms) { return static_cast<uint32_t>(now_ms >> 8); }

  [[nodiscard]] size_t SetOf(uint64_t key) const { return key % set_count_; }
  [[nodiscard]] std::mutex& MutexOf(uint64_t key) { return mutexes_[SetOf(key) % kLocks]; }
  [[nodiscard]] double ScoreAt(const Entry& entry, uint32_t ticks) const;
  Entry* Lookup(uint64_t key, uint64_t now_ms);
  Entry& Replace(uint64_t key, uint64_t now_ms);

  const double half_life_ticks_;
  const size_t set_count_;
  std::unique_ptr<Set[], Free> sets_;
  mutable std::array<std::mutex, kLocks> mutexes_;
};

}  // namespace gatepost::auth
