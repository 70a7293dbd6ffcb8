// What a session tells the metrics and the log; session.cc says when.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "gateway/session/login.h"
#include "gateway/session/session.h"
#include "gateway/worker.h"
#include "tls/client_verifier.h"

namespace gatepost::session {

void Session::CountServer() {
  if (!login_ || !login_->server) return;
  const protocols::ServerCounts& now = login_->server->counts();
  protocols::ServerCounts& known = login_->counted;
  const ProtocolSeries& series = *listener_.series;
  observe::Shard& shard = worker_.shard();
  shard.Add(series.bad_command, now.bad_commands - known.bad_commands);
  shard.Add(series.line_too_long, now.lines_too_long - known.lines_too_long);
  shard.Add(series.bad_base64, now.bad_base64 - known.bad_base64);
  shard.Add(series.unknown_mechanism, now.unknown_mechanisms - known.unknown_mechanisms);
  shard.Add(series.tls_required, now.tls_required - known.tls_required);
  shard.Add(series.auth_required, now.auth_required - known.auth_required);
  shard.Add(series.starttls_refused, now.starttls_refused - known.starttls_refused);
  shard.Add(series.auth_aborted, now.aborted_auth - known.aborted_auth);
  known = now;
}

void Session::CountAuth(AuthResult result) {
  worker_.shard().Add(listener_.series->auth_attempts[static_cast<size_t>(
      mechanism_)][static_cast<size_t>(tls_mode_)][static_cast<size_t>(result)]);
}

void Session::CountTls() {
  observe::Shard& shard = worker_.shard();
  const tls::Facts facts = client_->channel()->facts();
  shard.Add(listener_.handshakes_ok);
  shard.Observe(listener_.handshake_duration, static_cast<double>(Now() - phase_started_ms_) / 1e3);
  const size_t version = facts.version.ends_with(".3")   ? 3
                         : facts.version.ends_with(".2") ? 2
                         : facts.version.ends_with(".1") ? 1
                                                         : 0;
  shard.Add(listener_.tls_sessions[version][facts.resumed ? 1 : 0]);
  const auto* const group =
      std::find(tls::kGroupNames.begin(), tls::kGroupNames.end(), facts.group);
  shard.Add(facts.group.empty() ? listener_.tls_group_none
            : group == tls::kGroupNames.end()
                ? listener_.tls_group_other
                : listener_.tls_groups[static_cast<size_t>(group - tls::kGroupNames.begin())]);
  if (facts.ticket != tls::TicketUse::kNone) {
    shard.Add(listener_.tls_tickets[static_cast<size_t>(facts.ticket)]);
  }
}

std::string Session::IdentifyClient() {
  if (listener_.settings.client_certificates == config::ClientCertificates::kOff) return {};
  certificate_ = client_->TakeClientCertificate();
  const tls::ClientCertificate* certificate = certificate_.get();
  if (certificate == nullptr) {
    worker_.shard().Add(listener_.certificates_none);
    return {};
  }
  tl::expected<std::string, std::string> user;
  if (certificate->verified && listener_.certificate_users) {
    user = listener_.certificate_users->UserOf(*certificate);
  }
  worker_.shard().Add(certificate->verified ? listener_.certificates_valid
                                            : listener_.certificates_invalid);
  worker_.log().Write(certificate->verified ? observe::Level::kInfo : observe::Level::kWarning,
                      "client_certificate",
                      {{"id", worker_.IdText(id_)},
                       {"listener", listener_.settings.name},
                       {"client", client_address_.Host()},
                       {"result", certificate->verified ? "valid" : "invalid"},
                       {"subject", certificate->subject},
                       {"key_sha256", certificate->spki_sha256},
                       {"user", user ? *user : ""},
                       {"detail", user ? certificate->problem : user.error()}});
  return user ? std::move(*user) : std::string();
}

void Session::CountTlsFailure(bool timeout) {
  observe::Shard& shard = worker_.shard();
  shard.Add(listener_.handshakes_failed);
  if (tls_mode_ == TlsMode::kStartTls) shard.Add(listener_.series->starttls_failed);
  if (timeout) return shard.Add(listener_.handshake_timeouts);
  const tls::Failure failure = client_->channel()->failure();
  shard.Add(listener_.handshake_failures[static_cast<size_t>(
      failure == tls::Failure::kNone ? tls::Failure::kEof : failure)]);
  if (failure == tls::Failure::kPlaintext) {
    const tls::Plaintext kind = client_->channel()->plaintext();
    shard.Add(listener_.series->foreign[static_cast<size_t>(
        kind == tls::Plaintext::kNone ? tls::Plaintext::kOther : kind)]);
  }
}

void Session::CountForeign(protocols::QuitReason reason) {
  const ProtocolSeries& series = *listener_.series;
  switch (reason) {
    case protocols::QuitReason::kHttp:
      return worker_.shard().Add(series.foreign[static_cast<size_t>(tls::Plaintext::kHttp)]);
    case protocols::QuitReason::kSsh:
      return worker_.shard().Add(series.foreign[static_cast<size_t>(tls::Plaintext::kSsh)]);
    case protocols::QuitReason::kTls:
      return worker_.shard().Add(series.foreign_tls);
    case protocols::QuitReason::kLoggedOut:
    case protocols::QuitReason::kTooManyErrors:
    case protocols::QuitReason::kLineTooLong:
    case protocols::QuitReason::kCommandInjection:
    case protocols::QuitReason::kProtocolViolation:
    case protocols::QuitReason::kCount:
      return;
  }
}

void Session::CountAlert() {
  const tls::Channel* channel = client_->channel();
  if (channel == nullptr || channel->received_alert() == 0) return;
  worker_.shard().Add(listener_.series->tls_alerts[tls::AlertIndex(channel->received_alert())]);
}

void Session::CountRelay() {
  const protocols::RelayCounts& now = relay_->scanner()->counts();
  const ProtocolSeries& series = *listener_.series;
  observe::Shard& shard = worker_.shard();
  for (size_t asked = 0; asked < now.replies.size(); ++asked) {
    for (size_t of = 0; of < now.replies[asked].size(); ++of) {
      const uint32_t more = now.replies[asked][of] - counted_.replies[asked][of];
      if (more != 0) shard.Add(series.replies[asked][of], more);
    }
  }
  if (now.recipients != counted_.recipients) {
    shard.Add(series.recipients, now.recipients - counted_.recipients);
  }
  if (now.messages_accepted != counted_.messages_accepted) {
    shard.Add(series.messages_accepted, now.messages_accepted - counted_.messages_accepted);
    shard.Observe(series.message_bytes,
                  static_cast<double>(now.message_bytes - counted_.message_bytes));
  }
  if (now.messages_refused != counted_.messages_refused) {
    shard.Add(series.messages_refused, now.messages_refused - counted_.messages_refused);
  }
  if (now.smuggling_refused != counted_.smuggling_refused) {
    const uint32_t more = now.smuggling_refused - counted_.smuggling_refused;
    shard.Add(series.messages_smuggling, more);
    shard.Add(series.smuggling, more);
  }
  if (now.relaying_denied != counted_.relaying_denied) {
    shard.Add(series.relaying_denied, now.relaying_denied - counted_.relaying_denied);
  }
  if (now.commands_refused != counted_.commands_refused) {
    shard.Add(series.command_refused, now.commands_refused - counted_.commands_refused);
  }
  counted_ = now;
}

void Session::LogEnd() {
  std::string suppressed;
  if (close_reason_ == CloseReason::kNoProxyHeader || close_reason_ == CloseReason::kTlsFailed ||
      close_reason_ == CloseReason::kTlsTimeout || close_reason_ == CloseReason::kForeignProtocol) {
    const auto held_back = worker_.runtime().failure_filter->Admit(client_address_, Now());
    if (!held_back) return worker_.shard().Add(listener_.series->lines_suppressed);
    if (*held_back > 0) suppressed = std::to_string(*held_back);
  }
  tls::Facts facts;
  if (client_->channel() != nullptr && client_->channel()->established()) {
    facts = client_->channel()->facts();
  }
  const CloseReasonInfo& info = Info(close_reason_);
  worker_.log().Write(
      info.level, "session",
      {{"id", worker_.IdText(id_)},
       {"listener", listener_.settings.name},
       {"protocol", protocols::Name(listener_.protocol)},
       {"client", client_address_.Text()},
       {"proxy", proxied_ ? proxied_->proxy.Text() : ""},
       {"proxy_session", proxied_ ? std::string_view(proxied_->session) : ""},
       {"tls", tls_mode_ == TlsMode::kNone ? "none" : facts.version},
       {"cipher", facts.cipher},
       {"group", facts.group},
       {"resumed", facts.version.empty() ? "" : (facts.resumed ? "yes" : "no")},
       {"sni", facts.server_name},
       {"mechanism", user_.empty() ? "" : sasl::Name(mechanism_)},
       {"user", user_},
       {"pool", pool_ == nullptr ? std::string_view() : pool_->settings().name},
       {"backend", backend_name_},
       {"login",
        inbound_ ? "none"
        : logged_in_
            ? "ok"
            : (failed_logins_ > 0 ? "failed" : (deferred_logins_ > 0 ? "deferred" : "none"))},
       {"result", info.label},
       {"duration_ms", static_cast<int64_t>(Now() - accepted_ms_)},
       {"login_ms", static_cast<int64_t>(login_ms_)},
       {"bytes_in", static_cast<int64_t>(relayed_in_)},
       {"bytes_out", static_cast<int64_t>(relayed_out_)},
       {"messages", static_cast<int64_t>(counted_.messages_accepted)},
       {"recipients", static_cast<int64_t>(counted_.recipients)},
       {"suppressed", suppressed},
       {"detail", detail_}});
}

}  // namespace gatepost::session
