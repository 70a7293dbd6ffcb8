// SPDX-License-Identifier: Apache-2.0
#include "gateway/process_metrics.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include <array>
#include <chrono>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "tls/context.h"

namespace gatepost {
namespace {

using observe::Metric;
using Samples = std::vector<observe::Metrics::Sample>;

double UnixTime(std::chrono::system_clock::time_point time) {
  return std::chrono::duration<double>(time.time_since_epoch()).count();
}

// process_* as the Prometheus client libraries define them.
double ResidentBytes() {
  std::ifstream statm("/proc/self/statm");
  double total = 0;
  double resident = 0;
  statm >> total >> resident;
  return resident * static_cast<double>(sysconf(_SC_PAGESIZE));
}

// Linux 6.2 and newer has the number as the folder's size; looking through it takes many
// milliseconds where there are many.
double OpenDescriptors() {
  struct stat status {};
  if (stat("/proc/self/fd", &status) == 0 && status.st_size > 0) {
    return static_cast<double>(status.st_size);
  }
  double count = 0;
  std::error_code error;
  for (auto entry = std::filesystem::directory_iterator("/proc/self/fd", error);
       !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    ++count;
  }
  return count > 0 ? count - 1 : 0;  // without the one of this look
}

double CpuSeconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

double MaxDescriptors() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  return static_cast<double>(limit.rlim_cur);
}

Samples Certificates(const Generation& generation, TlsFiles::Time TlsFiles::Expiry::*time) {
  Samples samples;
  const auto series = generation.tls_series();
  for (const TlsFiles::Expiry& expiry : series->expiries) {
    samples.push_back({{expiry.certificate, expiry.name}, UnixTime(expiry.*time)});
  }
  return samples;
}

Samples CertificateReloads(const Generation& generation) {
  Samples samples;
  const auto series = generation.tls_series();
  for (const TlsFiles::Status& status : series->statuses) {
    samples.push_back({{status.part, "ok"}, static_cast<double>(status.taken)});
    samples.push_back({{status.part, "failed"}, static_cast<double>(status.failed)});
  }
  return samples;
}

Samples CertificateSuccesses(const Generation& generation) {
  Samples samples;
  const auto series = generation.tls_series();
  for (const TlsFiles::Status& status : series->statuses) {
    samples.push_back({{status.part}, UnixTime(status.last_success)});
  }
  return samples;
}

Samples Bans(const Generation& generation) {
  Samples samples;
  for (size_t i = 0; i < static_cast<size_t>(auth::Throttle::Scope::kCount); ++i) {
    const auto scope = static_cast<auth::Throttle::Scope>(i);
    const size_t count = generation.runtime().throttle->Refusing(scope, uv_hrtime() / 1'000'000);
    samples.push_back({{std::string(Name(scope))}, static_cast<double>(count)});
  }
  return samples;
}

Samples OfCourier(const Generation& generation,
                  const std::function<Samples(const auth::Throttle::Courier::Figures&)>& read) {
  const auth::Throttle::Courier* courier = generation.runtime().throttle->courier();
  return courier == nullptr ? Samples{} : read(courier->figures());
}

Samples Authorities(const Generation& generation) {
  Samples samples;
  for (const auto& authority : generation.runtime().authorities) {
    // Of the backends each member has its own state.
    if (authority->settings.kind == config::AuthorityKind::kBackend) continue;
    samples.push_back({{authority->settings.name}, authority->up.load() ? 1.0 : 0.0});
  }
  return samples;
}

Samples Trust(const Generation& generation) {
  static constexpr std::array<std::string_view, static_cast<size_t>(protocols::Protocol::kCount)>
      kMethods = {"imap-id", "pop3-xclient", "smtp-xclient"};
  Samples samples;
  for (const auto& pool : generation.runtime().directory->pools()) {
    for (const auto& [member, given] : pool->Trust()) {
      samples.push_back({{pool->settings().name, member,
                          std::string(kMethods[static_cast<size_t>(pool->protocol())])},
                         given ? 1.0 : 0.0});
    }
  }
  return samples;
}

Samples Capabilities(const Generation& generation) {
  Samples samples;
  for (const auto& pool : generation.runtime().directory->pools()) {
    samples.push_back({{pool->settings().name, std::string(protocols::Name(pool->protocol()))},
                       pool->capabilities() ? 1.0 : 0.0});
  }
  return samples;
}

template <typename Read>
Samples OfMembers(const Generation& generation, Read read) {
  Samples samples;
  for (const auto& pool : generation.runtime().directory->pools()) {
    const auto roster = pool->roster();  // held while it is read
    for (const auto& member : *roster) {
      samples.push_back(
          {{pool->settings().name, std::string(protocols::Name(pool->protocol())), member->name()},
           read(*member)});
    }
  }
  return samples;
}

// Members are counted with the sessions of all generations. A pool that serves several protocols
// has its members once for each; one that a reload has not changed shares them.
Samples BackendSessions(const Generations& generations) {
  std::set<const backends::Member*> seen;
  std::map<std::pair<std::string, std::string>, double> sums;
  for (const auto& generation : generations) {
    for (const auto& pool : generation->runtime().directory->pools()) {
      const auto roster = pool->roster();
      for (const auto& member : *roster) {
        if (!seen.insert(member.get()).second) continue;
        sums[{pool->settings().name, member->name()}] += member->sessions();
      }
    }
  }
  Samples samples;
  for (const auto& [labels, sum] : sums) samples.push_back({{labels.first, labels.second}, sum});
  return samples;
}

}  // namespace

