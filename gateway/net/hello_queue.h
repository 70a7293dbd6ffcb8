// TLS clients whose first bytes wait for their turn: one ClientHello is answered in an iteration of
// the loop, since it costs as much as many packets.
//
// Who waits is not read, so that a crowd of thousands costs the loop nothing until its turn; first
// come, first served. One worker's; one loop thread.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>

namespace gatepost::net {

class HelloQueue {
 public:
  using Ticket = uint64_t;
  static constexpr Ticket kNone = 0;

  class Client {
   public:
    // It is the client's turn, in this iteration.
    virtual void OnTurn() = 0;

   protected:
    ~Client() = default;
  };

  // MayAnswer says whether `client` may answer a ClientHello now; if so, it is the one of this
  // iteration. Who may not should Join.
  [[nodiscard]] bool MayAnswer(const Client& client) {
    if (turn_ != &client && (turn_ != nullptr || answered_ || !waiting_.empty())) return false;
    turn_ = nullptr;
    answered_ = true;
    return true;
  }

  // Join returns the ticket with which the client leaves the queue. OnTurn comes once.
  [[nodiscard]] Ticket Join(Client& client) {
    waiting_.push_back(&client);
    return first_ + waiting_.size() - 1;
  }

  // Leave forgets a client: one that has not had its turn (by its ticket), or does not use it.
  void Leave(Ticket ticket, const Client& client) {
    if (ticket != kNone) waiting_[ticket - first_] = nullptr;
    if (turn_ == &client) turn_ = nullptr;
  }

  // NextIteration gives the next in the queue its turn.
  void NextIteration() {
    answered_ = false;
    turn_ = nullptr;
    while (turn_ == nullptr && !waiting_.empty()) {
      turn_ = waiting_.front();
      waiting_.pop_front();
      ++first_;
    }
    if (turn_ != nullptr) turn_->OnTurn();
  }

 private:
  std::deque<Client*> waiting_;  // null: has left
  Ticket first_ = 1;             // of waiting_.front()
  Client* turn_ = nullptr;
  bool answered_ = false;
};

}  // namespace gatepost::net
