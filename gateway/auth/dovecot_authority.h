// Dovecot's auth process as the authority, over one connection of its auth client protocol.
//
// What mechanisms there are it says itself; those that ask the client back go through the session.
// Questions share the connection by their ids, bounded in number and each in time. While it is away
// every question is a temporary failure, at once; it is tried again, slower each time. One
// worker's.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "gateway/auth/authenticator.h"
#include "gateway/auth/authority_runtime.h"
#include "gateway/auth/dovecot_lines.h"
#include "gateway/auth/turns.h"
#include "gateway/net/deadlines.h"
#include "gateway/net/dialer.h"
#include "gateway/net/stream.h"

namespace gatepost {
class Worker;
}

namespace gatepost::auth {

class DovecotAuthority final : public Authenticator,
                               private net::Deadlines::Entry,
                               public net::Dial::Observer,
                               public net::Stream::Observer {
 public:
  DovecotAuthority(Worker& worker, const AuthorityRuntime& authority, Answers& answers);
  ~DovecotAuthority() override;

  // Passwords, until Dovecot has said more; then what it has and the backends can make use of.
  [[nodiscard]] sasl::MechanismSet Mechanisms(const BackendMechanisms& backend) const override;
  [[nodiscard]] std::optional<Verdict> Check(const Request& request) override;
  void Continue(SessionId id, std::string_view answer) override;
  void Cancel(SessionId id) override;

 private:
  enum class State : uint8_t {
    kDown,        // the next attempt has its time
    kConnecting,  // or shaking hands: questions wait
    kReady
  };
  struct Task;

  void OnDialed(net::Dial& dial) override;
  void OnPlaintext(net::Stream& stream, net::Bytes plaintext) override;
  void OnStreamEvent(net::Stream& stream, net::Stream::Event event) override;
  void OnDeadline() override;

  void Connect();
  void Connected(net::HandlePtr<uv_tcp_t> connection);
  // Lost ends the connection: all who wait are told to come later.
  void Lost(const std::string& detail);
  void Read();
  // OnLine returns what is wrong with a line; empty: nothing.
  [[nodiscard]] std::string OnLine(std::string_view line);
  void OnReady();
  void OnOk(Task& task, const DovecotOk& ok);
  void OnOverdue(Task& task);
  void StartNext();
  // AwaitDovecot and AwaitClient say whose turn it is with the task.
  void AwaitDovecot(Task& task);
  void AwaitClient(Task& task, std::string_view challenge);
  [[nodiscard]] Task* Find(uint32_t request);
  void Finish(Task& task, Verdict verdict);
  // Remove forgets the task, and says so to Dovecot where that would answer it.
  void Remove(Task& task, bool cancel);
  void Send(protocols::Buffer& lines);

  Worker& worker_;
  const AuthorityRuntime& authority_;
  Answers& answers_;
  State state_ = State::kConnecting;
  bool reported_ = false;  // that it is away
  uint64_t pause_ms_ = 0;  // before the next attempt
  uint64_t heard_ms_ = 0;  // when Dovecot said something last
  std::string detail_;     // why it is away
  std::unique_ptr<net::Dial> dial_;
  std::unique_ptr<net::Stream> stream_;
  protocols::Buffer input_;
  std::optional<sasl::MechanismSet> known_;  // of the last connection
  std::optional<sasl::MechanismSet> learning_;
  bool version_fits_ = false;
  uint32_t last_request_ = 0;
  std::unordered_map<uint32_t, std::unique_ptr<Task>> tasks_;  // by request
  std::unordered_map<uint64_t, uint32_t> requests_;            // by session
  Turns<uint32_t> turns_;  // requests: who waits for Dovecot has one
};

}  // namespace gatepost::auth
