// A worker: one thread, one loop, its own listening sockets and sessions. Workers share nothing but
// the Runtime.
//
// It is the one place that frees sessions and streams: they are retired while the loop's callbacks
// run and freed at the end of the iteration, so no function ever frees its caller.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <uv.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "gateway/auth/authenticator.h"
#include "gateway/auth/policy.h"
#include "gateway/backends/backend_tls.h"
#include "gateway/backends/discovery.h"
#include "gateway/backends/prober.h"
#include "gateway/backends/ready_store.h"
#include "gateway/listener_tls.h"
#include "gateway/net/deadlines.h"
#include "gateway/net/inbox.h"
#include "gateway/net/listener.h"
#include "gateway/net/resolver.h"
#include "gateway/net/stream.h"
#include "gateway/runtime.h"
#include "gateway/session/session.h"

namespace gatepost {

namespace auth {
class Chain;
}

class Worker final : public net::Listener::Observer,
                     public auth::Authenticator::Answers,
                     public auth::Policy::Answers {
 public:
  // A bound socket and the index of its listener in the Runtime.
  struct Socket {
    size_t listener;
    int descriptor;
  };

  // Takes the sockets. `index` 0 also probes the backends.
  Worker(Runtime& runtime, uint32_t index, const std::vector<Socket>& sockets,
         ListenerContexts contexts, backends::BackendContexts backend_contexts);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // ---- from the process's thread ----

  void Start();
  // Offer replaces what the listeners offer, from the next handshake on.
  void Offer(ListenerContexts contexts);
  // SpeakTo replaces how the pools' backends are spoken to, from the next connection on.
  void SpeakTo(backends::BackendContexts contexts);
  // UseRoster has the members that the pool has now chosen from, from the next login on.
  void UseRoster(const backends::Pool& pool);
  // Supersede stops accepting, and looking at backends: another generation does that from now on.
  // The thread ends when no session is left.
  void Supersede();
  // Drain stops accepting and asks sessions to end, spread over `spread_ms`; after `deadline_ms`
  // the rest is ended. The thread ends when no session is left.
  void Drain(uint64_t spread_ms, uint64_t deadline_ms);
  void Join();
  // Visit has the worker's thread show each session to `visit`, a few in each loop iteration. When
  // all were shown, or the thread has ended, `visit` is destroyed.
  void Visit(std::function<void(session::Session&)> visit);
  // The time (uv_hrtime, ns) at which the loop last showed that it runs.
  [[nodiscard]] uint64_t heartbeat() const { return heartbeat_.load(std::memory_order_relaxed); }

  // ---- from the worker's own thread ----

  [[nodiscard]] Runtime& runtime() { return runtime_; }
  [[nodiscard]] uv_loop_t* loop() { return &loop_; }
  [[nodiscard]] uint64_t Now() const { return uv_now(&loop_); }  // ms, cached by the loop
  [[nodiscard]] net::StreamIo& io() { return *io_; }
  [[nodiscard]] net::Deadlines& deadlines() { return *deadlines_; }
  [[nodiscard]] net::Resolver& resolver() { return *resolver_; }
  [[nodiscard]] auth::Chain& authenticator() { return *authenticator_; }
  [[nodiscard]] auth::Policy* policy() { return policy_.get(); }  // null: there is none
  [[nodiscard]] backends::ReadyStore& ready_store() { return *ready_store_; }
  [[nodiscard]] backends::Peers& peers() { return peers_; }
  // Who belongs to `pool`; never null.
  [[nodiscard]] const std::shared_ptr<const backends::Roster>& Roster(
      const backends::Pool& pool) const {
    return rosters_[pool.index()];
  }
  // What `listener` offers now.
  [[nodiscard]] const std::shared_ptr<const tls::ServerContext>& Tls(
      const ListenerRuntime& listener) const {
    return contexts_[listener.index];
  }
  [[nodiscard]] observe::Shard& shard() { return shard_; }
  [[nodiscard]] observe::Log& log() { return *runtime_.log; }
  [[nodiscard]] std::string IdText(auth::SessionId id) const;

  // BeginEarly admits one more backend connection for a client that has not logged in yet, if there
  // are not too many; each needs an EndEarly.
  [[nodiscard]] bool BeginEarly();
  void EndEarly() { --early_openings_; }

  // Retire frees the session at the end of this loop iteration. `client`: for whom the limits have
  // counted it; null: for nobody yet.
  void Retire(auth::SessionId id, const net::Address* client, const ListenerRuntime& listener);
  // Bury does the same for a stream that may be calling right now; no event comes from it any more.
  void Bury(std::unique_ptr<net::Stream> stream);

 private:
  struct Slot {
    uint32_t generation = 0;
    std::unique_ptr<session::Session> session;
  };

  void OnAccept(size_t listener_index, const net::Address& client,
                net::HandlePtr<uv_tcp_t> connection) override;
  void OnAcceptError(size_t listener_index, int status) override;
  void OnVerdict(auth::SessionId id, auth::Verdict verdict) override;
  void OnChallenge(auth::SessionId id, std::string_view challenge) override;
  void OnPolicy(auth::SessionId id, auth::Policy::Decision decision) override;

  // SessionOf returns the session, or null where it has ended.
  [[nodiscard]] session::Session* SessionOf(auth::SessionId id) const;
  void Run();
  void VisitFrom(size_t first, std::function<void(session::Session&)> visit);
  void EndOfIteration();
  void Tick();
  void BeginSupersede();
  void BeginDrain(uint64_t spread_ms, uint64_t deadline_ms);
  void RefuseConnection(const ListenerRuntime& listener, protocols::Notice notice,
                        uv_tcp_t& handle);
  [[nodiscard]] net::ConnectionLimits::Outcome Admit(const ListenerRuntime& listener,
                                                     const net::Address& client);
  void RefuseUntrusted(const ListenerRuntime& listener, const net::Address& peer);
  template <typename Function>
  void ForEachSession(Function function);

  Runtime& runtime_;
  const uint32_t index_;
  const uint32_t id_salt_;
  ListenerContexts contexts_;
  backends::Peers peers_;
  std::vector<std::shared_ptr<const backends::Roster>> rosters_;  // by Pool::index()
  uv_loop_t loop_;
  observe::Shard& shard_;
  std::unique_ptr<net::Inbox> inbox_;
  std::unique_ptr<net::StreamIo> io_;
  std::unique_ptr<net::Deadlines> deadlines_;
  std::unique_ptr<net::Resolver> resolver_;
  std::unique_ptr<auth::Chain> authenticator_;
  std::unique_ptr<auth::Policy> policy_;
  std::vector<std::unique_ptr<net::Listener>> listeners_;
  std::unique_ptr<backends::Prober> prober_;
  std::unique_ptr<backends::Discovery> discovery_;
  std::unique_ptr<backends::ReadyStore> ready_store_;
  uint32_t early_openings_ = 0;
  net::HandlePtr<uv_check_t> end_of_iteration_;
  net::HandlePtr<uv_timer_t> tick_;
  net::HandlePtr<uv_timer_t> drain_timer_;

  std::vector<Slot> slots_;
  std::vector<uint32_t> free_slots_;
  size_t session_count_ = 0;
  uint64_t last_accept_error_ms_ = 0;
  std::vector<std::unique_ptr<session::Session>> retired_sessions_;
  std::vector<std::unique_ptr<net::Stream>> buried_streams_;
  bool leaving_ = false;  // no session is begun

  std::atomic<uint64_t> heartbeat_{0};
  uint64_t next_tick_ns_ = 0;
  std::thread thread_;
};

}  // namespace gatepost
