// A generation: what one reading of the configuration has made, and the workers that serve by it.
//
// A reload starts the next one beside it, on the same sockets. The one before takes no new clients
// any more, and ends with its last session; so a session keeps what it began with, and nothing of a
// Runtime ever changes under it. Main thread, but for what says otherwise.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "gateway/listening_sockets.h"
#include "gateway/prepare.h"
#include "gateway/runtime.h"
#include "gateway/tls_watch.h"
#include "gateway/worker.h"

namespace gatepost {

class Generation {
 public:
  // `prepared` with all that Runtime shares over reloads. The workers, which do not run yet, take
  // the sockets. `number` counts from 1.
  Generation(Prepared prepared, uint64_t number, const ListeningSockets::OfWorkers& sockets);
  // Waits until the workers have ended, and for lookups that they have begun: not on a thread that
  // others wait for.
  ~Generation();
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;

  // Start lets the workers run; `ended` is called on a thread of its own when none does any more.
  void Start(std::function<void()> ended);
  // Join returns when `ended` has, which is at once where it has ended().
  void Join();
  // Supersede leaves new clients to another generation.
  void Supersede();
  // OutOfTime tells, once, that `limit` has passed since Supersede.
  [[nodiscard]] bool OutOfTime(std::chrono::milliseconds limit);
  // Drain asks the sessions to end (Worker::Drain).
  void Drain(uint64_t spread_ms, uint64_t deadline_ms);

  // ---- any thread ----

  // ReloadFiles reads all certificates and the like anew (TlsWatch::ReloadAll). Not for a loop.
  [[nodiscard]] TlsWatch::Reloaded ReloadFiles() const { return tls_watch_->ReloadAll(); }
  [[nodiscard]] const Runtime& runtime() const { return *runtime_; }
  [[nodiscard]] uint64_t number() const { return number_; }
  [[nodiscard]] const std::vector<std::unique_ptr<Worker>>& workers() const { return workers_; }
  // What each listener offered at first.
  [[nodiscard]] const ListenerContexts& first_offer() const { return first_offer_; }
  [[nodiscard]] const std::vector<InputFile>& inputs() const { return inputs_; }
  [[nodiscard]] const std::shared_ptr<tls::TicketKeys>& ticket_keys() const { return ticket_keys_; }
  [[nodiscard]] std::shared_ptr<const TlsFiles::Series> tls_series() const {
    return tls_watch_->series();
  }
  [[nodiscard]] bool ended() const { return ended_.load(); }
  // Stuck returns the number of a worker whose loop has not run for `patience_ns`.
  [[nodiscard]] std::optional<size_t> Stuck(uint64_t patience_ns) const;

 private:
  void OnFiles(const TlsFiles& files);

  const uint64_t number_;
  const std::unique_ptr<Runtime> runtime_;
  const std::vector<InputFile> inputs_;
  const std::shared_ptr<tls::TicketKeys> ticket_keys_;
  const ListenerContexts first_offer_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::unique_ptr<TlsWatch> tls_watch_;                              // uses the workers
  std::optional<std::chrono::steady_clock::time_point> superseded_;  // unless it is OutOfTime
  std::atomic<bool> ended_{false};
  std::thread joiner_;
};

}  // namespace gatepost
