// Mail from outside: a session of a client that has not logged in.
//
// The backend is connected to at the client's MAIL, so that every reply from then on is the
// backend's own; whom the mail may be for is the relay scanner's to say (protocols/smtp).
// SPDX-License-Identifier: Apache-2.0
#include "protocols/smtp/inbound.h"

#include "gateway/backends/common_capabilities.h"
#include "gateway/session/login.h"
#include "gateway/session/session.h"
#include "gateway/worker.h"
#include "protocols/line_framer.h"

namespace gatepost::session {
namespace {

constexpr size_t kMaxReplyBytes = 510;  // RFC 5321 §4.5.3.1.5, without CRLF

}  // namespace

std::shared_ptr<const protocols::Capabilities> Session::InboundCapabilities() const {
  auto ours = listener_.pool->capabilities();
  if (listener_.inbound_pool == listener_.pool) return ours;
  const auto theirs = listener_.inbound_pool->capabilities();
  if (!ours || !theirs) return nullptr;
  return std::make_shared<const protocols::Capabilities>(
      backends::CommonCapabilities(*ours, *theirs));
}

Session::Wait Session::BeginInbound() {
  if (!identified_ && !BeIntroduced()) return Close(CloseReason::kTooManyConnections);
  EndEarly(false);  // that was for a login
  inbound_ = true;
  user_.clear();  // who failed to log in before
  pool_ = listener_.inbound_pool;
  login_->introduction.reset();
  login_->credentials.emplace();  // nobody's
  login_->verdict.reset();        // what else a login that came to nothing has left
  login_->way = {};
  login_->exchanged = false;
  login_->backend_decides = false;
  return BeginPool();
}

void Session::AskAboutRecipient() {
  const protocols::RelayScanner::Recipient recipient = relay_->scanner()->recipient();
  asked_ = true;
  if (const auto verdict = AskAuthority({}, &recipient)) JudgeRecipient(*verdict);
}

void Session::JudgeRecipient(const auth::Verdict& verdict) {
  asked_ = false;
  std::string refusal;
  if (!verdict.accepted) {
    refusal = verdict.message.empty() ? "451 4.3.0 Temporary failure, try again later"
                                      : protocols::Printable(verdict.message, kMaxReplyBytes);
  }
  relay_->scanner()->Judge(refusal);
  relay_->GoOn();
}

Session::Wait Session::InboundFailed(std::string_view detail) {
  inbound_ = false;
  ++deferred_logins_;
  login_->credentials.reset();
  worker_.log().Write(observe::Level::kWarning, "inbound_deferred",
                      {{"id", worker_.IdText(id_)},
                       {"listener", listener_.settings.name},
                       {"client", client_address_.Host()},
                       {"backend", backend_name_},
                       {"detail", detail}});
  login_->server->InboundFailed();
  return Enter(Phase::kDialogue);
}

}  // namespace gatepost::session
