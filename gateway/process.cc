// SPDX-License-Identifier: Apache-2.0
#include "gateway/process.h"

#include <fmt/format.h>
#include <malloc.h>
#include <uv.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "gateway/auth/redis_courier.h"
#include "gateway/control/running_gateway.h"
#include "gateway/control/server.h"
#include "gateway/generation.h"
#include "gateway/listening_sockets.h"
#include "gateway/observe/admin_http.h"
#include "gateway/privileges.h"
#include "gateway/process_metrics.h"
#include "gateway/service_manager.h"
#include "gateway/successor.h"

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
constexpr size_t kMostProblems = 20;  // lines in the log of one reload

double UnixNow() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// RestartKeys returns what a reload can't change, of what differs.
std::string RestartKeys(const config::Config& now, const config::Config& next) {
  std::string keys;
  const auto differs = [&keys](bool same, std::string_view key) {
    if (!same) keys += (keys.empty() ? "" : ", ") + std::string(key);
  };
  differs(now.process.user == next.process.user, "process.user");
  differs(now.admin.address == next.admin.address, "admin.address");
  differs(now.admin.socket == next.admin.socket, "admin.socket");
  differs(now.admin.socket_mode == next.admin.socket_mode, "admin.socket_mode");
  return keys;
}

// Server is the running process: what Serve keeps on the main thread.
class Server final : private Successor::Observer {
 public:
  Server(Prepared prepared, std::vector<std::string> arguments)
      : file_(prepared.file),
        arguments_(std::move(arguments)),
        key_log_(prepared.key_log),
        first_(std::move(prepared)) {}

  int Run();

 private:
  // A reload under way: what a thread of libuv's reads, while the workers go on.
  struct Reading {
    uv_work_t work{};
    Server* server = nullptr;
    std::shared_ptr<const Generation> past;
    bool unchanged = false;
    tl::expected<Prepared, std::vector<std::string>> result =
        tl::unexpected(std::vector<std::string>());
    uint64_t began_ns = 0;
  };

  bool BecomeServer(Runtime& runtime);
  void Equip(Runtime& runtime, const Runtime* past);
  void RegisterMetrics(observe::Metrics& metrics);
  [[nodiscard]] std::unique_ptr<control::RunningGateway> MakeGateway();
  [[nodiscard]] bool StartControl(bool take_over);
  void EndControl();
  void LogStart(const Generation& generation) const;
  void OnSignal(int number);
  void BeginDrain(std::string_view cause);
  void Drain();
  [[nodiscard]] bool StartAdmin();
  void BeginUpgrade();
  void OnSuccessor(bool serves) override;
  void BeginReload();
  void EndReload(Reading& reading);
  tl::expected<void, std::vector<std::string>> Adopt(Prepared prepared);
  void Start(std::shared_ptr<Generation> generation);
  void ReapGenerations();
  void Housekeep();
  void TellManager();
  [[nodiscard]] std::string Healthy() const;
  [[nodiscard]] std::string Ready() const;
  [[nodiscard]] uint64_t OwnDescriptors(const config::Config& config) const;
  [[nodiscard]] Generations Snapshot() const;
  // The one that takes new clients.
  [[nodiscard]] Generation& newest() const { return *generations_.back(); }
  [[nodiscard]] observe::Log& log() const { return *newest().runtime().log; }

