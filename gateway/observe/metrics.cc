// SPDX-License-Identifier: Apache-2.0
#include "gateway/observe/metrics.h"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <array>
#include <cassert>

namespace gatepost::observe {
namespace {

enum class Kind : uint8_t { kCounter, kGauge, kHistogram };

constexpr double kLatency[] = {.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30};
constexpr double kHandshake[] = {.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10};
constexpr double kDuration[] = {.1, 1, 10, 60, 300, 900, 1800, 3600, 14400, 86400};
constexpr double kMessage[] = {1e3, 1e4, 1e5, 1e6, 5e6, 1e7, 2.5e7, 5e7, 1e8};
constexpr double kLag[] = {.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5};

struct Description {
  std::string_view name;
  Kind kind;
  std::array<std::string_view, 4> labels;
  std::string_view help;
  std::span<const double> bounds = {};
};

// In the order of enum Metric.
constexpr std::array<Description, static_cast<size_t>(Metric::kCount)> kTable = {{
    {"gatepost_connections_accepted_total",
     Kind::kCounter,
     {"listener", "protocol"},
     "Client connections accepted."},
    {"gatepost_connections_active",
     Kind::kGauge,
     {"listener", "protocol"},
     "Client connections open now."},
    {"gatepost_connections_rejected_total",
     Kind::kCounter,
     {"listener", "protocol", "reason"},
     "Client connections refused at accept."},
    {"gatepost_proxy_protocol_headers_total",
     Kind::kCounter,
     {"listener", "version", "result"},
     "Connections on which a PROXY header must come first, by what came."},
    {"gatepost_connection_duration_seconds",
     Kind::kHistogram,
     {"protocol", "phase"},
     "Time from accept to login or close (prelogin), and from login to close (session).",
     kDuration},
    {"gatepost_sessions_closed_total",
     Kind::kCounter,
     {"protocol", "reason"},
     "Sessions ended, by reason."},
    {"gatepost_tls_handshakes_total",
     Kind::kCounter,
     {"listener", "mode", "result"},
     "TLS handshakes with clients."},
    {"gatepost_tls_handshake_failures_total",
     Kind::kCounter,
     {"listener", "reason"},
     "Failed TLS handshakes with clients, by reason."},
    {"gatepost_tls_sessions_total",
     Kind::kCounter,
     {"listener", "version", "resumed"},
     "TLS sessions established with clients, by protocol version."},
    {"gatepost_tls_groups_total",
     Kind::kCounter,
     {"listener", "group"},
     "TLS sessions established with clients, by key exchange group."},
    {"gatepost_tls_tickets_total",
     Kind::kCounter,
     {"listener", "key"},
     "Session tickets that clients came with, by the key that had sealed them."},
    {"gatepost_tls_alerts_received_total",
     Kind::kCounter,
     {"protocol", "alert"},
     "Fatal TLS alerts that clients sent, during the handshake and after."},
    {"gatepost_tls_client_certificates_total",
     Kind::kCounter,
     {"listener", "result"},
     "TLS sessions whose client was asked for a certificate, by what it presented."},
    {"gatepost_tls_handshake_duration_seconds",
     Kind::kHistogram,
     {"mode"},
     "Time of a client's TLS handshake.",
     kHandshake},
    {"gatepost_starttls_total",
     Kind::kCounter,
     {"protocol", "result"},
     "STARTTLS and STLS commands, by outcome."},
    {"gatepost_tls_certificate_not_after_timestamp_seconds",
     Kind::kGauge,
     {"certificate", "san_first"},
     "End of the certificate's validity, Unix time."},
    {"gatepost_tls_certificate_not_before_timestamp_seconds",
     Kind::kGauge,
     {"certificate", "san_first"},
     "Begin of the certificate's validity, Unix time."},
    {"gatepost_tls_certificate_reloads_total",
     Kind::kCounter,
     {"certificate", "result"},
     "Reloads of the listeners' TLS files since the start."},
    {"gatepost_tls_certificate_last_success_timestamp_seconds",
     Kind::kGauge,
     {"certificate"},
     "When the files were last read and found good, Unix time."},
    {"gatepost_auth_attempts_total",
     Kind::kCounter,
     {"protocol", "mechanism", "tls", "result"},
     "Login attempts."},
    {"gatepost_auth_failures_total",
     Kind::kCounter,
     {"protocol", "reason"},
     "Logins that did not succeed, by reason."},
    {"gatepost_auth_duration_seconds",
     Kind::kHistogram,
     {"authority", "result"},
     "Time the authority took for a verdict, penalties excluded.",
     kLatency},
    {"gatepost_authority_requests_total",
     Kind::kCounter,
     {"authority", "result"},
     "Questions to authorities, by answer."},
    {"gatepost_authority_up",
     Kind::kGauge,
     {"authority"},
     "Whether the authority, if not the backend, gave an answer when it was asked last."},
    {"gatepost_throttled_total",
     Kind::kCounter,
     {"scope"},
     "Logins refused before the authority was asked, since too many had failed."},
    {"gatepost_bans_active",
     Kind::kGauge,
     {"scope"},
     "Client networks, users and pairs of both whose logins are refused now."},
    {"gatepost_throttle_shared",
     Kind::kGauge,
     {},
     "Whether failed logins are shared with other gateways now (throttle.redis)."},
    {"gatepost_throttle_events_total",
     Kind::kCounter,
     {"direction"},
     "Failed and forgiven logins of which gateways told each other."},
    {"gatepost_policy_requests_total",
     Kind::kCounter,
     {"command", "result"},
     "Questions and reports to the policy service, by answer."},
    {"gatepost_policy_duration_seconds",
     Kind::kHistogram,
     {},
     "Time the policy service took for a decision, delays that it asks for excluded.",
     kLatency},
    {"gatepost_backend_connections_total",
     Kind::kCounter,
     {"backend", "protocol", "result"},
     "Connections to backends, by outcome."},
    {"gatepost_backend_early_connections_total",
     Kind::kCounter,
     {"backend", "protocol", "result"},
     "Connections begun before the client's login (connect_early), used or not."},
    {"gatepost_backend_referrals_total",
     Kind::kCounter,
     {"backend", "protocol", "result"},
     "Logins that a backend has referred to another one (follow_referrals), by what came of it."},
    {"gatepost_backend_tls_handshakes_total",
     Kind::kCounter,
     {"backend", "protocol", "resumed"},
     "TLS handshakes with backends that succeeded, full and resumed."},
    {"gatepost_backend_tls_failures_total",
     Kind::kCounter,
     {"backend", "protocol", "reason"},
     "TLS handshakes with backends that failed, by reason."},
    {"gatepost_backend_connect_duration_seconds",
     Kind::kHistogram,
     {"backend", "protocol"},
     "Time to connect to a backend (TCP).",
     kLatency},
    {"gatepost_backend_login_duration_seconds",
     Kind::kHistogram,
     {"backend", "protocol"},
     "Time from the connection to the backend's answer to the login.",
     kLatency},
    {"gatepost_login_duration_seconds",
     Kind::kHistogram,
     {"protocol"},
     "Time from the client's login command to its success.",
     kLatency},
    {"gatepost_backend_sessions_active",
     Kind::kGauge,
     {"backend", "member"},
     "Sessions relayed to this member now."},
    {"gatepost_backend_up",
     Kind::kGauge,
     {"backend", "protocol", "member"},
     "1 while logins are sent to this member, 0 while it is down."},
    {"gatepost_backend_name_lookups_total",
     Kind::kCounter,
     {"backend", "protocol", "result"},
     "Questions to the DNS for the members of a pool (dns:, srv:)."},
    {"gatepost_backend_health_transitions_total",
     Kind::kCounter,
     {"backend", "protocol", "member"},
     "How often this member went down or came back."},
    {"gatepost_backend_capabilities_known",
     Kind::kGauge,
     {"backend", "protocol"},
     "1 once the pool's capabilities were learnt from a member."},
    {"gatepost_backend_forwarding_trusted",
     Kind::kGauge,
     {"backend", "member", "method"},
     "Whether the backend believed the last introduction of a client: 1, or 0."},
    {"gatepost_bytes_total",
     Kind::kCounter,
     {"protocol", "direction"},
     "Bytes relayed from clients (in) and to clients (out), without TLS overhead."},
    {"gatepost_smtp_messages_total",
     Kind::kCounter,
     {"result"},
     "Mail data transfers by outcome: accepted, refused (by the backend), smuggling (bare "
     "newline)."},
    {"gatepost_smtp_recipients_total", Kind::kCounter, {}, "Recipients accepted by backends."},
    {"gatepost_smtp_replies_total",
     Kind::kCounter,
     {"command", "class"},
     "Replies of backends to MAIL, to RCPT and to the end of a message, by their class."},
    {"gatepost_smtp_message_size_bytes",
     Kind::kHistogram,
     {},
     "Mail data of accepted messages.",
     kMessage},
    {"gatepost_foreign_protocols_total",
     Kind::kCounter,
     {"protocol", "kind"},
     "Clients that spoke something else than was expected, by their first bytes."},
    {"gatepost_protocol_errors_total",
     Kind::kCounter,
     {"protocol", "kind"},
     "What clients did wrong."},
    {"gatepost_draining", Kind::kGauge, {}, "1 while shutting down."},
    {"gatepost_drain_remaining_seconds",
     Kind::kGauge,
     {},
     "Time until the last sessions are ended, while shutting down."},
    {"gatepost_config_reloads_total",
     Kind::kCounter,
     {"result"},
     "Reloads of the configuration since the start."},
    {"gatepost_config_last_reload_successful",
     Kind::kGauge,
     {},
     "1 unless the last reload of the configuration failed."},
    {"gatepost_config_last_reload_success_timestamp_seconds",
     Kind::kGauge,
     {},
     "When the running configuration was read, Unix time."},
    {"gatepost_config_generations",
     Kind::kGauge,
     {},
     "Configurations in use: the newest, and those that sessions have begun with."},
    {"gatepost_session_limit", Kind::kGauge, {}, "Client connections that are served at most."},
    {"gatepost_log_lines_suppressed_total",
     Kind::kCounter,
     {"protocol"},
     "Log lines about failed handshakes and foreign protocols held back: one of the same client "
     "was "
     "written not long ago."},
    {"gatepost_log_lines_dropped_total",
     Kind::kCounter,
     {},
     "Log lines dropped since the writer was slower than the events."},
    {"gatepost_event_loop_lag_seconds",
     Kind::kHistogram,
     {"worker"},
     "How late a worker's one-second timer ran.",
     kLag},
    {"gatepost_build_info",
     Kind::kGauge,
     {"version", "tls_library", "libuv", "compiler"},
     "Always 1."},
    {"process_cpu_seconds_total", Kind::kCounter, {}, "User and system CPU time."},
    {"process_resident_memory_bytes", Kind::kGauge, {}, "Resident memory."},
    {"process_open_fds", Kind::kGauge, {}, "Open file descriptors."},
    {"process_max_fds", Kind::kGauge, {}, "Limit of open file descriptors."},
    {"process_start_time_seconds", Kind::kGauge, {}, "Start time, Unix time."},
}};

const Description& Describe(Metric metric) {
  return kTable[static_cast<size_t>(metric)];
}

[[maybe_unused]] size_t LabelCount(const Description& description) {
  return static_cast<size_t>(std::count_if(description.labels.begin(), description.labels.end(),
                                           [](std::string_view label) { return !label.empty(); }));
}

prometheus::ClientMetric& AddMetric(prometheus::MetricFamily& family,
                                    const Description& description,
                                    const std::vector<std::string>& labels) {
  prometheus::ClientMetric& metric = family.metric.emplace_back();
  for (size_t i = 0; i < labels.size(); ++i) {
    metric.label.push_back({std::string(description.labels[i]), labels[i]});
  }
  return metric;
}

}  // namespace

void Shard::Observe(const HistogramId& id, double value) {
  const double* end = id.bounds + id.bound_count;
  const double* bucket = std::lower_bound(id.bounds, end, value);
  Bump(id.first_cell + static_cast<uint32_t>(bucket - id.bounds), 1);
  Bump(id.first_cell + id.bound_count + 1, static_cast<uint64_t>(value * 1e6));
}

uint32_t Metrics::Register(Metric metric, Labels labels, uint32_t cells) {
  assert(labels.size() == LabelCount(Describe(metric)));
  const std::lock_guard lock(mutex_);
  for (const Series& known : series_) {
    if (known.metric == metric &&
        std::equal(labels.begin(), labels.end(), known.labels.begin(), known.labels.end())) {
      return known.cell;
    }
  }
  series_.push_back({metric, {labels.begin(), labels.end()}, cells_});
  cells_ += cells;
  return series_.back().cell;
}

CounterId Metrics::Counter(Metric metric, Labels labels) {
  return {Register(metric, labels, 1)};
}
GaugeId Metrics::Gauge(Metric metric, Labels labels) {
  return {Register(metric, labels, 1)};
}

HistogramId Metrics::Histogram(Metric metric, Labels labels) {
  const auto bounds = Describe(metric).bounds;
  const auto count = static_cast<uint32_t>(bounds.size());
  return {Register(metric, labels, count + 2), bounds.data(), count};
}

Shard& Metrics::NewShard() {
  const std::lock_guard lock(mutex_);
  return *shards_.emplace_back(std::make_unique<Shard>(cells_));
}

void Metrics::Retire(Shard& shard) {
  const std::lock_guard lock(mutex_);
  if (retired_.size() < shard.size_) retired_.resize(shard.size_);
  for (uint32_t cell = 0; cell < shard.size_; ++cell) retired_[cell] += shard.Value(cell);
  std::erase_if(shards_, [&](const auto& own) { return own.get() == &shard; });
}

void Metrics::AtScrape(Metric metric, std::function<std::vector<Sample>()> read) {
  readers_.push_back({metric, std::move(read)});
}

uint64_t Metrics::Sum(uint32_t cell) const {
  uint64_t sum = cell < retired_.size() ? retired_[cell] : 0;
  for (const auto& shard : shards_) sum += shard->Value(cell);
  return sum;
}

uint64_t Metrics::Value(CounterId id) const {
  const std::lock_guard lock(mutex_);
  return Sum(id.cell);
}

int64_t Metrics::Value(GaugeId id) const {
  const std::lock_guard lock(mutex_);
  return static_cast<int64_t>(Sum(id.cell));
}

std::string_view Metrics::Name(Metric metric) {
  return Describe(metric).name;
}

std::string Metrics::Render() const {
  std::vector<prometheus::MetricFamily> families(kTable.size());
  for (size_t i = 0; i < kTable.size(); ++i) {
    families[i].name = kTable[i].name;
    families[i].help = kTable[i].help;
    families[i].type = kTable[i].kind == Kind::kCounter ? prometheus::MetricType::Counter
                       : kTable[i].kind == Kind::kGauge ? prometheus::MetricType::Gauge
                                                        : prometheus::MetricType::Histogram;
  }
  {
    const std::lock_guard lock(mutex_);
    for (const Series& series : series_) {
      const Description& description = Describe(series.metric);
      auto& metric =
          AddMetric(families[static_cast<size_t>(series.metric)], description, series.labels);
      switch (description.kind) {
        case Kind::kCounter:
          metric.counter.value = static_cast<double>(Sum(series.cell));
          break;
        case Kind::kGauge:
          metric.gauge.value = static_cast<double>(static_cast<int64_t>(Sum(series.cell)));
          break;
        case Kind::kHistogram: {
          uint64_t cumulative = 0;
          auto cell = series.cell;
          for (const double bound : description.bounds) {
            cumulative += Sum(cell++);
            metric.histogram.bucket.push_back({cumulative, bound});
          }
          cumulative += Sum(cell++);  // prometheus-cpp writes the +Inf bucket from the count
          metric.histogram.sample_count = cumulative;
          metric.histogram.sample_sum = static_cast<double>(Sum(cell)) / 1e6;
          break;
        }
      }
    }
  }
  for (const Reader& reader : readers_) {
    const Description& description = Describe(reader.metric);
    for (const Sample& sample : reader.read()) {
      auto& metric =
          AddMetric(families[static_cast<size_t>(reader.metric)], description, sample.labels);
      if (description.kind == Kind::kCounter) {
        metric.counter.value = sample.value;
      } else {
        metric.gauge.value = sample.value;
      }
    }
  }
  std::erase_if(families, [](const auto& family) { return family.metric.empty(); });
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace gatepost::observe