void RegisterProcessMetrics(observe::Metrics& metrics, std::function<Generations()> generations,
                            double start_time) {
  const auto one = [&](Metric metric, auto read) {
    metrics.AtScrape(metric, [read] { return Samples{{{}, read()}}; });
  };
  // Of the newest alone.
  const auto newest = [&](Metric metric, auto read) {
    metrics.AtScrape(metric, [generations, read] { return read(*generations().back()); });
  };
  one(Metric::kProcessCpu, CpuSeconds);
  one(Metric::kProcessResidentMemory, ResidentBytes);
  one(Metric::kProcessOpenFds, OpenDescriptors);
  one(Metric::kProcessMaxFds, MaxDescriptors);
  one(Metric::kProcessStartTime, [start_time] { return start_time; });
  one(Metric::kGenerations, [generations] { return static_cast<double>(generations().size()); });
  metrics.AtScrape(Metric::kBuildInfo, [] {
    return Samples{
        {{GATEPOST_VERSION, tls::LibraryVersion(), uv_version_string(), __VERSION__}, 1}};
  });
  one(Metric::kSessionLimit, [generations] {
    return static_cast<double>(generations().back()->runtime().limits->max_total());
  });
  one(Metric::kLogLinesDropped, [generations] {
    return static_cast<double>(generations().back()->runtime().log->dropped());
  });
  newest(Metric::kBansActive, Bans);
  newest(Metric::kThrottleShared, [](const Generation& generation) {
    return OfCourier(generation, [](const auto& figures) {
      return Samples{{{}, figures.up ? 1.0 : 0.0}};
    });
  });
  newest(Metric::kThrottleEvents, [](const Generation& generation) {
    return OfCourier(generation, [](const auto& figures) {
      return Samples{{{"sent"}, static_cast<double>(figures.sent)},
                     {{"received"}, static_cast<double>(figures.received)},
                     {{"dropped"}, static_cast<double>(figures.dropped)}};
    });
  });
  newest(Metric::kCertificateNotAfter, [](const Generation& generation) {
    return Certificates(generation, &TlsFiles::Expiry::not_after);
  });
  newest(Metric::kCertificateNotBefore, [](const Generation& generation) {
    return Certificates(generation, &TlsFiles::Expiry::not_before);
  });
  newest(Metric::kCertificateReloads, CertificateReloads);
  newest(Metric::kCertificateLastSuccess, CertificateSuccesses);
  newest(Metric::kAuthorityUp, Authorities);
  newest(Metric::kBackendForwardingTrusted, Trust);
  newest(Metric::kBackendCapabilitiesKnown, Capabilities);
  newest(Metric::kBackendUp, [](const Generation& generation) {
    return OfMembers(generation, [](const backends::Member& member) {
      return member.health().usable() ? 1.0 : 0.0;
    });
  });
  newest(Metric::kBackendHealthTransitions, [](const Generation& generation) {
    return OfMembers(generation, [](const backends::Member& member) {
      return static_cast<double>(member.health().transitions());
    });
  });
  metrics.AtScrape(Metric::kBackendSessionsActive,
                   [generations] { return BackendSessions(generations()); });
}

}  // namespace gatepost