  const std::string file_;
  const std::vector<std::string> arguments_;
  Inheritance inheritance_ = Inheritance::Take();
  const std::shared_ptr<const tls::KeyLog> key_log_;
  Prepared first_;
  uint64_t descriptors_ = 0;  // that the process may have
  ListeningSockets sockets_;
  mutable std::mutex mutex_;  // guards this one against other threads than the main one
  std::vector<std::shared_ptr<Generation>> generations_;
  std::unique_ptr<control::RunningGateway> gateway_;
  std::unique_ptr<control::Server> control_;
  std::unique_ptr<observe::AdminHttp> admin_;
  std::atomic<bool> started_{false};
  std::atomic<bool> draining_{false};
  std::atomic<uint64_t> drain_deadline_ns_{0};
  std::unique_ptr<Successor> successor_;  // on its way, or serving
  bool succeeded_ = false;                // it serves
  bool reloading_ = false;
  bool reload_wanted_ = false;  // once more, after the one under way
  std::atomic<uint64_t> reloads_ok_{0};
  std::atomic<uint64_t> reloads_failed_{0};
  std::atomic<bool> last_reload_ok_{true};
  std::atomic<double> last_reload_time_;
  const double start_time_ = UnixNow();
  uint32_t last_sessions_ = 0;
  uint32_t peak_sessions_ = 0;
  ServiceManager manager_;
  bool announced_ = false;     // that it serves
  bool told_to_stop_ = false;  // by a signal
  uint32_t told_sessions_ = UINT32_MAX;
  uv_loop_t loop_{};
  uv_async_t ended_{};  // a generation has
  uv_timer_t drain_timer_{};
};

Generations Server::Snapshot() const {
  const std::lock_guard lock(mutex_);
  return {generations_.begin(), generations_.end()};
}

// OwnDescriptors returns how many the process needs beside those of sessions.
uint64_t Server::OwnDescriptors(const config::Config& config) const {
  constexpr uint64_t kProcess = 64;  // the log, scrapes, names, a reload
  constexpr uint64_t kWorker = 16;   // the loop's, and sessions that are closing
  const uint64_t workers = WorkerCount(config);
  uint64_t sum = kProcess + kWorker * workers + 2 * sockets_.size();
  for (const config::Pool& pool : config.pools) {
    const uint64_t of_member = 1 + uint64_t{pool.ready_connections} * workers;  // 1: the probe
    constexpr uint64_t kOfName = 8;  // members that a name may well have
    for (const config::PoolMember& member : pool.members) {
      sum += of_member * (member.kind == config::MemberKind::kHost ? 1 : kOfName);
    }
  }
  for (const config::Authority& authority : config.authorities) {
    const bool connects = authority.kind == config::AuthorityKind::kHttp ||
                          authority.kind == config::AuthorityKind::kLogin;
    // As many again may lie ready, or be closing.
    if (connects) sum += uint64_t{2} * authority.max_concurrent * workers;
    if (authority.kind == config::AuthorityKind::kDovecot) sum += uint64_t{2} * workers;
  }
  return sum;
}

// BecomeServer gives up root and opens the log.
bool Server::BecomeServer(Runtime& runtime) {
  const config::Config& settings = runtime.config;
  if (settings.process.user) {
    if (const auto become = BecomeUser(*settings.process.user); !become) {
      std::fprintf(stderr, "gatepost: %s\n", become.error().c_str());
      return false;
    }
    ForbidCoreDumps();  // changing ids switched dumps on again
  }
  try {
    Equip(runtime, nullptr);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "gatepost: log.file: %s\n", error.what());
    return false;
  }
  return true;
}

