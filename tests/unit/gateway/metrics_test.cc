// SPDX-License-Identifier: Apache-2.0
#include "gateway/observe/metrics.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <string>

namespace gatepost::observe {
namespace {

TEST(Metrics, SumsTheShardsOfAllWorkers) {
  Metrics metrics;
  const CounterId counter = metrics.Counter(Metric::kBytes, {"imap", "in"});
  const GaugeId gauge = metrics.Gauge(Metric::kConnectionsActive, {"l", "imap"});
  Shard& a = metrics.NewShard();
  Shard& b = metrics.NewShard();
  a.Add(counter, 5);
  b.Add(counter, 7);
  a.Change(gauge, 1);   // accepted by one worker,
  b.Change(gauge, -1);  // and even a gauge that goes below zero in one shard is right in the sum
  b.Change(gauge, 3);
  const std::string text = metrics.Render();
  EXPECT_NE(text.find("gatepost_bytes_total{protocol=\"imap\",direction=\"in\"} 12\n"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("gatepost_connections_active{listener=\"l\",protocol=\"imap\"} 3\n"),
            std::string::npos)
      << text;
}

TEST(Metrics, HistogramBucketsAreCumulative) {
  Metrics metrics;
  const HistogramId id = metrics.Histogram(Metric::kLoginDuration, {"imap"});
  Shard& shard = metrics.NewShard();
  shard.Observe(id, 0.005);  // a bound belongs to its bucket (le)
  shard.Observe(id, 0.02);
  shard.Observe(id, 100);
  const std::string text = metrics.Render();
  const auto has = [&](const std::string& line) {
    EXPECT_NE(text.find(line + "\n"), std::string::npos) << line << "\nin\n" << text;
  };
  has(R"(gatepost_login_duration_seconds_bucket{protocol="imap",le="0.005"} 1)");
  has(R"(gatepost_login_duration_seconds_bucket{protocol="imap",le="0.01"} 1)");
  has(R"(gatepost_login_duration_seconds_bucket{protocol="imap",le="0.025"} 2)");
  has(R"(gatepost_login_duration_seconds_bucket{protocol="imap",le="30"} 2)");
  has(R"(gatepost_login_duration_seconds_bucket{protocol="imap",le="+Inf"} 3)");
  has(R"(gatepost_login_duration_seconds_count{protocol="imap"} 3)");
}

TEST(Metrics, CountsOnAfterAWorkerHasEnded) {
  Metrics metrics;
  const CounterId counter = metrics.Counter(Metric::kBytes, {"imap", "in"});
  Shard& first = metrics.NewShard();
  first.Add(counter, 5);
  // A reload brings a series that the first worker does not know.
  const CounterId younger = metrics.Counter(Metric::kBytes, {"pop3", "in"});
  Shard& second = metrics.NewShard();
  second.Add(younger, 3);
  second.Add(counter, 2);
  const auto expect = [&] {
    const std::string text = metrics.Render();
    EXPECT_NE(text.find("{protocol=\"imap\",direction=\"in\"} 7\n"), std::string::npos) << text;
    EXPECT_NE(text.find("{protocol=\"pop3\",direction=\"in\"} 3\n"), std::string::npos) << text;
  };
  expect();
  metrics.Retire(first);
  expect();
  metrics.Retire(second);
  expect();
}

TEST(Metrics, TheSameLabelsAreTheSameSeries) {
  Metrics metrics;
  const CounterId first = metrics.Counter(Metric::kBytes, {"imap", "in"});
  EXPECT_EQ(first.cell, metrics.Counter(Metric::kBytes, {"imap", "in"}).cell);
  EXPECT_NE(first.cell, metrics.Counter(Metric::kBytes, {"imap", "out"}).cell);
}

TEST(Metrics, EveryNameIsInTheReferenceAndTheReverse) {
  std::set<std::string> code;
  for (size_t i = 0; i < static_cast<size_t>(Metric::kCount); ++i) {
    code.emplace(Metrics::Name(static_cast<Metric>(i)));
  }
  EXPECT_EQ(code.size(), static_cast<size_t>(Metric::kCount)) << "a name stands twice";
  std::ifstream file(GATEPOST_SOURCE_DIR "/gateway/observe/metrics.md");
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  std::set<std::string> reference;
  const std::regex row(R"(\n\| `([a-z_]+)` \|)");
  for (std::sregex_iterator match(text.begin(), text.end(), row), end; match != end; ++match) {
    reference.insert((*match)[1]);
  }
  EXPECT_EQ(code, reference);
}

}  // namespace
}  // namespace gatepost::observe
