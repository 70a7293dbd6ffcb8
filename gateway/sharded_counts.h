// How many there are of each key, for limits that all workers share.
//
// A key takes memory as long as its count is not zero. Thread-safe: short locks, each over a part
// of the keys.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <mutex>
#include <unordered_map>

namespace gatepost {

template <typename Key, typename Hash = std::hash<Key>>
class ShardedCounts {
 public:
  // Add counts one more of `key`, unless there are `most` already; each true needs one Remove.
  [[nodiscard]] bool Add(const Key& key, uint32_t most) {
    Slice& slice = SliceOf(key);
    const std::lock_guard lock(slice.mutex);
    uint32_t& count = slice.counts[key];
    if (count >= most) {
      if (count == 0) slice.counts.erase(key);
      return false;
    }
    ++count;
    return true;
  }

  void Remove(const Key& key) {
    Slice& slice = SliceOf(key);
    const std::lock_guard lock(slice.mutex);
    const auto found = slice.counts.find(key);
    if (found != slice.counts.end() && --found->second == 0) slice.counts.erase(found);
  }

 private:
  struct Slice {
    std::mutex mutex;
    std::unordered_map<Key, uint32_t, Hash> counts;
  };
  Slice& SliceOf(const Key& key) { return slices_[Hash()(key) % slices_.size()]; }

  std::array<Slice, 16> slices_;
};

}  // namespace gatepost