// Equip gives a Runtime what the one before had, where the settings are the same, or its own.
// Throws std::system_error when the log can't be opened.
void Server::Equip(Runtime& runtime, const Runtime* past) {
  const config::Config& settings = runtime.config;
  const bool same_log = past != nullptr && past->config.log == settings.log;
  runtime.log = same_log ? past->log : std::make_shared<observe::Log>(settings.log);
  const uint64_t own = OwnDescriptors(settings);
  constexpr uint64_t kSession = 2;  // the client's and the backend's
  const auto possible = static_cast<uint32_t>(
      std::min<uint64_t>(descriptors_ > own ? (descriptors_ - own) / kSession : 1, UINT32_MAX));
  const uint32_t wanted = settings.limits.max_connections;
  const uint32_t limit = wanted == 0 ? possible : std::min(wanted, possible);
  const uint32_t per_address = settings.limits.max_connections_per_address;
  if (past != nullptr) {
    runtime.limits = past->limits;
    runtime.limits->Set(limit, per_address);
    runtime.user_sessions = past->user_sessions;
  } else {
    runtime.limits = std::make_shared<net::ConnectionLimits>(limit, per_address);
    runtime.user_sessions = std::make_shared<ShardedCounts<std::string>>();
  }
  const auto interval = settings.log.failed_handshake_interval;
  runtime.failure_filter =
      past != nullptr && past->config.log.failed_handshake_interval == interval
          ? past->failure_filter
          : std::make_shared<session::FailureFilter>(static_cast<uint64_t>(interval.count()));
  const auto same = [](const sasl::Secret& a, const sasl::Secret& b) {
    return a.Reveal() == b.Reveal();
  };
  if (past != nullptr && past->config.throttle == settings.throttle &&
      same(past->throttle_key, runtime.throttle_key) &&
      same(past->redis_password, runtime.redis_password)) {
    runtime.throttle = past->throttle;
  } else {
    runtime.throttle = std::make_shared<auth::Throttle>(settings.throttle, runtime.throttle_key);
    if (settings.throttle.redis) {
      runtime.throttle->Use(std::make_unique<auth::RedisCourier>(
          settings.throttle, runtime.redis_password, *runtime.throttle, runtime.log));
    }
  }
  runtime.log->Write(wanted > possible ? Level::kWarning : Level::kInfo, "limits",
                     {{"descriptors", descriptors_},
                      {"sessions", limit},
                      {"wanted", wanted},
                      {"per_address", per_address}});
}

void Server::RegisterMetrics(observe::Metrics& metrics) {
  using Samples = std::vector<observe::Metrics::Sample>;
  RegisterProcessMetrics(
      metrics, [this] { return Snapshot(); }, start_time_);
  const auto one = [&](Metric metric, auto read) {
    metrics.AtScrape(metric, [read] { return Samples{{{}, read()}}; });
  };
  one(Metric::kDraining, [this] { return draining_.load() ? 1.0 : 0.0; });
  one(Metric::kDrainRemaining, [this] {
    const uint64_t deadline = drain_deadline_ns_.load();
    const uint64_t now = uv_hrtime();
    return deadline > now ? static_cast<double>(deadline - now) / 1e9 : 0.0;
  });
  metrics.AtScrape(Metric::kConfigReloads, [this] {
    return Samples{{{"ok"}, static_cast<double>(reloads_ok_.load())},
                   {{"failed"}, static_cast<double>(reloads_failed_.load())}};
  });
  one(Metric::kConfigLastReloadOk, [this] { return last_reload_ok_.load() ? 1.0 : 0.0; });
  one(Metric::kConfigLastReloadTime, [this] { return last_reload_time_.load(); });
}

std::string Server::Healthy() const {
  if (draining_.load()) return {};
  for (const auto& generation : Snapshot()) {
    if (const auto worker = generation->Stuck(kStuckNs)) {
      return "worker " + std::to_string(*worker) + " does not respond";
    }
  }
  return {};
}

std::string Server::Ready() const {
  if (!started_.load()) return "starting";
  if (draining_.load()) return "draining";
  // Clients that come before a pool is known are shown less than it can do; a silent backend must
  // not hold up the others for long.
  const bool patient = UnixNow() - start_time_ < kProbePatienceS;
  const auto generation = Snapshot().back();
  for (const auto& pool : generation->runtime().directory->pools()) {
    if (patient && !pool->probed())
      return "asking pool " + pool->settings().name + " what it can do";
  }
  return Healthy();
}

