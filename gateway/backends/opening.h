// The way to a backend up to the login: connect, TLS, greeting, capabilities.
//
// Whoever wants the connection owns the Opening and takes the stream and the engine from it when
// they are ready; destroying it gives up. A connection that is ready may wait for its user. Used by
// sessions, by the prober and by the store of ready connections. One worker's.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "gateway/backends/directory.h"
#include "gateway/backends/health.h"
#include "gateway/backends/member.h"
#include "gateway/backends/reports.h"
#include "gateway/net/deadlines.h"
#include "gateway/net/dialer.h"
#include "gateway/net/stream.h"
#include "protocols/engine.h"

namespace gatepost {
class Worker;
}

namespace gatepost::backends {

class Opening final : private net::Deadlines::Entry,
                      public net::Dial::Observer,
                      public net::Stream::Observer {
 public:
  enum class State : uint8_t {
    kOpening,
    kReady,         // Take…() and log in
    kFailed,        // another member may serve
    kMisconfigured  // the backend does not offer what the configuration wants: no use to try others
  };

  class Observer {
   public:
    // Called once when the Opening is ready or has failed, and again when one that was ready fails.
    // Never from inside the constructor. The Opening may be destroyed by the observer.
    virtual void OnOpened(Opening& opening) = 0;

   protected:
    ~Observer() = default;
  };

  // A check asks anew what the backend offers, has time-outs of its own and tells the member's
  // health; else what the member is known to offer is taken for granted.
  // `proxy_header` says for which client the connection is, where the pool forwards that; empty:
  // for nobody, it is our own. `tls` takes the place of the pool's; nothing: as the pool has it.
  Opening(Worker& worker, const Pool& pool, std::shared_ptr<Member> member, Purpose purpose,
          std::string proxy_header, Observer& observer,
          std::optional<config::BackendTls> tls = std::nullopt);
  ~Opening();

  [[nodiscard]] State state() const { return state_; }
  // Why it failed, for the log; may hold any bytes that the backend sent.
  [[nodiscard]] const std::string& error() const { return error_; }
  [[nodiscard]] const std::shared_ptr<Member>& member() const { return member_; }
  void SetObserver(Observer& observer) { observer_ = &observer; }

  // Once, in kReady. The stream's events go to `observer`; the engine waits for LogIn.
  [[nodiscard]] std::unique_ptr<net::Stream> TakeStream(net::Stream::Observer& observer);
  [[nodiscard]] std::unique_ptr<protocols::ClientEngine> TakeEngine() { return std::move(engine_); }

  // What the backend has sent and the engine not consumed.
  [[nodiscard]] protocols::Buffer TakeInput() { return std::move(input_); }

  // Leave says goodbye in the protocol's words; in kReady.
  void Leave();

 private:
  void OnDialed(net::Dial& dial) override;
  void OnPlaintext(net::Stream& stream, net::Bytes plaintext) override;
  void OnStreamEvent(net::Stream& stream, net::Stream::Event event) override;
  void OnDeadline() override;

  void StartTls();
  void Talk();
  // `cause` is what the log counts failures by, `error` says it in full.
  void Fail(Health::Sign sign, std::string_view cause, std::string error);

  Worker& worker_;
  const Pool& pool_;
  const std::shared_ptr<Member> member_;
  Observer* observer_;
  const Purpose purpose_;
  const config::BackendTls tls_;
  std::string proxy_header_;  // until the connection is there
  State state_ = State::kOpening;
  uint64_t dial_started_ns_;
  std::unique_ptr<net::Dial> dial_;
  std::unique_ptr<net::Stream> stream_;
  std::unique_ptr<protocols::ClientEngine> engine_;
  protocols::Buffer input_;
  std::string error_;
};

// Describe says in words what an engine's failure means for a member of that pool.
[[nodiscard]] std::string Describe(const protocols::Failed& failed, const config::Pool& pool);
// CauseOf is the same in one word, for ReportFailure.
[[nodiscard]] std::string_view CauseOf(const protocols::Failed& failed);
// CountFailure counts the failure of a backend's stream, and returns its cause in one word, for
// ReportFailure; where TLS failed it begins with "tls_".
[[nodiscard]] std::string CountFailure(Worker& worker, const Pool& pool, const net::Stream& stream);
// SignOf is what it says of the member's health.
[[nodiscard]] Health::Sign SignOf(protocols::BackendFailure reason);
// MayRetry tells after which failures another member may be asked: where the backend did not serve,
// and not where it answered, or where another one of the pool would do no better.
[[nodiscard]] bool MayRetry(protocols::BackendFailure reason);
// IsMisconfigured tells the failures that no other member and no waiting will mend.
[[nodiscard]] bool IsMisconfigured(protocols::BackendFailure reason);

}  // namespace gatepost::backends
