// SPDX-License-Identifier: Apache-2.0
#include "gateway/process.h"

#include <fmt/format.h>
#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>
#include <uv.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <fstream>
#include <map>
#include <thread>
#include <utility>

#include "gateway/net/listener.h"
#include "gateway/observe/admin_http.h"
#include "gateway/privileges.h"
#include "gateway/service_manager.h"
#include "gateway/tls_watch.h"
#include "gateway/worker.h"
#include "protocols/line_framer.h"

namespace gatepost {
namespace {

using observe::Level;
using observe::Metric;

constexpr uint64_t kStuckNs = 10'000'000'000;  // a loop silent for so long is not healthy
constexpr uint64_t kHousekeepingMs = 1'000;
constexpr uint64_t kFirstHousekeepingMs = 50;           // soon: who has started us waits
constexpr auto kExitMargin = std::chrono::seconds(10);  // from the end of a drain to the exit
constexpr uint32_t kTrimSessions = 100;
constexpr double kProbePatienceS = 5;
constexpr uint16_t kTls12 = 0x0303;

std::chrono::milliseconds IdleTimeout(const config::IdleTimeouts& timeouts,
                                      protocols::Protocol protocol) {
  switch (protocol) {
    case protocols::Protocol::kImap:
      return timeouts.imap;
    case protocols::Protocol::kPop3:
      return timeouts.pop3;
    case protocols::Protocol::kSmtp:
      return timeouts.smtp;
    case protocols::Protocol::kCount:
      break;
  }
  return timeouts.imap;
}

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

double OpenDescriptors() {
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

void RenewRoutes(const TlsFiles& files, size_t count, backends::Routes& routes) {
  for (size_t i = 0; i < count; ++i) {
    if (auto users = files.user_routes(i)) routes.Renew(i, std::move(users));
  }
}

}  // namespace

bool PasswordExposed(const std::optional<std::filesystem::path>& file) {
  std::error_code error;
  return file && (std::filesystem::status(*file, error).permissions() &
                  std::filesystem::perms::others_read) != std::filesystem::perms::none;
}

// ---- preparing
// -----------------------------------------------------------------------------------

tl::expected<Prepared, std::vector<std::string>> Prepare(
    config::Config config, const std::string& file, std::shared_ptr<const tls::KeyLog> key_log) {
  std::vector<std::string> errors;
  Prepared prepared;
  prepared.file = file;
  prepared.key_log = std::move(key_log);
  prepared.runtime = std::make_unique<Runtime>();
  Runtime& runtime = *prepared.runtime;
  runtime.config = std::move(config);
  const config::Config& settings = runtime.config;

  if (auto directory = backends::Directory::Make(settings, runtime.metrics)) {
    runtime.directory = std::move(*directory);
  } else {
    errors.push_back(file + ": " + directory.error());
  }

  for (std::string& error : CheckOffers(settings, file)) errors.push_back(std::move(error));
  if (auto loaded = TlsFiles::Load(settings, runtime.directory.get(), prepared.key_log, file)) {
    prepared.tls_files = std::move(*loaded);
  } else {
    errors.insert(errors.end(), loaded.error().begin(), loaded.error().end());
  }

  for (const config::Authority& authority : settings.authorities) {
    auto loaded = auth::LoadAuthority(authority, settings, runtime.directory.get(),
                                      prepared.key_log, runtime.metrics);
    if (loaded) {
      runtime.authorities.push_back(std::move(*loaded));
    } else {
      errors.insert(errors.end(), loaded.error().begin(), loaded.error().end());
    }
  }
  if (!errors.empty()) return tl::unexpected(std::move(errors));

  runtime.routes = std::make_unique<backends::Routes>(settings);
  RenewRoutes(*prepared.tls_files, settings.routes.size(), *runtime.routes);
  runtime.protocol_series.resize(static_cast<size_t>(protocols::Protocol::kCount));
  for (const config::Listener& listener : settings.listeners) {
    auto made =
        std::make_unique<ListenerRuntime>(listener, runtime.listeners.size(), runtime.metrics);
    made->pool = runtime.directory->Find(listener.pool, made->protocol);
    made->only_backend_decides =
        std::all_of(settings.authorities.begin(), settings.authorities.end(),
                    [&](const config::Authority& authority) {
                      return authority.kind == config::AuthorityKind::kBackend ||
                             !config::MayDecide(authority, listener);
                    });
    if (listener.inbound_pool) {
      made->inbound_pool = runtime.directory->Find(*listener.inbound_pool, made->protocol);
      made->local_domains =
          std::make_shared<const std::vector<std::string>>(listener.local_domains);
    }
    if (listener.client_certificate_user != config::CertificateUser::kNone) {
      made->certificate_users = std::make_unique<auth::CertificateUsers>(
          listener.client_certificate_user, prepared.tls_files->certificate_map(made->index));
    }
    made->idle_timeout = IdleTimeout(settings.idle_timeouts, made->protocol);
    auto& series = runtime.protocol_series[static_cast<size_t>(made->protocol)];
    if (!series) {
      series = std::make_unique<ProtocolSeries>(made->protocol, runtime.metrics);
    }
    made->series = series.get();
    runtime.listeners.push_back(std::move(made));
  }
  return prepared;
}

// ---- serving
// -------------------------------------------------------------------------------------

namespace {

// Server is the running process: what Serve keeps on the main thread.
class Server {
 public:
  explicit Server(Prepared prepared)
      : runtime_(std::move(prepared.runtime)),
        ticket_keys_(prepared.tls_files->ticket_keys_to_rotate()),
        key_log_(std::move(prepared.key_log)),
        tls_files_(std::move(prepared.tls_files)) {}

