// What all workers of a configuration share: built from it by prepare.cc, immutable afterwards.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "config/schema.h"
#include "gateway/auth/authenticator.h"
#include "gateway/auth/authority_runtime.h"
#include "gateway/auth/certificate_users.h"
#include "gateway/auth/policy.h"
#include "gateway/auth/throttle.h"
#include "gateway/backends/directory.h"
#include "gateway/backends/routes.h"
#include "gateway/net/connection_limits.h"
#include "gateway/net/networks.h"
#include "gateway/observe/failed_logins.h"
#include "gateway/observe/log.h"
#include "gateway/observe/metrics.h"
#include "gateway/session/close_reason.h"
#include "gateway/session/failure_filter.h"
#include "gateway/sharded_counts.h"
#include "protocols/engines.h"
#include "protocols/relay_scanner.h"
#include "tls/alerts.h"
#include "tls/channel.h"
#include "tls/context.h"

namespace gatepost {

// How the client's credentials travelled: metric label and log word by Name().
enum class TlsMode : uint8_t { kNone, kStartTls, kImplicit, kCount };
[[nodiscard]] std::string_view Name(TlsMode mode);

// What became of a connection on which a PROXY header must come first.
enum class ProxyHeaderResult : uint8_t {
  kOk,
  kLocal,      // the proxy's own connection
  kUntrusted,  // from outside proxy_networks
  kMalformed,  // anything else than a header
  kTimeout,
  kClosed,  // without a whole header: somebody looks whether the port is open
  kCount
};
inline constexpr size_t kProxyVersions = 3;  // 0: neither of both

enum class AuthResult : uint8_t {
  kOk,
  kFailed,    // the client's fault, as far as anybody knows
  kTempFail,  // an outage, or a mistake of the operator
  kLimited,   // too many guesses or too many sessions, ours to say or the backend's
  kCount
};

// Series of one protocol.
struct ProtocolSeries {
  ProtocolSeries(protocols::Protocol protocol, observe::Metrics& metrics);

  template <typename T>
  static constexpr size_t kSize = static_cast<size_t>(T::kCount);

  observe::HistogramId prelogin_duration, session_duration, login_duration;
  std::array<observe::CounterId, kSize<session::CloseReason>> closed;
  std::array<std::array<std::array<observe::CounterId, kSize<AuthResult>>, kSize<TlsMode>>,
             kSize<sasl::Mechanism>>
      auth_attempts;
  std::array<observe::CounterId, kSize<protocols::LoginFailure>> auth_failures;
  observe::CounterId bytes_in, bytes_out;
  std::array<observe::CounterId, tls::kAlertNames.size() + 1> tls_alerts;  // the last: any other
  std::array<observe::CounterId, kSize<tls::Plaintext>> foreign;           // without kNone
  observe::CounterId foreign_tls, lines_suppressed;
  observe::CounterId starttls_ok, starttls_refused, starttls_injection, starttls_failed;
  observe::CounterId bad_command, line_too_long, bad_base64, auth_aborted, auth_required,
      tls_required, unknown_mechanism, smuggling, command_refused, relaying_denied;
  observe::CounterId messages_accepted, messages_refused, messages_smuggling, recipients;  // SMTP
  std::array<std::array<observe::CounterId, kSize<protocols::RelayCounts::Class>>,
             kSize<protocols::RelayCounts::Asked>>
      replies;
  observe::HistogramId message_bytes;
};

// A listener of the configuration, ready to serve.
struct ListenerRuntime {
  ListenerRuntime(const config::Listener& listener, size_t position, observe::Metrics& metrics);

  // Trusts says whether `peer` may introduce clients as its own.
  [[nodiscard]] bool Trusts(const net::Address& peer) const {
    return net::IsIn(peer, settings.trusted_networks);
  }
  // KnowsClient says whether who connects from `peer` is the client itself.
  [[nodiscard]] bool KnowsClient(const net::Address& peer) const {
    return settings.proxy_protocol == config::ProxyProtocol::kOff && !Trusts(peer);
  }

  const config::Listener& settings;
  size_t index;  // in the configuration
  protocols::Protocol protocol;
  backends::Pool* pool = nullptr;
  bool only_backend_decides = false;  // whoever the client is: its route is known
  // Where mail goes that comes without a login, and for whom; null: none is taken.
  backends::Pool* inbound_pool = nullptr;
  std::shared_ptr<const std::vector<std::string>> local_domains;
  const ProtocolSeries* series = nullptr;
  std::chrono::milliseconds idle_timeout{};
  sasl::MechanismSet mechanisms;                              // that clients may use
  std::unique_ptr<auth::CertificateUsers> certificate_users;  // null: certificates log nobody in

  // By version (0: unknown) and result; those that can't be have no series. Where the listener
  // wants a header.
  std::array<std::array<observe::CounterId, static_cast<size_t>(ProxyHeaderResult::kCount)>,
             kProxyVersions>
      proxy_headers;
  observe::CounterId accepted, rejected_full, rejected_address, rejected_error;
  observe::GaugeId active;
  observe::CounterId handshakes_ok, handshakes_failed;
  std::array<observe::CounterId, static_cast<size_t>(tls::Failure::kCount)> handshake_failures;
  observe::CounterId handshake_timeouts;
  // TLS 1.0 to 1.3, full and resumed.
  std::array<std::array<observe::CounterId, 2>, 4> tls_sessions;
  std::array<observe::CounterId, tls::kGroupNames.size()> tls_groups;
  observe::CounterId tls_group_other, tls_group_none;
  // Without TicketUse::kNone.
  std::array<observe::CounterId, static_cast<size_t>(tls::TicketUse::kCount)> tls_tickets;
  observe::CounterId certificates_valid, certificates_invalid, certificates_none;  // of clients
  observe::HistogramId handshake_duration;
};

struct Runtime {
  config::Config config;
  // What a reload takes over from one Runtime to the next.
  std::shared_ptr<observe::Metrics> metrics;
  std::shared_ptr<observe::Log> log;
  std::shared_ptr<net::ConnectionLimits> limits;
  std::shared_ptr<session::FailureFilter> failure_filter;
  std::shared_ptr<auth::Throttle> throttle;
  std::shared_ptr<observe::FailedLogins> failed_logins;
  // By auth::UserKey, where they are limited.
  std::shared_ptr<ShardedCounts<std::string>> user_sessions;

  // Of [throttle]; empty: none.
  sasl::Secret throttle_key, redis_password;
  std::unique_ptr<backends::Directory> directory;
  std::unique_ptr<backends::Routes> routes;
  // Has every worker take the pool's new roster.
  std::function<void(const backends::Pool&)> renew_roster;
  std::vector<std::unique_ptr<ProtocolSeries>> protocol_series;  // by Protocol; null when unused
  std::vector<std::unique_ptr<ListenerRuntime>> listeners;
  std::vector<std::unique_ptr<auth::AuthorityRuntime>> authorities;  // as configured
  std::unique_ptr<auth::PolicyRuntime> policy;                       // null: there is none
  std::array<observe::CounterId, static_cast<size_t>(auth::Throttle::Scope::kCount)> throttled;
  std::vector<observe::HistogramId> loop_lag;  // by worker
};

}  // namespace gatepost
