// SPDX-License-Identifier: Apache-2.0
#include "gateway/runtime.h"

#include "config/values.h"

namespace gatepost {
namespace {

// Passwords may come in the protocol's own commands where they may come at all.
sasl::MechanismSet MechanismsOf(const config::Listener& listener) {
  using sasl::Mechanism;
  sasl::MechanismSet allowed;
  for (size_t i = 0; listener.mechanisms.empty() && i < static_cast<size_t>(Mechanism::kCount);
       ++i) {
    allowed.Add(static_cast<Mechanism>(i));
  }
  for (const config::Mechanism name : listener.mechanisms) {
    if (const auto mechanism = sasl::FindMechanism(config::Name(name))) allowed.Add(*mechanism);
    if (name == config::Mechanism::kApop) allowed.Add(Mechanism::kApop);  // which is no SASL
  }
  if (allowed.Has(Mechanism::kPlain) || allowed.Has(Mechanism::kLogin)) {
    allowed.Add(Mechanism::kProtocol);
  }
  return allowed;
}

}  // namespace

using observe::Metric;

std::string_view Name(TlsMode mode) {
  static constexpr std::array<std::string_view, static_cast<size_t>(TlsMode::kCount)> kNames = {
      "none", "starttls", "implicit"};
  return kNames[static_cast<size_t>(mode)];
}

ProtocolSeries::ProtocolSeries(protocols::Protocol protocol, observe::Metrics& metrics) {
  const std::string_view name = protocols::Name(protocol);
  prelogin_duration = metrics.Histogram(Metric::kConnectionDuration, {name, "prelogin"});
  session_duration = metrics.Histogram(Metric::kConnectionDuration, {name, "session"});
  login_duration = metrics.Histogram(Metric::kLoginDuration, {name});
  for (size_t i = 1; i < closed.size(); ++i) {
    closed[i] = metrics.Counter(Metric::kSessionsClosed,
                                {name, session::Info(static_cast<session::CloseReason>(i)).label});
  }
  static constexpr std::array<std::string_view, kSize<AuthResult>> kResults = {
      "ok", "failed", "tempfail", "limited"};
  for (size_t m = 0; m < auth_attempts.size(); ++m) {
    for (size_t t = 0; t < auth_attempts[m].size(); ++t) {
      for (size_t r = 0; r < auth_attempts[m][t].size(); ++r) {
        auth_attempts[m][t][r] = metrics.Counter(Metric::kAuthAttempts,
                                                 {name, sasl::Name(static_cast<sasl::Mechanism>(m)),
                                                  Name(static_cast<TlsMode>(t)), kResults[r]});
      }
    }
  }
  for (size_t i = 0; i < auth_failures.size(); ++i) {
    const auto failure = static_cast<protocols::LoginFailure>(i);
    auth_failures[i] = metrics.Counter(Metric::kAuthFailures, {name, protocols::Name(failure)});
  }
  bytes_in = metrics.Counter(Metric::kBytes, {name, "in"});
  bytes_out = metrics.Counter(Metric::kBytes, {name, "out"});
  for (size_t i = 0; i < tls_alerts.size(); ++i) {
    tls_alerts[i] =
        metrics.Counter(Metric::kTlsAlertsReceived,
                        {name, i < tls::kAlertNames.size() ? tls::kAlertNames[i].name : "other"});
  }
  for (size_t i = 1; i < foreign.size(); ++i) {
    foreign[i] = metrics.Counter(Metric::kForeignProtocols,
                                 {name, tls::Name(static_cast<tls::Plaintext>(i))});
  }
  foreign_tls = metrics.Counter(Metric::kForeignProtocols, {name, "tls"});
  lines_suppressed = metrics.Counter(Metric::kLogLinesSuppressed, {name});
  const auto starttls = [&](std::string_view result) {
    return metrics.Counter(Metric::kStartTls, {name, result});
  };
  starttls_ok = starttls("ok");
  starttls_refused = starttls("refused");
  starttls_injection = starttls("injection");
  starttls_failed = starttls("failed");
  const auto error = [&](std::string_view kind) {
    return metrics.Counter(Metric::kProtocolErrors, {name, kind});
  };
  bad_command = error("bad_command");
  line_too_long = error("line_too_long");
  bad_base64 = error("bad_base64");
  auth_aborted = error("auth_aborted");
  auth_required = error("auth_required");
  tls_required = error("tls_required");
  unknown_mechanism = error("unknown_mechanism");
  smuggling = error("smuggling");
  command_refused = error("command_refused");
  relaying_denied = error("relaying_denied");
  if (protocol != protocols::Protocol::kSmtp) return;
  messages_accepted = metrics.Counter(Metric::kSmtpMessages, {"accepted"});
  messages_refused = metrics.Counter(Metric::kSmtpMessages, {"refused"});
  messages_smuggling = metrics.Counter(Metric::kSmtpMessages, {"smuggling"});
  recipients = metrics.Counter(Metric::kSmtpRecipients, {});
  static constexpr std::array<std::string_view, 3> kAsked = {"mail", "rcpt", "message"};
  static constexpr std::array<std::string_view, 3> kClasses = {"2xx", "4xx", "5xx"};
  for (size_t asked = 0; asked < replies.size(); ++asked) {
    for (size_t of = 0; of < replies[asked].size(); ++of) {
      replies[asked][of] = metrics.Counter(Metric::kSmtpReplies, {kAsked[asked], kClasses[of]});
    }
  }
  message_bytes = metrics.Histogram(Metric::kSmtpMessageBytes, {});
}

ListenerRuntime::ListenerRuntime(const config::Listener& listener, size_t position,
                                 observe::Metrics& metrics)
    : settings(listener),
      index(position),
      protocol(backends::FromConfig(listener.protocol)),
      mechanisms(MechanismsOf(listener)) {
  const std::string_view name = listener.name;
  const std::string_view protocol_name = protocols::Name(protocol);
  accepted = metrics.Counter(Metric::kConnectionsAccepted, {name, protocol_name});
  active = metrics.Gauge(Metric::kConnectionsActive, {name, protocol_name});
  const auto rejected = [&](std::string_view reason) {
    return metrics.Counter(Metric::kConnectionsRejected, {name, protocol_name, reason});
  };
  rejected_full = rejected("global_limit");
  rejected_address = rejected("ip_limit");
  rejected_error = rejected("accept_error");
  if (listener.proxy_protocol != config::ProxyProtocol::kOff) {
    static constexpr std::array<std::string_view, kProxyVersions> kVersionNames = {"none", "v1",
                                                                                   "v2"};
    static constexpr std::array<std::string_view, static_cast<size_t>(ProxyHeaderResult::kCount)>
        kResults = {"ok", "local", "untrusted", "malformed", "timeout", "closed"};
    for (size_t v = 0; v < kVersionNames.size(); ++v) {
      for (size_t r = 0; r < kResults.size(); ++r) {
        const auto result = static_cast<ProxyHeaderResult>(r);
        const bool understood =
            result == ProxyHeaderResult::kOk || result == ProxyHeaderResult::kLocal;
        if (result != ProxyHeaderResult::kMalformed && understood != (v > 0)) continue;
        proxy_headers[v][r] =
            metrics.Counter(Metric::kProxyHeaders, {name, kVersionNames[v], kResults[r]});
      }
    }
  }
  const std::string_view mode =
      listener.tls == config::ListenerTls::kImplicit ? "implicit" : "starttls";
  handshakes_ok = metrics.Counter(Metric::kTlsHandshakes, {name, mode, "ok"});
  handshakes_failed = metrics.Counter(Metric::kTlsHandshakes, {name, mode, "failed"});
  for (size_t i = 1; i < handshake_failures.size(); ++i) {
    handshake_failures[i] = metrics.Counter(Metric::kTlsHandshakeFailures,
                                            {name, tls::Name(static_cast<tls::Failure>(i))});
  }
  handshake_timeouts = metrics.Counter(Metric::kTlsHandshakeFailures, {name, "timeout"});
  static constexpr std::array<std::string_view, 4> kVersions = {"1.0", "1.1", "1.2", "1.3"};
  for (size_t v = 0; v < kVersions.size(); ++v) {
    tls_sessions[v][0] = metrics.Counter(Metric::kTlsSessions, {name, kVersions[v], "no"});
    tls_sessions[v][1] = metrics.Counter(Metric::kTlsSessions, {name, kVersions[v], "yes"});
  }
  const auto group = [&](std::string_view group_name) {
    return metrics.Counter(Metric::kTlsGroups, {name, group_name});
  };
  for (size_t i = 0; i < tls_groups.size(); ++i) tls_groups[i] = group(tls::kGroupNames[i]);
  tls_group_other = group("other");
  tls_group_none = group("none");
  for (size_t i = 1; i < tls_tickets.size(); ++i) {
    tls_tickets[i] =
        metrics.Counter(Metric::kTlsTickets, {name, tls::Name(static_cast<tls::TicketUse>(i))});
  }
  const auto certificates = [&](std::string_view result) {
    return metrics.Counter(Metric::kTlsClientCertificates, {name, result});
  };
  certificates_valid = certificates("valid");
  certificates_invalid = certificates("invalid");
  certificates_none = certificates("none");
  handshake_duration = metrics.Histogram(Metric::kTlsHandshakeDuration, {mode});
}

}  // namespace gatepost
