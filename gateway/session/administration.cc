// What the administrator may do with a session: look at it, and end it.
// SPDX-License-Identifier: Apache-2.0
#include "gateway/session/session.h"
#include "gateway/worker.h"

namespace gatepost::session {
namespace {

constexpr uint64_t kQuietMs = 1'000;

}  // namespace

bool Session::Matches(const SessionFilter& filter) const {
  if (!filter.user.empty() && filter.user != user_) return false;
  if (!filter.protocol.empty() && filter.protocol != protocols::Name(listener_.protocol)) {
    return false;
  }
  if (!filter.backend.empty() && filter.backend != backend_name_ &&
      (pool_ == nullptr || filter.backend != pool_->settings().name)) {
    return false;
  }
  return filter.id.empty() || filter.id == worker_.IdText(id_);
}

SessionInfo Session::Describe() const {
  SessionInfo info;
  info.id = worker_.IdText(id_);
  info.protocol = protocols::Name(listener_.protocol);
  info.listener = listener_.settings.name;
  info.client = client_address_.Text();
  info.user = user_;
  if (pool_ != nullptr) info.pool = pool_->settings().name;
  info.backend = backend_name_;
  info.tls = "none";
  if (client_->channel() != nullptr && client_->channel()->established()) {
    info.tls = client_->channel()->facts().version;
  }
  if (!user_.empty()) info.mechanism = sasl::Name(mechanism_);
  info.state = PhaseName();
  info.age_ms = Now() - accepted_ms_;
  if (relay_) info.idle_ms = Now() - last_activity_ms_;
  info.bytes_in = relayed_in_;
  info.bytes_out = relayed_out_;
  info.messages = counted_.messages_accepted;
  return info;
}

std::string_view Session::PhaseName() const {
  switch (phase_) {
    case Phase::kProxyHeader:
      return "proxy-header";
    case Phase::kClientTls:
      return "handshake";
    case Phase::kDialogue:
      return "login";
    case Phase::kPolicy:
    case Phase::kAuthenticating:
    case Phase::kExchange:
      return "authenticating";
    case Phase::kPenalty:
      return "refusing";
    case Phase::kConnecting:
      return "connecting";
    case Phase::kBackendLogin:
      return "backend-login";
    case Phase::kRelaying:
      return "relaying";
    case Phase::kClosing:
    case Phase::kClosed:
      break;
  }
  return "closing";
}

void Session::Drain(uint64_t delay_ms) {
  EndPolitely(CloseReason::kDrain, delay_ms);
}

void Session::Kick(uint64_t delay_ms) {
  EndPolitely(CloseReason::kKicked, delay_ms);
}

void Session::EndPolitely(CloseReason reason, uint64_t delay_ms) {
  if (phase_ >= Phase::kClosing) return;
  ending_ = reason;
  end_at_ms_ = Now() + delay_ms;
  // A client that is being asked for its password can come back at once, to another replica.
  if (!relay_) {
    if (phase_ != Phase::kClientTls) Say(Farewell());
    (void)Close(reason);
  }
  Advance();
}

void Session::DrainDeadline() {
  if (phase_ == Phase::kClosed) return;
  ending_ = CloseReason::kDrain;
  if (phase_ == Phase::kRelaying) SayInRelay(Farewell());
  if (phase_ != Phase::kClosing) (void)Close(ending_);
  (void)Finish();
}

protocols::Notice Session::Farewell() const {
  return ending_ == CloseReason::kKicked ? protocols::Notice::kKicked
                                         : protocols::Notice::kShuttingDown;
}

bool Session::Quiet() const {
  return relay_->LineBoundary() && Now() - last_activity_ms_ >= kQuietMs;
}

// MayEnd says whether a session that is to end can end here: SMTP between two transactions, IMAP
// behind a response, POP3 only where it was kicked and nothing is under way. A kicked one is ended
// anywhere when it had as long as a drain gives.
bool Session::MayEnd() const {
  if (ending_ == CloseReason::kKicked) {
    const auto patience =
        static_cast<uint64_t>(worker_.runtime().config.process.drain_timeout.count());
    if (Now() >= end_at_ms_ + patience) return true;
  }
  if (const protocols::RelayScanner* scanner = relay_->scanner(); scanner != nullptr) {
    return scanner->AtBoundary();
  }
  if (Now() < end_at_ms_) return false;
  return listener_.protocol == protocols::Protocol::kImap
             ? relay_->LineBoundary()
             : ending_ == CloseReason::kKicked && Quiet();
}

}  // namespace gatepost::session