int Server::Run() {
  ForbidCoreDumps();
  signal(SIGPIPE, SIG_IGN);
  descriptors_ = RaiseDescriptorLimit();
  last_reload_time_ = start_time_;
  Runtime& runtime = *first_.runtime;
  const std::vector<config::Listener>& listeners = runtime.config.listeners;
  const uint32_t workers = WorkerCount(runtime.config);
  if (const auto inherited = sockets_.Inherit(inheritance_.sockets); !inherited) {
    std::fprintf(stderr, "gatepost: %s\n", inherited.error().c_str());
    return 1;
  }
  if (const auto bound = sockets_.Bind(listeners, workers); !bound) {
    for (const std::string& problem : bound.error()) {
      std::fprintf(stderr, "gatepost: %s\n", problem.c_str());
    }
    return 1;
  }
  sockets_.Keep(listeners);
  if (!BecomeServer(runtime)) return 1;
  const auto shared = sockets_.Share(listeners, workers);
  if (!shared) {
    std::fprintf(stderr, "gatepost: %s\n", shared.error().c_str());
    return 1;
  }
  generations_.push_back(std::make_shared<Generation>(std::move(first_), 1, *shared));
  RegisterMetrics(*newest().runtime().metrics);
  const config::Config& settings = newest().runtime().config;
  if (!StartAdmin()) return 1;
  // Before anybody is told that we are ready: a signal that came earlier would end the process.
  uv_loop_init(&loop_);
  gateway_ = MakeGateway();
  if (!StartControl(inheritance_.predecessor >= 0)) {
    EndControl();
    return 1;
  }
  std::array<uv_signal_t, 4> signals;
  static constexpr std::array<int, 4> kNumbers = {SIGTERM, SIGINT, SIGHUP, SIGUSR2};
  for (size_t i = 0; i < signals.size(); ++i) {
    uv_signal_init(&loop_, &signals[i]);
    signals[i].data = this;
    uv_signal_start(
        &signals[i],
        [](uv_signal_t* handle, int number) {
          static_cast<Server*>(handle->data)->OnSignal(number);
        },
        kNumbers[i]);
  }
  uv_timer_t housekeeping;
  uv_timer_init(&loop_, &housekeeping);
  housekeeping.data = this;
  uv_timer_start(
      &housekeeping, [](uv_timer_t* timer) { static_cast<Server*>(timer->data)->Housekeep(); },
      kFirstHousekeepingMs, kHousekeepingMs);
  uv_timer_init(&loop_, &drain_timer_);
  drain_timer_.data = this;
  uv_async_init(&loop_, &ended_,
                [](uv_async_t* async) { static_cast<Server*>(async->data)->ReapGenerations(); });
  ended_.data = this;
  // Signals are blocked in the threads of workers.
  newest().Start([this] { uv_async_send(&ended_); });
  started_.store(true);
  log().Write(Level::kInfo, "start",
              {{"version", GATEPOST_VERSION},
               {"tls_library", tls::LibraryVersion()},
               {"workers", workers},
               {"hostname", settings.hostname}});
  LogStart(newest());
  inheritance_.Serves();
  uv_run(&loop_, UV_RUN_DEFAULT);

  successor_.reset();
  for (uv_signal_t& handle : signals) {
    uv_close(reinterpret_cast<uv_handle_t*>(&handle), nullptr);
  }
  uv_close(reinterpret_cast<uv_handle_t*>(&housekeeping), nullptr);
  uv_close(reinterpret_cast<uv_handle_t*>(&drain_timer_), nullptr);
  uv_close(reinterpret_cast<uv_handle_t*>(&ended_), nullptr);
  EndControl();
  uv_loop_close(&loop_);
  admin_.reset();
  log().Write(Level::kInfo, "stop", {});
  generations_.clear();
  return 0;
}

bool Server::StartAdmin() {
  const Runtime& runtime = newest().runtime();
  if (!runtime.config.admin.address) return true;
  auto admin = observe::AdminHttp::Start(
      *runtime.config.admin.address, *runtime.metrics, [this] { return Healthy(); },
      [this] { return Ready(); });
  if (!admin) {
    std::fprintf(stderr, "gatepost: %s\n", admin.error().c_str());
    return false;
  }
  admin_ = std::move(*admin);
  return true;
}

std::unique_ptr<control::RunningGateway> Server::MakeGateway() {
  return std::make_unique<control::RunningGateway>(
      &loop_, control::RunningGateway::Process{.start_time = start_time_,
                                               .generations = [this] { return Snapshot(); },
                                               .not_ready = [this] { return Ready(); },
                                               .draining = [this] { return draining_.load(); },
                                               .drain = [this] { BeginDrain("control"); }});
}