  int Run();

 private:
  bool Bind();
  bool Prepare();
  void RegisterMetrics();
  void LogStart(const ListenerContexts& contexts) const;
  void RegisterMemberMetrics();
  void OnSignal(int number);
  void Housekeep();
  void TellManager();
  [[nodiscard]] std::string Healthy() const;
  [[nodiscard]] std::string Ready() const;
  [[nodiscard]] uint32_t WorkerCount() const;
  [[nodiscard]] uint64_t OwnDescriptors() const;

  std::unique_ptr<Runtime> runtime_;
  const std::shared_ptr<tls::TicketKeys> ticket_keys_;
  const std::shared_ptr<const tls::KeyLog> key_log_;
  std::unique_ptr<TlsFiles> tls_files_;               // until the watch has them
  uint64_t descriptors_ = 0;                          // that the process may have
  std::vector<std::vector<Worker::Socket>> sockets_;  // by worker
  std::vector<std::unique_ptr<Worker>> workers_;
  std::unique_ptr<TlsWatch> tls_watch_;
  std::unique_ptr<observe::AdminHttp> admin_;
  std::atomic<bool> started_{false};
  double start_time_ = UnixTime(std::chrono::system_clock::now());
  uint32_t last_sessions_ = 0;
  uint32_t peak_sessions_ = 0;
  ServiceManager manager_;
  bool announced_ = false;  // that it serves
  uint32_t told_sessions_ = UINT32_MAX;
  uv_loop_t loop_{};
  std::thread joiner_;
};

uint32_t Server::WorkerCount() const {
  const uint32_t wanted = runtime_->config.process.workers;
  return wanted != 0 ? wanted : std::max(1U, std::thread::hardware_concurrency());
}

// OwnDescriptors returns how many the process needs beside those of sessions.
uint64_t Server::OwnDescriptors() const {
  constexpr uint64_t kProcess = 64;  // the log, scrapes, names, a reload
  constexpr uint64_t kWorker = 16;   // the loop's, and sessions that are closing
  uint64_t sum = kProcess + kWorker * WorkerCount();
  for (const auto& sockets : sockets_) sum += sockets.size();
  for (const config::Pool& pool : runtime_->config.pools) {
    const uint64_t of_member =
        1 + uint64_t{pool.ready_connections} * WorkerCount();  // 1: the probe
    constexpr uint64_t kOfName = 8;                            // members that a name may well have
    for (const config::PoolMember& member : pool.members) {
      sum += of_member * (member.kind == config::MemberKind::kHost ? 1 : kOfName);
    }
  }
  for (const config::Authority& authority : runtime_->config.authorities) {
    const bool connects = authority.kind == config::AuthorityKind::kHttp ||
                          authority.kind == config::AuthorityKind::kLogin;
    // As many again may lie ready, or be closing.
    if (connects) sum += uint64_t{2} * authority.max_concurrent * WorkerCount();
  }
  return sum;
}

// Bind opens every listening socket, one a worker, and reports every failure.
bool Server::Bind() {
  bool good = true;
  sockets_.resize(WorkerCount());
  for (size_t i = 0; i < runtime_->listeners.size(); ++i) {
    for (const config::SocketAddress& wanted : runtime_->listeners[i]->settings.addresses) {
      const auto address = net::Address::Parse(wanted.host, wanted.port);
      if (!address) continue;  // the loader has checked it
      // SO_REUSEPORT would let a second Gatepost of the same user share the port unnoticed: a
      // socket without it finds out whether somebody listens there already.
      auto bound = net::Bind(*address, false);
      if (bound) close(*bound);
      for (size_t worker = 0; bound && worker < sockets_.size(); ++worker) {
        bound = net::Bind(*address, true);
        if (bound) sockets_[worker].push_back({i, *bound});
      }
      if (!bound) {
        std::fprintf(stderr, "gatepost: listener \"%s\": %s\n",
                     runtime_->listeners[i]->settings.name.c_str(), bound.error().c_str());
        good = false;
      }
    }
  }
  return good;
}

bool Server::Prepare() {
  const config::Config& settings = runtime_->config;
  if (settings.process.user) {
    if (const auto become = BecomeUser(*settings.process.user); !become) {
      std::fprintf(stderr, "gatepost: %s\n", become.error().c_str());
      return false;
    }
    ForbidCoreDumps();  // changing ids switched dumps on again
  }
  try {
    runtime_->log = std::make_unique<observe::Log>(settings.log);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "gatepost: log.file: %s\n", error.what());
    return false;
  }
  const uint64_t own = OwnDescriptors();
  constexpr uint64_t kSession = 2;  // the client's and the backend's
  const auto possible = static_cast<uint32_t>(
      std::min<uint64_t>(descriptors_ > own ? (descriptors_ - own) / kSession : 1, UINT32_MAX));
  const uint32_t wanted = settings.limits.max_connections;
  const uint32_t limit = wanted == 0 ? possible : std::min(wanted, possible);
  runtime_->limits =
      std::make_unique<net::ConnectionLimits>(limit, settings.limits.max_connections_per_address);
  runtime_->failure_filter = std::make_unique<session::FailureFilter>(
      static_cast<uint64_t>(settings.log.failed_handshake_interval.count()));
  runtime_->throttle = std::make_unique<auth::Throttle>(settings.throttle);
  runtime_->log->Write(wanted > possible ? Level::kWarning : Level::kInfo, "limits",
                       {{"descriptors", descriptors_},
                        {"sessions", limit},
                        {"wanted", wanted},
                        {"per_address", settings.limits.max_connections_per_address}});
  return true;
}

void Server::RegisterMetrics() {
  observe::Metrics& metrics = runtime_->metrics;
  for (uint32_t i = 0; i < WorkerCount(); ++i) {
    runtime_->loop_lag.push_back(metrics.Histogram(Metric::kEventLoopLag, {std::to_string(i)}));
  }
  using Samples = std::vector<observe::Metrics::Sample>;
  const auto one = [&](Metric metric, auto read) {
    metrics.AtScrape(metric, [read] { return Samples{{{}, read()}}; });
  };
  Runtime& runtime = *runtime_;
  for (size_t i = 0; i < runtime.throttled.size(); ++i) {
    runtime.throttled[i] =
        metrics.Counter(Metric::kThrottled, {Name(static_cast<auth::Throttle::Scope>(i))});
  }
  metrics.AtScrape(Metric::kBansActive, [&runtime] {
    Samples samples;
    for (size_t i = 0; i < runtime.throttled.size(); ++i) {
      const auto scope = static_cast<auth::Throttle::Scope>(i);
      samples.push_back(
          {{std::string(Name(scope))},
           static_cast<double>(runtime.throttle->Refusing(scope, uv_hrtime() / 1'000'000))});
    }
    return samples;
  });
  one(Metric::kDraining, [&runtime] { return runtime.draining.load() ? 1.0 : 0.0; });
  one(Metric::kSessionLimit,
      [&runtime] { return static_cast<double>(runtime.limits->max_total()); });
  one(Metric::kLogLinesDropped, [&runtime] { return static_cast<double>(runtime.log->dropped()); });
  one(Metric::kProcessCpu, CpuSeconds);
  one(Metric::kProcessResidentMemory, ResidentBytes);
  one(Metric::kProcessOpenFds, OpenDescriptors);
  one(Metric::kProcessMaxFds, [] {
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    return static_cast<double>(limit.rlim_cur);
  });
  one(Metric::kProcessStartTime, [start = start_time_] { return start; });
  metrics.AtScrape(Metric::kBuildInfo, [] {
    return Samples{
        {{GATEPOST_VERSION, tls::LibraryVersion(), uv_version_string(), __VERSION__}, 1}};
  });
  // `series` is held: a temporary in a range's expression would die before the first round.
  metrics.AtScrape(Metric::kCertificateNotAfter, [this] {
    Samples samples;
    const auto series = tls_watch_->series();
    for (const TlsFiles::Expiry& expiry : series->expiries) {
      samples.push_back({{expiry.certificate, expiry.name}, UnixTime(expiry.not_after)});
    }
    return samples;
  });
  metrics.AtScrape(Metric::kCertificateReloads, [this] {
    Samples samples;
    const auto series = tls_watch_->series();
    for (const TlsFiles::Status& status : series->statuses) {
      samples.push_back({{status.part, "ok"}, static_cast<double>(status.taken)});
      samples.push_back({{status.part, "failed"}, static_cast<double>(status.failed)});
    }
    return samples;
  });
  metrics.AtScrape(Metric::kCertificateLastSuccess, [this] {
    Samples samples;
    const auto series = tls_watch_->series();
    for (const TlsFiles::Status& status : series->statuses) {
      samples.push_back({{status.part}, UnixTime(status.last_success)});
    }
    return samples;
  });
  metrics.AtScrape(Metric::kAuthorityUp, [&runtime] {
    Samples samples;
    for (const auto& authority : runtime.authorities) {
      samples.push_back({{authority->settings.name}, authority->up.load() ? 1.0 : 0.0});
    }
    return samples;
  });
  metrics.AtScrape(Metric::kBackendForwardingTrusted, [&runtime] {
    static constexpr std::array<std::string_view, static_cast<size_t>(protocols::Protocol::kCount)>
        kMethods = {"imap-id", "pop3-xclient", "smtp-xclient"};
    Samples samples;
    for (const auto& pool : runtime.directory->pools()) {
      for (const auto& [member, given] : pool->Trust()) {
        samples.push_back({{pool->settings().name, member,
                            std::string(kMethods[static_cast<size_t>(pool->protocol())])},
                           given ? 1.0 : 0.0});
      }
    }
    return samples;
  });
  RegisterMemberMetrics();
  metrics.AtScrape(Metric::kBackendCapabilitiesKnown, [&runtime] {
    Samples samples;
    for (const auto& pool : runtime.directory->pools()) {
      samples.push_back({{pool->settings().name, std::string(protocols::Name(pool->protocol()))},
                         pool->capabilities() ? 1.0 : 0.0});
    }
    return samples;
  });
}

// The series of the pools' members.
void Server::RegisterMemberMetrics() {
  observe::Metrics& metrics = runtime_->metrics;
  using Samples = std::vector<observe::Metrics::Sample>;
  const backends::Directory& directory = *runtime_->directory;
  const auto each = [&](Metric metric, auto read) {
    metrics.AtScrape(metric, [&directory, read] {
      Samples samples;
      for (const auto& pool : directory.pools()) {
        const auto roster = pool->roster();  // held while it is read
        for (const auto& member : *roster) {
          samples.push_back({{pool->settings().name, std::string(protocols::Name(pool->protocol())),
                              member->name()},
                             read(*member)});
        }
      }
      return samples;
    });
  };
  each(Metric::kBackendUp,
       [](const backends::Member& member) { return member.health().usable() ? 1.0 : 0.0; });
  each(Metric::kBackendHealthTransitions, [](const backends::Member& member) {
    return static_cast<double>(member.health().transitions());
  });
  // A pool that serves several protocols has its members once for each.
  metrics.AtScrape(Metric::kBackendSessionsActive, [&directory] {
    std::map<std::pair<std::string, std::string>, double> sums;
    for (const auto& pool : directory.pools()) {
      const auto roster = pool->roster();
      for (const auto& member : *roster) {
        sums[{pool->settings().name, member->name()}] += member->sessions();
      }
    }
    Samples samples;
    for (const auto& [labels, sum] : sums) {
      samples.push_back({{labels.first, labels.second}, sum});
    }
    return samples;
  });
}

std::string Server::Healthy() const {
  const uint64_t now = uv_hrtime();
  for (size_t i = 0; i < workers_.size(); ++i) {
    const uint64_t seen = workers_[i]->heartbeat();
    if (now > seen && now - seen > kStuckNs && !runtime_->draining.load()) {
      return "worker " + std::to_string(i) + " does not respond";
    }
  }
  return {};
}

std::string Server::Ready() const {
  if (!started_.load()) return "starting";
  if (runtime_->draining.load()) return "draining";
  // Clients that come before a pool is known are shown less than it can do; a silent backend must
  // not hold up the others for long.
  const bool patient = UnixTime(std::chrono::system_clock::now()) - start_time_ < kProbePatienceS;
  for (const auto& pool : runtime_->directory->pools()) {
    if (patient && !pool->probed())
      return "asking pool " + pool->settings().name + " what it can do";
  }
  return Healthy();
}

int Server::Run() {
  ForbidCoreDumps();
  signal(SIGPIPE, SIG_IGN);
  descriptors_ = RaiseDescriptorLimit();
  if (!Bind() || !Prepare()) return 1;
  RegisterMetrics();
  const config::Config& settings = runtime_->config;
  const ListenerContexts contexts = tls_files_->contexts();
  for (uint32_t i = 0; i < WorkerCount(); ++i) {
    workers_.push_back(std::make_unique<Worker>(*runtime_, i, sockets_[i], contexts,
                                                tls_files_->backend_contexts()));
  }
  runtime_->renew_roster = [this](const backends::Pool& pool) {
    for (const auto& worker : workers_) worker->UseRoster(pool);
  };
  for (const TlsFiles::Status& status : tls_files_->statuses()) {
    if (status.problem.empty()) continue;
    runtime_->log->Write(Level::kError, "certificate",
                         {{"result", "failed"}, {"file", status.part}, {"detail", status.problem}});
  }
  tls_watch_ =
      std::make_unique<TlsWatch>(std::move(tls_files_), settings.process.file_poll_interval,
                                 *runtime_->log, [this, &settings](const TlsFiles& files) {
                                   for (const auto& listener : runtime_->listeners) {
                                     if (auto map = files.certificate_map(listener->index)) {
                                       listener->certificate_users->Renew(std::move(map));
                                     }
                                   }
                                   RenewRoutes(files, settings.routes.size(), *runtime_->routes);
                                   for (const auto& worker : workers_) {
                                     worker->Offer(files.contexts());
                                     worker->SpeakTo(files.backend_contexts());
                                   }
                                 });
  if (settings.admin.address) {
    auto admin = observe::AdminHttp::Start(
        *settings.admin.address, runtime_->metrics, [this] { return Healthy(); },
        [this] { return Ready(); });
    if (!admin) {
      std::fprintf(stderr, "gatepost: %s\n", admin.error().c_str());
      return 1;
    }
    admin_ = std::move(*admin);
  }
  // Before anybody is told that we are ready: a signal that came earlier would end the process.
  uv_loop_init(&loop_);
  uv_signal_t signals[3];
  const int numbers[3] = {SIGTERM, SIGINT, SIGHUP};
  for (int i = 0; i < 3; ++i) {
    uv_signal_init(&loop_, &signals[i]);
    signals[i].data = this;
    uv_signal_start(
        &signals[i],
        [](uv_signal_t* handle, int number) {
          static_cast<Server*>(handle->data)->OnSignal(number);
        },
        numbers[i]);
  }
  uv_timer_t housekeeping;
  uv_timer_init(&loop_, &housekeeping);
  housekeeping.data = this;
  uv_timer_start(
      &housekeeping, [](uv_timer_t* timer) { static_cast<Server*>(timer->data)->Housekeep(); },
      kFirstHousekeepingMs, kHousekeepingMs);
  uv_async_t ended;
  uv_async_init(&loop_, &ended, [](uv_async_t* async) { uv_stop(async->loop); });
  // They are blocked in every other thread.
  for (const auto& worker : workers_) worker->Start();
  joiner_ = std::thread([this, &ended] {
    for (const auto& worker : workers_) worker->Join();
    uv_async_send(&ended);
  });
  started_.store(true);
  LogStart(contexts);
  uv_run(&loop_, UV_RUN_DEFAULT);
  joiner_.join();

  for (uv_signal_t& handle : signals) {
    uv_close(reinterpret_cast<uv_handle_t*>(&handle), nullptr);
  }
  uv_close(reinterpret_cast<uv_handle_t*>(&housekeeping), nullptr);
  uv_close(reinterpret_cast<uv_handle_t*>(&ended), nullptr);
  uv_run(&loop_, UV_RUN_DEFAULT);
  uv_loop_close(&loop_);
  admin_.reset();
  tls_watch_.reset();
  runtime_->log->Write(Level::kInfo, "stop", {});
  workers_.clear();
  return 0;
}

// LogStart says what runs, and what an operator should know to be dangerous.
void Server::LogStart(const ListenerContexts& contexts) const {
  const config::Config& settings = runtime_->config;
  runtime_->log->Write(Level::kInfo, "start",
                       {{"version", GATEPOST_VERSION},
                        {"tls_library", tls::LibraryVersion()},
                        {"workers", WorkerCount()},
                        {"hostname", settings.hostname}});
  for (const auto& pool : settings.pools) {
    for (const auto* file : {&pool.master_password_file, &pool.account_password_file}) {
      if (!PasswordExposed(*file)) continue;
      runtime_->log->Write(
          Level::kWarning, "exposed_password",
          {{"file", (*file)->string()}, {"detail", "every user of this machine can read it"}});
    }
  }
  if (key_log_) {
    runtime_->log->Write(
        Level::kWarning, "tls_keylog",
        {{"file", key_log_->file().string()},
         {"detail",
          "THE SECRETS OF ALL TLS CONNECTIONS ARE WRITTEN TO THIS FILE: whoever "
          "has it can read every password and every message; for debugging alone"}});
  }
  for (const auto& listener : runtime_->listeners) {
    const uint16_t minimum = contexts[listener->index]->offer().minimum_version;
    if (minimum < kTls12) {
      runtime_->log->Write(Level::kWarning, "legacy_tls",
                           {{"listener", listener->settings.name},
                            {"minimum_version", tls::VersionText(minimum)},
                            {"detail", "TLS below 1.2 is broken: for old devices alone"}});
    }
    for (const config::SocketAddress& address : listener->settings.addresses) {
      runtime_->log->Write(
          Level::kInfo, "listening",
          {{"listener", listener->settings.name},
           {"protocol", protocols::Name(listener->protocol)},
           {"address", net::Address::Parse(address.host, address.port)->Text()},
           {"tls",
            listener->settings.tls == config::ListenerTls::kImplicit ? "implicit" : "starttls"},
           {"cleartext_login", listener->settings.cleartext_login == config::CleartextLogin::kAllow
                                   ? "allow"
                                   : "deny"},
           {"pool", listener->settings.pool}});
    }
  }

  for (const auto& pool : runtime_->directory->pools()) {
    const config::Pool& settings_of = pool->settings();
    const uint16_t minimum = backends::MinimumVersion(settings_of);
    if (settings_of.tls == config::BackendTls::kNone || minimum >= kTls12) continue;
    runtime_->log->Write(Level::kWarning, "legacy_tls",
                         {{"pool", settings_of.name},
                          {"minimum_version", tls::VersionText(minimum)},
                          {"detail", "TLS below 1.2 is broken: for old backends alone"}});
  }
}

void Server::OnSignal(int number) {
  if (number == SIGHUP) return tls_watch_->ReloadAll();
  // The second request is meant: no more waiting.
  if (runtime_->draining.exchange(true)) std::_Exit(128 + number);
  const auto deadline = static_cast<uint64_t>(runtime_->config.process.drain_timeout.count());
  runtime_->log->Write(
      Level::kInfo, "drain",
      {{"signal", number == SIGTERM ? "SIGTERM" : "SIGINT"}, {"timeout_ms", deadline}});
  for (const auto& worker : workers_) worker->Drain(deadline / 2, deadline);
  manager_.Stopping(runtime_->config.process.drain_timeout + kExitMargin);
  told_sessions_ = UINT32_MAX;
}

// TellManager says when clients are served, that the loops run, and how many clients there are.
void Server::TellManager() {
  if (!announced_ && Ready().empty()) {
    announced_ = true;
    manager_.Ready();
  }
  if (Healthy().empty()) manager_.Alive();
  const uint32_t sessions = runtime_->limits->total();
  if (sessions == told_sessions_) return;
  told_sessions_ = sessions;
  manager_.Status(fmt::format("{} clients{}", sessions,
                              runtime_->draining.load() ? " left, shutting down" : ""));
}

// Housekeep changes ticket keys when it is time, and gives memory back after many sessions have
// left; the allocator alone would keep it.
void Server::Housekeep() {
  if (ticket_keys_->RotateIfDue()) runtime_->log->Write(Level::kInfo, "ticket_keys_changed", {});
  TellManager();
  const uint32_t sessions = runtime_->limits->total();
  const bool leaving = sessions < last_sessions_;
  last_sessions_ = sessions;
  peak_sessions_ = std::max(peak_sessions_, sessions);
  if (leaving || peak_sessions_ - sessions < kTrimSessions + sessions / 4) return;
  malloc_trim(0);
  peak_sessions_ = sessions;
}

}  // namespace

int Serve(Prepared prepared) {
  return Server(std::move(prepared)).Run();
}

}  // namespace gatepost
