// SPDX-License-Identifier: Apache-2.0
#include "gateway/control/running_gateway.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "tls/context.h"

namespace gatepost::control {
namespace {

constexpr uint64_t kKickPaceMs = 2;  // between two kicked sessions of a worker: clients come back

int64_t UnixTime(std::chrono::system_clock::time_point time) {
  return std::chrono::duration_cast<std::chrono::seconds>(time.time_since_epoch()).count();
}

// ---- queries to all workers: whoever holds one last answers, since workers may end under way

struct Listing {
  Listing(std::shared_ptr<net::Inbox> to, session::SessionFilter wanted, size_t most,
          std::function<void(SessionList)> tell)
      : inbox(std::move(to)), filter(std::move(wanted)), limit(most), answer(std::move(tell)) {}
  ~Listing() {
    std::sort(list.sessions.begin(), list.sessions.end(),
              [](const auto& a, const auto& b) { return a.age_ms > b.age_ms; });
    inbox->Post([list = std::move(list), answer = std::move(answer)] { answer(list); });
  }
  Listing(const Listing&) = delete;
  Listing& operator=(const Listing&) = delete;

  void Visit(session::Session& session) {
    if (!session.Matches(filter)) return;
    const std::lock_guard lock(mutex);
    ++list.matched;
    if (list.sessions.size() < limit) list.sessions.push_back(session.Describe());
  }

  const std::shared_ptr<net::Inbox> inbox;
  const session::SessionFilter filter;
  const size_t limit;
  std::function<void(SessionList)> answer;
  std::mutex mutex;
  SessionList list;
};

struct Kicking {
  Kicking(std::shared_ptr<net::Inbox> to, session::SessionFilter wanted,
          std::function<void(uint64_t)> tell)
      : inbox(std::move(to)), filter(std::move(wanted)), answer(std::move(tell)) {}
  ~Kicking() {
    inbox->Post([count = count.load(), answer = std::move(answer)] { answer(count); });
  }
  Kicking(const Kicking&) = delete;
  Kicking& operator=(const Kicking&) = delete;

  void Visit(session::Session& session) {
    if (session.Matches(filter)) session.Kick(kKickPaceMs * count.fetch_add(1));
  }

