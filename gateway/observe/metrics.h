// Every metric: its name, meaning and labels (metrics.cc has the one table), and how it is counted.
//
// Counting is per worker: a Shard has one writer, its cells are relaxed atomics without
// read-modify-write; a scrape sums the shards. Series are registered before the workers that count
// in them are made, so their number is bounded by the configurations that the process has had.
// metrics.md is the reference.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace gatepost::observe {

enum class Metric : uint8_t {
  kConnectionsAccepted,
  kConnectionsActive,
  kConnectionsRejected,
  kProxyHeaders,
  kConnectionDuration,
  kSessionsClosed,
  kTlsHandshakes,
  kTlsHandshakeFailures,
  kTlsSessions,
  kTlsGroups,
  kTlsTickets,
  kTlsAlertsReceived,
  kTlsClientCertificates,
  kTlsHandshakeDuration,
  kStartTls,
  kCertificateNotAfter,
  kCertificateNotBefore,
  kCertificateReloads,
  kCertificateLastSuccess,
  kAuthAttempts,
  kAuthFailures,
  kAuthDuration,
  kAuthorityRequests,
  kAuthorityUp,
  kThrottled,
  kBansActive,
  kThrottleShared,
  kThrottleEvents,
  kPolicyRequests,
  kPolicyDuration,
  kBackendConnections,
  kBackendEarlyConnections,
  kBackendReferrals,
  kBackendTlsHandshakes,
  kBackendTlsFailures,
  kBackendConnectDuration,
  kBackendLoginDuration,
  kLoginDuration,
  kBackendSessionsActive,
  kBackendUp,
  kBackendNameLookups,
  kBackendHealthTransitions,
  kBackendCapabilitiesKnown,
  kBackendForwardingTrusted,
  kBytes,
  kSmtpMessages,
  kSmtpRecipients,
  kSmtpReplies,
  kSmtpMessageBytes,
  kForeignProtocols,
  kProtocolErrors,
  kDraining,
  kDrainRemaining,
  kConfigReloads,
  kConfigLastReloadOk,
  kConfigLastReloadTime,
  kGenerations,
  kSessionLimit,
  kLogLinesSuppressed,
  kLogLinesDropped,
  kEventLoopLag,
  kBuildInfo,
  kProcessCpu,
  kProcessResidentMemory,
  kProcessOpenFds,
  kProcessMaxFds,
  kProcessStartTime,
  kCount
};

// Handles of registered series; a default one is never valid to count with.
struct CounterId {
  uint32_t cell = 0;
};
struct GaugeId {
  uint32_t cell = 0;
};
struct HistogramId {
  uint32_t first_cell = 0;  // the buckets, +Inf, then the sum in millionths
  const double* bounds = nullptr;
  uint32_t bound_count = 0;
};

// Shard is one worker's cells. Only that worker's thread counts in it.
class Shard {
 public:
  explicit Shard(size_t cells) : size_(cells), cells_(new std::atomic<uint64_t>[cells]()) {}

  void Add(CounterId id, uint64_t count = 1) { Bump(id.cell, count); }
  void Change(GaugeId id, int64_t by) { Bump(id.cell, static_cast<uint64_t>(by)); }
  // Observe adds a value (seconds or bytes).
  void Observe(const HistogramId& id, double value);

 private:
  friend class Metrics;
  void Bump(uint32_t cell, uint64_t by) {
    std::atomic<uint64_t>& target = cells_[cell];
    target.store(target.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
  }

  // Value returns 0 for a series that is younger than the shard.
  [[nodiscard]] uint64_t Value(uint32_t cell) const {
    return cell < size_ ? cells_[cell].load(std::memory_order_relaxed) : 0;
  }

  size_t size_;
  std::unique_ptr<std::atomic<uint64_t>[]> cells_;
};

class Metrics {
 public:
  using Labels = std::initializer_list<std::string_view>;  // values, in the order of the table

  Metrics() = default;
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // Registration. The same labels give the same series; a new one is counted in by shards that are
  // made afterwards.
  CounterId Counter(Metric metric, Labels labels);
  GaugeId Gauge(Metric metric, Labels labels);
  HistogramId Histogram(Metric metric, Labels labels);

  // NewShard makes a worker's cells; the Metrics keeps it alive.
  [[nodiscard]] Shard& NewShard();
  // Retire keeps what was counted in `shard`, which ends.
  void Retire(Shard& shard);

  // AtScrape registers a value that is read when somebody looks, on the scraping thread. Before the
  // first Render.
  struct Sample {
    std::vector<std::string> labels;
    double value;
  };
  void AtScrape(Metric metric, std::function<std::vector<Sample>()> read);

  // Value returns what a series stands at. Any thread.
  [[nodiscard]] uint64_t Value(CounterId id) const;
  [[nodiscard]] int64_t Value(GaugeId id) const;

  // Render returns the Prometheus text exposition (version 0.0.4).
  [[nodiscard]] std::string Render() const;

  // Name returns the metric's full name.
  [[nodiscard]] static std::string_view Name(Metric metric);

 private:
  struct Series {
    Metric metric;
    std::vector<std::string> labels;
    uint32_t cell;
  };
  uint32_t Register(Metric metric, Labels labels, uint32_t cells);
  [[nodiscard]] uint64_t Sum(uint32_t cell) const;

  mutable std::mutex mutex_;  // guards everything but readers_
  std::vector<Series> series_;
  uint32_t cells_ = 0;
  std::vector<std::unique_ptr<Shard>> shards_;
  std::vector<uint64_t> retired_;  // by cell, of shards that have ended
  struct Reader {
    Metric metric;
    std::function<std::vector<Sample>()> read;
  };
  std::vector<Reader> readers_;
};

}  // namespace gatepost::observe
