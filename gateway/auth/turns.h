// Who may ask an authority now, and who waits for that: so many at a time, in their order.
//
// It knows keys; who they are, and whether they are there yet, is the owner's to say. One thread.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>

namespace gatepost::auth {

template <typename Key>
class Turns {
 public:
  static constexpr size_t kWaiting = 512;  // more are told to come later

  // `most` may ask at a time.
  explicit Turns(uint32_t most) : most_(most) {}

  // Whether as many wait as may.
  [[nodiscard]] bool full() const { return waiting_.size() >= kWaiting; }

  // Wait appends `key`. One that is gone before its turn stays until then.
  void Wait(Key key) { waiting_.push_back(key); }

  // Start gives turns to those who wait, as long as there are any: `begin` is called with the key,
  // and says whether it is still there and has begun. It may call any function of this object.
  template <typename Begin>
  void Start(const Begin& begin) {
    while (taken_ < most_ && !waiting_.empty()) {
      const Key key = waiting_.front();
      waiting_.pop_front();
      Take();
      if (!begin(key)) Release();
    }
  }

  // Leave forgets one that waits.
  void Leave(Key key) { std::erase(waiting_, key); }

  // Take is for who asks once more, and has waited for it already.
  void Take() { ++taken_; }
  // Release gives a turn back; Start follows.
  void Release() { --taken_; }
  // Clear forgets everybody.
  void Clear() {
    waiting_.clear();
    taken_ = 0;
  }

 private:
  const uint32_t most_;
  uint32_t taken_ = 0;
  std::deque<Key> waiting_;
};

}  // namespace gatepost::auth