  const std::shared_ptr<net::Inbox> inbox;
  const session::SessionFilter filter;
  std::function<void(uint64_t)> answer;
  std::atomic<uint64_t> count{0};
};

// ---- the parts of the status

std::string_view StateOf(const backends::Health& health) {
  if (health.misconfigured()) return "misconfigured";
  if (!health.usable()) return "down";
  return health.avoided(uv_hrtime() / 1'000'000) ? "avoided" : "up";
}

void AddBackends(const Runtime& runtime, Status& status) {
  for (const auto& pool : runtime.directory->pools()) {
    const auto roster = pool->roster();
    const size_t first = status.backends.size();
    uint64_t all = 0;
    for (const auto& member : *roster) {
      MemberStatus entry;
      entry.pool = pool->settings().name;
      entry.protocol = protocols::Name(pool->protocol());
      entry.member = member->name();
      entry.state = StateOf(member->health());
      if (entry.state != "up") entry.problem = member->problem();
      entry.weight = member->weight();
      entry.priority = member->priority();
      entry.sessions = member->sessions();
      entry.logins = member->logins();
      entry.login_ms = member->login_ms();
      entry.transitions = member->health().transitions();
      all += entry.sessions;
      status.backends.push_back(std::move(entry));
    }
    for (size_t i = first; i < status.backends.size(); ++i) {
      MemberStatus& entry = status.backends[i];
      if (all > 0) entry.share = static_cast<double>(entry.sessions) / static_cast<double>(all);
    }
  }
}

void AddCertificates(const TlsFiles::Series& series, Status& status) {
  std::map<std::string_view, std::string_view> problems;
  for (const TlsFiles::Status& part : series.statuses) problems[part.part] = part.problem;
  for (const TlsFiles::Expiry& expiry : series.expiries) {
    const auto problem = problems.find(expiry.certificate);
    status.certificates.push_back(
        {expiry.certificate, expiry.name, UnixTime(expiry.not_after),
         problem == problems.end() ? std::string() : std::string(problem->second)});
    if (problem != problems.end()) problems.erase(problem);
  }
  // What is not in use at all.
  for (const auto& [part, problem] : problems) {
    if (!problem.empty())
      status.certificates.push_back({std::string(part), "", 0, std::string(problem)});
  }
}

ProtocolStatus StatusOf(protocols::Protocol protocol, const Runtime& runtime) {
  const ProtocolSeries& series = *runtime.protocol_series[static_cast<size_t>(protocol)];
  const observe::Metrics& metrics = *runtime.metrics;
  ProtocolStatus status;
  status.protocol = protocols::Name(protocol);
  const auto attempts = [&](AuthResult result) {
    uint64_t sum = 0;
    for (const auto& mechanism : series.auth_attempts) {
      for (const auto& mode : mechanism) sum += metrics.Value(mode[static_cast<size_t>(result)]);
    }
    return sum;
  };
  status.logins_ok = attempts(AuthResult::kOk);
  status.logins_failed = attempts(AuthResult::kFailed);
  status.logins_deferred = attempts(AuthResult::kTempFail);
  status.logins_limited = attempts(AuthResult::kLimited);
  status.bytes_in = metrics.Value(series.bytes_in);
  status.bytes_out = metrics.Value(series.bytes_out);
  return status;
}

void AddListeners(const Runtime& runtime, Status& status) {
  static constexpr std::array<std::string_view, 4> kVersions = {"1.0", "1.1", "1.2", "1.3"};
  for (const std::string_view version : kVersions) status.tls_versions.push_back({version, 0});
  const observe::Metrics& metrics = *runtime.metrics;
  for (const auto& listener : runtime.listeners) {
    ListenerStatus entry;
    entry.name = listener->settings.name;
    entry.protocol = protocols::Name(listener->protocol);
    for (const config::SocketAddress& address : listener->settings.addresses) {
      entry.addresses.push_back(net::Address::Parse(address.host, address.port)->Text());
    }
    entry.tls = Name(listener->settings.tls == config::ListenerTls::kImplicit ? TlsMode::kImplicit
                                                                              : TlsMode::kStartTls);
    entry.pool = listener->settings.pool;
    entry.connections = metrics.Value(listener->active);
    entry.accepted = metrics.Value(listener->accepted);
    entry.handshakes_failed = metrics.Value(listener->handshakes_failed);
    for (size_t i = 0; i < kVersions.size(); ++i) {
      for (const observe::CounterId id : listener->tls_sessions[i]) {
        status.tls_versions[i].sessions += metrics.Value(id);
      }
    }
    auto& protocols = status.protocols;
    auto of = std::find_if(protocols.begin(), protocols.end(), [&](const ProtocolStatus& known) {
      return known.protocol == entry.protocol;
    });
    if (of == protocols.end()) {
      of = protocols.insert(of, StatusOf(listener->protocol, runtime));
    }
    of->connections += entry.connections;
    status.listeners.push_back(std::move(entry));
  }
}

}  // namespace

RunningGateway::RunningGateway(uv_loop_t* loop, Process process)
    : process_(std::move(process)), inbox_(std::make_shared<net::Inbox>(loop)) {}

RunningGateway::~RunningGateway() {
  inbox_->Close();
}

Status RunningGateway::GetStatus() const {
  const gatepost::Generations generations = process_.generations();
  const Generation& current = *generations.back();
  const Runtime& runtime = current.runtime();
  Status status;
  status.version = GATEPOST_VERSION;
  status.tls_library = tls::LibraryVersion();
  status.hostname = runtime.config.hostname;
  status.pid = getpid();
  status.started = static_cast<int64_t>(process_.start_time);
  status.time = UnixTime(std::chrono::system_clock::now());
  if (process_.draining()) {
    status.state = "draining";
    status.drain_remaining_s = process_.drain_remaining_s();
  } else {
    status.problem = process_.not_ready();
    status.state = status.problem.empty() ? "serving" : "not-ready";
  }
  status.generation = current.number();
  status.generations = generations.size();
  status.workers = static_cast<uint32_t>(current.workers().size());
  status.connections = runtime.limits->total();
  status.connection_limit = runtime.limits->max_total();
  AddListeners(runtime, status);
  AddBackends(runtime, status);
  for (const MemberStatus& member : status.backends) {
    for (ProtocolStatus& protocol : status.protocols) {
      if (protocol.protocol == member.protocol) protocol.sessions += member.sessions;
    }
  }
  AddCertificates(*current.tls_series(), status);
  status.failed_logins = runtime.failed_logins->Latest();
  return status;
}

template <typename Query>
void RunningGateway::Ask(const std::shared_ptr<Query>& query) {
  for (const auto& generation : process_.generations()) {
    for (const auto& worker : generation->workers()) {
      worker->Visit([query](session::Session& session) { query->Visit(session); });
    }
  }
}

void RunningGateway::ListSessions(session::SessionFilter filter, size_t limit,
                                  std::function<void(SessionList)> answer) {
  Ask(std::make_shared<Listing>(inbox_, std::move(filter), limit, std::move(answer)));
}

void RunningGateway::Kick(session::SessionFilter filter, std::function<void(uint64_t)> answer) {
  Ask(std::make_shared<Kicking>(inbox_, std::move(filter), std::move(answer)));
}

bool RunningGateway::Drain() {
  if (process_.draining()) return false;
  process_.drain();
  return true;
}

void RunningGateway::Reload(std::function<void(const ReloadResult&)> answer) {
  process_.reload(std::move(answer));
}

void RunningGateway::Upgrade(std::function<void(const UpgradeResult&)> answer) {
  process_.upgrade(std::move(answer));
}

}  // namespace gatepost::control