// StartControl lets the administrator ask, also in the place of a process that still answers.
bool Server::StartControl(bool take_over) {
  control_.reset();
  const config::Admin& settings = newest().runtime().config.admin;
  if (!settings.socket) return true;
  auto server = control::Server::Start(
      &loop_, settings, take_over, *gateway_, [this]() -> auto& { return log(); });
  if (!server) {
    std::fprintf(stderr, "gatepost: %s\n", server.error().c_str());
    return false;
  }
  control_ = std::move(*server);
  return true;
}

void Server::EndControl() {
  control_.reset();
  gateway_.reset();
  uv_run(&loop_, UV_RUN_DEFAULT);
}

// LogStart says what is served, and what an operator should know to be dangerous.
void Server::LogStart(const Generation& generation) const {
  const Runtime& runtime = generation.runtime();
  const config::Config& settings = runtime.config;
  for (const auto& pool : settings.pools) {
    for (const auto* file : {&pool.master_password_file, &pool.account_password_file}) {
      if (!PasswordExposed(*file)) continue;
      runtime.log->Write(
          Level::kWarning, "exposed_password",
          {{"file", (*file)->string()}, {"detail", "every user of this machine can read it"}});
    }
  }
  if (key_log_) {
    runtime.log->Write(Level::kWarning, "tls_keylog",
                       {{"file", key_log_->file().string()},
                        {"detail",
                         "THE SECRETS OF ALL TLS CONNECTIONS ARE WRITTEN TO THIS FILE: whoever "
                         "has it can read every password and every message; for debugging alone"}});
  }
  for (const auto& listener : runtime.listeners) {
    const uint16_t minimum = generation.first_offer()[listener->index]->offer().minimum_version;
    if (minimum < kTls12) {
      runtime.log->Write(Level::kWarning, "legacy_tls",
                         {{"listener", listener->settings.name},
                          {"minimum_version", tls::VersionText(minimum)},
                          {"detail", "TLS below 1.2 is broken: for old devices alone"}});
    }
    for (const config::SocketAddress& address : listener->settings.addresses) {
      runtime.log->Write(
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

  for (const auto& pool : runtime.directory->pools()) {
    const config::Pool& settings_of = pool->settings();
    const uint16_t minimum = backends::MinimumVersion(settings_of);
    if (settings_of.tls == config::BackendTls::kNone || minimum >= kTls12) continue;
    runtime.log->Write(Level::kWarning, "legacy_tls",
                       {{"pool", settings_of.name},
                        {"minimum_version", tls::VersionText(minimum)},
                        {"detail", "TLS below 1.2 is broken: for old backends alone"}});
  }
}

// ---- reloading
// -----------------------------------------------------------------------------------

void Server::BeginReload() {
  if (draining_.load() || successor_) return;
  if (reloading_) {
    reload_wanted_ = true;
    return;
  }
  reloading_ = true;
  if (announced_) manager_.Reloading();
  auto* reading = new Reading;
  reading->server = this;
  reading->work.data = reading;
  reading->past = generations_.back();
  reading->began_ns = uv_hrtime();
  uv_queue_work(
      &loop_, &reading->work,
      [](uv_work_t* work) {
        auto& own = *static_cast<Reading*>(work->data);
        const Generation& past = *own.past;
        const std::string& file = own.server->file_;
        own.unchanged = InputFiles(file, past.runtime().config) == past.inputs();
        if (own.unchanged) return;
        const Past before{past.runtime(), {past.ticket_keys(), past.tls_series()}};
        own.result = Prepare(file, own.server->key_log_, &before);
      },
      [](uv_work_t* work, int) {
        const std::unique_ptr<Reading> own(static_cast<Reading*>(work->data));
        own->server->EndReload(*own);
      });
}

void Server::EndReload(Reading& reading) {
  reloading_ = false;
  if (draining_.load()) return;
  const uint64_t duration_ms = (uv_hrtime() - reading.began_ns) / 1'000'000;
  std::vector<std::string> problems;
  std::string restart;
  if (reading.unchanged) {
    newest().ReloadFiles();
  } else if (!reading.result) {
    problems = std::move(reading.result.error());
  } else {
    restart = RestartKeys(newest().runtime().config, reading.result->runtime->config);
    if (auto adopted = Adopt(std::move(*reading.result)); !adopted) {
      problems = std::move(adopted.error());
    }
  }
  last_reload_ok_.store(problems.empty());
  if (problems.empty()) {
    reloads_ok_.fetch_add(1);
    last_reload_time_.store(UnixNow());
  } else {
    reloads_failed_.fetch_add(1);
  }
  if (problems.size() > kMostProblems) {
    const size_t more = problems.size() - kMostProblems;
    problems.resize(kMostProblems);
    problems.push_back(fmt::format("and {} more", more));
  }
  for (const std::string& problem : problems) {
    log().Write(Level::kError, "reload",
                {{"trigger", "signal"}, {"result", "failed"}, {"detail", problem}});
  }
  if (problems.empty() && !reading.unchanged) {
    log().Write(restart.empty() ? Level::kInfo : Level::kWarning, "reload",
                {{"trigger", "signal"},
                 {"result", "ok"},
                 {"generation", newest().number()},
                 {"duration_ms", duration_ms},
                 {"detail", restart.empty() ? "" : "changes only with a restart: " + restart}});
    LogStart(newest());
  }
  if (announced_) manager_.Ready();
  if (std::exchange(reload_wanted_, false)) BeginReload();
}

// Adopt makes a configuration the one that new clients meet, or leaves everything as it was and
// says why.
tl::expected<void, std::vector<std::string>> Server::Adopt(Prepared prepared) {
  Generation& past = newest();
  const std::vector<config::Listener>& before = past.runtime().config.listeners;
  Runtime& runtime = *prepared.runtime;
  const std::vector<config::Listener>& listeners = runtime.config.listeners;
  const uint32_t workers = WorkerCount(runtime.config);
  if (auto bound = sockets_.Bind(listeners, workers); !bound) return bound;
  const auto fail = [&](std::string problem) {
    sockets_.Keep(before);
    return tl::unexpected(std::vector{std::move(problem)});
  };
  auto shared = sockets_.Share(listeners, workers);
  if (!shared) return fail(std::move(shared.error()));
  try {
    Equip(runtime, &past.runtime());
  } catch (const std::exception& error) {
    ListeningSockets::Close(*shared);
    return fail(std::string("log.file: ") + error.what());
  }
  auto next = std::make_shared<Generation>(std::move(prepared), past.number() + 1, *shared);
  next->Start([this] { uv_async_send(&ended_); });
  {
    const std::lock_guard lock(mutex_);
    generations_.push_back(std::move(next));
  }
  // Both have the sockets for a moment, so that no client waits.
  past.Supersede();
  sockets_.Keep(listeners);
  return {};
}

// ReapGenerations frees those whose last session has ended.
void Server::ReapGenerations() {
  std::vector<std::shared_ptr<Generation>> ended;
  {
    const std::lock_guard lock(mutex_);
    const auto last = std::stable_partition(generations_.begin(), std::prev(generations_.end()),
                                            [](const auto& own) { return !own->ended(); });
    ended.assign(std::make_move_iterator(last),
                 std::make_move_iterator(std::prev(generations_.end())));
    generations_.erase(last, std::prev(generations_.end()));
  }
  for (const auto& generation : ended) {
    log().Write(Level::kInfo, "generation_ended", {{"generation", generation->number()}});
  }
  const bool last = draining_.load() || succeeded_;
  if (last && generations_.size() == 1 && newest().ended()) uv_stop(&loop_);
}

// ---- upgrading
// ----------------------------------------------------------------------------------

// BeginUpgrade starts the program anew beside this one. The admin address is for one of them at a
// time; this one gives it up first.
void Server::BeginUpgrade() {
  if (draining_.load() || successor_ || reloading_) {
    log().Write(Level::kWarning, "upgrade",
                {{"result", "failed"}, {"detail", "a drain, an upgrade or a reload is under way"}});
    return;
  }
  admin_.reset();
  auto started = Successor::Start(&loop_, arguments_, sockets_.descriptors(), *this);
  if (started) {
    successor_ = std::move(*started);
    return;
  }
  log().Write(Level::kError, "upgrade", {{"result", "failed"}, {"detail", started.error()}});
  (void)StartAdmin();
}

void Server::OnSuccessor(bool serves) {
  if (!serves) {
    log().Write(Level::kError, "upgrade",
                {{"result", "failed"},
                 {"program", arguments_.front()},
                 {"detail", "it ended before it served; what it said is on standard error"}});
    successor_.reset();
    (void)StartAdmin();
    (void)StartControl(true);  // it may have had the place already
    return;
  }
  succeeded_ = true;
  log().Write(Level::kInfo, "upgrade",
              {{"result", "ok"},
               {"process", static_cast<int64_t>(successor_->pid())},
               {"sessions", newest().runtime().limits->total()}});
  manager_.HandOver(successor_->pid());
  newest().Supersede();
  sockets_.Keep({});
}

// ---- ending
// --------------------------------------------------------------------------------------

void Server::OnSignal(int number) {
  if (number == SIGHUP) return BeginReload();
  if (number == SIGUSR2) return BeginUpgrade();
  // The second one is meant: no more waiting.
  if (std::exchange(told_to_stop_, true)) std::_Exit(128 + number);
  BeginDrain(number == SIGTERM ? "SIGTERM" : "SIGINT");
}

// BeginDrain has load balancers send nobody any more; those who come all the same are served for
// the grace.
void Server::BeginDrain(std::string_view cause) {
  if (draining_.exchange(true)) return;
  if (successor_ && !succeeded_) successor_->Kill();
  const config::Process& settings = newest().runtime().config.process;
  const auto whole = settings.drain_grace + settings.drain_timeout;
  drain_deadline_ns_.store(uv_hrtime() + static_cast<uint64_t>(whole.count()) * 1'000'000);
  log().Write(Level::kInfo, "drain",
              {{"signal", cause},
               {"grace_ms", static_cast<uint64_t>(settings.drain_grace.count())},
               {"timeout_ms", static_cast<uint64_t>(settings.drain_timeout.count())}});
  manager_.Stopping(whole + kExitMargin);
  told_sessions_ = UINT32_MAX;
  uv_timer_start(
      &drain_timer_, [](uv_timer_t* timer) { static_cast<Server*>(timer->data)->Drain(); },
      static_cast<uint64_t>(settings.drain_grace.count()), 0);
}

void Server::Drain() {
  const auto deadline =
      static_cast<uint64_t>(newest().runtime().config.process.drain_timeout.count());
  sockets_.Keep({});
  for (const auto& generation : generations_) generation->Drain(deadline / 2, deadline);
}

// TellManager says when clients are served, that the loops run, and how many clients there are.
void Server::TellManager() {
  if (!announced_ && Ready().empty()) {
    announced_ = true;
    manager_.Ready();
  }
  if (Healthy().empty()) manager_.Alive();
  const uint32_t sessions = newest().runtime().limits->total();
  if (sessions == told_sessions_) return;
  told_sessions_ = sessions;
  manager_.Status(
      fmt::format("{} clients{}", sessions, draining_.load() ? " left, shutting down" : ""));
}

// Housekeep changes ticket keys when it is time, and gives memory back after many sessions have
// left; the allocator alone would keep it.
void Server::Housekeep() {
  if (newest().ticket_keys()->RotateIfDue()) log().Write(Level::kInfo, "ticket_keys_changed", {});
  TellManager();
  const uint32_t sessions = newest().runtime().limits->total();
  const bool leaving = sessions < last_sessions_;
  last_sessions_ = sessions;
  peak_sessions_ = std::max(peak_sessions_, sessions);
  if (leaving || peak_sessions_ - sessions < kTrimSessions + sessions / 4) return;
  malloc_trim(0);
  peak_sessions_ = sessions;
}

}  // namespace

int Serve(Prepared prepared, std::vector<std::string> arguments) {
  return Server(std::move(prepared), std::move(arguments)).Run();
}

}  // namespace gatepost
