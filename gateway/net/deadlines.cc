// SPDX-License-Identifier: Apache-2.0
#include "gateway/net/deadlines.h"

#include <algorithm>

namespace gatepost::net {

Deadlines::Entry::~Entry() {
  Deadlines::Disarm(*this);
}

void Deadlines::Head::Reset() {
  previous_ = next_ = this;
}

Deadlines::Deadlines(uv_loop_t* loop)
    : loop_(loop), tick_(uv_now(loop) / kTickMs), timer_(new uv_timer_t) {
  uv_timer_init(loop, timer_.get());
  timer_->data = this;
  uv_timer_start(
      timer_.get(),
      [](uv_timer_t* timer) {
        if (timer->data != nullptr) static_cast<Deadlines*>(timer->data)->Tick();
      },
      kTickMs, kTickMs);
  uv_unref(reinterpret_cast<uv_handle_t*>(timer_.get()));
}

Deadlines::~Deadlines() {
  for (Head& slot : slots_) {
    while (slot.next_ != &slot) Disarm(*slot.next_);
    slot.previous_ = slot.next_ = nullptr;  // a Head is not in a list but is one
  }
}

void Deadlines::Arm(Entry& entry, uint64_t delay_ms) {
  Disarm(entry);
  // At least one tick ahead of both the clock and the last tick that was run.
  const uint64_t due = (uv_now(loop_) + delay_ms + kTickMs - 1) / kTickMs;
  entry.due_tick_ = std::max(due, tick_ + 1);
  Link(slots_[entry.due_tick_ % kSlots], entry);
}

void Deadlines::Disarm(Entry& entry) {
  if (entry.next_ == nullptr) return;
  entry.previous_->next_ = entry.next_;
  entry.next_->previous_ = entry.previous_;
  entry.previous_ = entry.next_ = nullptr;
}

void Deadlines::Link(Head& head, Entry& entry) {
  entry.previous_ = head.previous_;
  entry.next_ = &head;
  head.previous_->next_ = &entry;
  head.previous_ = &entry;
}

void Deadlines::Tick() {
  const uint64_t now = uv_now(loop_) / kTickMs;
  // After a long stall each slot needs to be looked at only once.
  if (now - tick_ > kSlots) tick_ = now - kSlots;
  while (tick_ < now) {
    ++tick_;
    RunSlot(slots_[tick_ % kSlots]);
  }
}

void Deadlines::RunSlot(Head& slot) {
  if (slot.next_ == &slot) return;
  // OnDeadline may arm or destroy any entry, so the slot is emptied into a list of its own first.
  Head batch;
  batch.next_ = slot.next_;
  batch.previous_ = slot.previous_;
  batch.next_->previous_ = &batch;
  batch.previous_->next_ = &batch;
  slot.Reset();
  while (batch.next_ != &batch) {
    Entry& entry = *batch.next_;
    Disarm(entry);
    if (entry.due_tick_ <= tick_) {
      entry.OnDeadline();
    } else {
      Link(slot, entry);  // a later round of the wheel
    }
  }
  batch.previous_ = batch.next_ = nullptr;
}

}  // namespace gatepost::net
