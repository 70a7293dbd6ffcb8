// SPDX-License-Identifier: Apache-2.0
#include "gateway/server.h"

#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <utility>

#include "config/values.h"
#include "gateway/auth/redis_courier.h"
#include "gateway/control/documents.h"
#include "gateway/privileges.h"

namespace gatepost {
namespace {

using observe::Level;
using observe::Metric;

constexpr uint64_t kStuckNs = 10'000'000'000;  // a loop silent for so long is not healthy
constexpr uint64_t kHousekeepingMs = 1'000;
constexpr uint64_t kFirstHousekeepingMs = 50;  // soon: who has started us waits
constexpr uint64_t kAdminRetryMs = 20;
constexpr uint32_t kTrimSessions = 100;
constexpr double kProbePatienceS = 5;
constexpr uint16_t kTls12 = 0x0303;
constexpr std::chrono::milliseconds kLastPatience{2'000};  // with lookups, and Redis, at the end

}  // namespace

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
    constexpr uint64_t kOfName = 8;   // members that a name may well have
    constexpr uint64_t kServers = 3;  // name servers that it may be asked of (resolv.conf(5))
    for (const config::PoolMember& member : pool.members) {
      const bool named = member.kind != config::MemberKind::kHost;
      sum += named ? of_member * kOfName + kServers : of_member;
    }
  }
  for (const config::Authority& authority : config.authorities) {
    const bool connects = authority.kind == config::AuthorityKind::kHttp ||
                          authority.kind == config::AuthorityKind::kLogin;
    // As many again may lie ready, or be closing.
    if (connects) sum += uint64_t{2} * authority.max_concurrent * workers;
    if (authority.kind == config::AuthorityKind::kDovecot) sum += uint64_t{2} * workers;
  }
  if (!config.policy.urls.empty()) {
    const uint64_t clients = config.policy.report ? 2 : 1;  // one asks, one tells; each as above
    sum += clients * 2 * config.policy.max_concurrent * workers;
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
    runtime.failed_logins = past->failed_logins;
  } else {
    runtime.limits = std::make_shared<net::ConnectionLimits>(limit, per_address);
    runtime.user_sessions = std::make_shared<ShardedCounts<std::string>>();
    runtime.failed_logins = std::make_shared<observe::FailedLogins>();
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
  one(Metric::kDrainRemaining, [this] { return DrainRemaining(); });
  metrics.AtScrape(Metric::kConfigReloads, [this] {
    return Samples{{{"ok"}, static_cast<double>(reloads_ok_.load())},
                   {{"failed"}, static_cast<double>(reloads_failed_.load())}};
  });
  one(Metric::kConfigLastReloadOk, [this] { return last_reload_ok_.load() ? 1.0 : 0.0; });
  one(Metric::kConfigLastReloadTime, [this] { return last_reload_time_.load(); });
}

// DrainRemaining returns the seconds that sessions have left.
double Server::DrainRemaining() const {
  const uint64_t deadline = drain_deadline_ns_.load();
  const uint64_t now = uv_hrtime();
  return deadline > now ? static_cast<double>(deadline - now) / 1e9 : 0.0;
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
  generations_.push_back(MakeGeneration(std::move(first_), 1, *shared));
  RegisterMetrics(*newest().runtime().metrics);
  const config::Config& settings = newest().runtime().config;
  const bool succeeds = inheritance_.predecessor >= 0;
  uv_loop_init(&loop_);
  gateway_ = MakeGateway();
  bool good = StartControl(succeeds);
  if (good && !succeeds) {
    const auto admin = StartAdmin();
    if (!admin) std::fprintf(stderr, "gatepost: %s\n", admin.error().c_str());
    good = admin.has_value();
  }
  if (!good) {
    EndControl();
    return Leave(1);
  }
  // Before anybody is told that we are ready: a signal that came earlier would end the process.
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
  uv_timer_init(&loop_, &admin_timer_);
  admin_timer_.data = this;
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
  if (succeeds) AwaitAdmin();
  uv_run(&loop_, UV_RUN_DEFAULT);

  newest().Join();  // it tells us of its end no more
  successor_.reset();
  for (uv_signal_t& handle : signals) {
    uv_close(reinterpret_cast<uv_handle_t*>(&handle), nullptr);
  }
  uv_close(reinterpret_cast<uv_handle_t*>(&housekeeping), nullptr);
  uv_close(reinterpret_cast<uv_handle_t*>(&drain_timer_), nullptr);
  uv_close(reinterpret_cast<uv_handle_t*>(&admin_timer_), nullptr);
  uv_close(reinterpret_cast<uv_handle_t*>(&ended_), nullptr);
  admin_.reset();  // it asks the gateway
  EndControl();
  uv_loop_close(&loop_);
  log().Write(Level::kInfo, "stop", {});
  return Leave(0);
}

// Leave frees what is left, and returns the exit code.
int Server::Leave(int code) {
  generations_.clear();
  // The DNS or Redis is silent, and nobody is left to whom it matters. The log has been written.
  if (!undertaker_.Finish(kLastPatience)) std::_Exit(code);
  return code;
}

tl::expected<void, std::string> Server::StartAdmin() {
  const Runtime& runtime = newest().runtime();
  if (!admin_settings_.address) return {};
  // Whoever else may reach the address is not to learn who the users are.
  const bool names = config::IsLoopback(admin_settings_.address->host);
  auto admin = observe::AdminHttp::Start(
      *admin_settings_.address,
      {.metrics = *runtime.metrics,
       .healthy = [this] { return Healthy(); },
       .ready = [this] { return Ready(); },
       .status = [this, names] { return control::StatusDocument(*gateway_, names); },
       .hostname = runtime.config.hostname});
  if (!admin) return tl::unexpected(std::move(admin.error()));
  admin_ = std::move(*admin);
  return {};
}

// AwaitAdmin takes the admin address once the predecessor, which knows now that it may go, has left
// it.
void Server::AwaitAdmin() {
  const auto admin = StartAdmin();
  if (admin) return;
  if (--admin_tries_ == 0) {
    return log().Write(Level::kError, "admin_failed", {{"detail", admin.error()}});
  }
  uv_timer_start(
      &admin_timer_, [](uv_timer_t* timer) { static_cast<Server*>(timer->data)->AwaitAdmin(); },
      kAdminRetryMs, 0);
}

std::unique_ptr<control::RunningGateway> Server::MakeGateway() {
  return std::make_unique<control::RunningGateway>(
      &loop_,
      control::RunningGateway::Process{
          .start_time = start_time_,
          .generations = [this] { return Snapshot(); },
          .not_ready = [this] { return Ready(); },
          .draining = [this] { return draining_.load(); },
          .drain_remaining_s = [this] { return DrainRemaining(); },
          .drain = [this] { BeginDrain("control"); },
          .reload = [this](ReloadAnswer answer) { BeginReload("control", std::move(answer)); },
          .upgrade = [this](UpgradeAnswer answer) { BeginUpgrade(std::move(answer)); }});
}

// StartControl lets the administrator ask, also in the place of a process that still answers.
bool Server::StartControl(bool take_over) {
  if (!admin_settings_.socket) return true;
  auto server = control::Server::Start(
      &loop_, admin_settings_, take_over, *gateway_, [this]() -> auto& { return log(); });
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

// ---- housekeeping
// -------------------------------------------------------------------------------

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

// Housekeep changes ticket keys and ends old sessions when it is time, and gives memory back after
// many sessions have left; the allocator alone would keep it.
void Server::Housekeep() {
  if (newest().ticket_keys()->RotateIfDue()) log().Write(Level::kInfo, "ticket_keys_changed", {});
  TellManager();
  EndOldSessions();
  const uint32_t sessions = newest().runtime().limits->total();
  const bool leaving = sessions < last_sessions_;
  last_sessions_ = sessions;
  peak_sessions_ = std::max(peak_sessions_, sessions);
  if (leaving || peak_sessions_ - sessions < kTrimSessions + sessions / 4) return;
  malloc_trim(0);
  peak_sessions_ = sessions;
}

}  // namespace gatepost
