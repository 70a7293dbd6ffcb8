// All deadlines of one worker on one timer: a hashed timing wheel.
//
// Arm and Disarm are O(1) and allocate nothing, so a session may re-arm as often as it likes. Due
// times are rounded up to the tick of 100 ms. One loop thread.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <uv.h>

#include <array>
#include <cstdint>

#include "gateway/net/uv_handle.h"

namespace gatepost::net {

class Deadlines {
 public:
  // Entry is the base of whatever has a deadline. It leaves the wheel when destroyed.
  class Entry {
   public:
    Entry() = default;
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;

   protected:
    ~Entry();

   private:
    friend class Deadlines;
    // OnDeadline is called once when the time has come; the entry is disarmed then.
    virtual void OnDeadline() = 0;

    Entry* previous_ = nullptr;
    Entry* next_ = nullptr;
    uint64_t due_tick_ = 0;
  };

  explicit Deadlines(uv_loop_t* loop);
  ~Deadlines();

  // Arm (re)sets the entry's deadline to `delay_ms` from the loop's cached time.
  void Arm(Entry& entry, uint64_t delay_ms);
  static void Disarm(Entry& entry);

 private:
  static constexpr uint64_t kTickMs = 100;
  static constexpr size_t kSlots = 1024;

  struct Head final : Entry {
    Head() { Reset(); }
    void Reset();
    void OnDeadline() override {}
  };

  void Tick();
  void RunSlot(Head& slot);
  static void Link(Head& head, Entry& entry);

  uv_loop_t* loop_;
  uint64_t tick_;  // the last tick that was run
  std::array<Head, kSlots> slots_;
  HandlePtr<uv_timer_t> timer_;
};

}  // namespace gatepost::net
