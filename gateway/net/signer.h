// Private-key operations of one worker's handshakes, computed on a thread of their own.
//
// A signature with RSA takes as long as a hundred relayed packets, so it must not stand before
// them. The thread sees keys and messages only, never a stream: it answers by id, and who has gone
// meanwhile is not found (in another process, a signer would do the same). The thread is started by
// the first operation. Owned by the worker; all calls on its loop's thread.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <uv.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "gateway/net/uv_handle.h"
#include "tls/key_operation.h"

namespace gatepost::net {

class Signer {
 public:
  // More handshakes than these do not begin: they WaitForRoom.
  static constexpr size_t kMaxOperations = 64;

  class Client {
   public:
    // The operation has been run.
    virtual void OnSigned(std::unique_ptr<tls::KeyOperation> operation) = 0;
    virtual void OnRoom() = 0;

   protected:
    ~Client() = default;
  };

  explicit Signer(uv_loop_t* loop);
  ~Signer();  // waits for the operation that is being computed, a few milliseconds
  Signer(const Signer&) = delete;
  Signer& operator=(const Signer&) = delete;

  // Sign has `operation` run; `client` hears of it later, unless it is forgotten first.
  void Sign(std::unique_ptr<tls::KeyOperation> operation, Client& client);

  [[nodiscard]] bool full() const { return asked_.size() >= kMaxOperations; }
  // WaitForRoom calls the client once when it is not full any more, in the order of the calls.
  void WaitForRoom(Client& client) { waiting_for_room_.push_back(&client); }

  // Forget drops whatever `client` waits for.
  void Forget(const Client& client);

 private:
  struct Job {
    uint64_t id;
    std::unique_ptr<tls::KeyOperation> operation;
  };
  struct Asked {
    uint64_t id;
    Client* client;
  };

  void Run();
  void OnDone();

  // The loop's.
  std::vector<Asked> asked_;
  std::deque<Client*> waiting_for_room_;
  uint64_t next_id_ = 0;
  HandlePtr<uv_async_t> done_signal_;
  std::thread thread_;

  std::mutex mutex_;  // over what follows
  std::condition_variable work_signal_;
  std::deque<Job> jobs_;
  std::vector<Job> done_;
  bool ending_ = false;
};

}  // namespace gatepost::net
