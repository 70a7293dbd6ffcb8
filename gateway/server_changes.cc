// What happens to the running process: reloads, an upgrade, the end.
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <iterator>
#include <utility>

#include "gateway/server.h"

namespace gatepost {
namespace {

using observe::Level;

constexpr auto kExitMargin = std::chrono::seconds(10);  // from the end of a drain to the exit
constexpr size_t kMostProblems = 20;                    // lines in the log of one reload

}  // namespace

// ---- reloading
// -----------------------------------------------------------------------------------

void Server::BeginReload(std::string_view trigger, ReloadAnswer answer) {
  if (answer) reload_answers_.push_back(std::move(answer));
  if (draining_.load() || successor_) {
    control::ReloadResult result;
    result.problems.emplace_back("a drain or an upgrade is under way");
    for (const ReloadAnswer& waiting : std::exchange(reload_answers_, {})) waiting(result);
    return;
  }
  if (reloading_) {
    reload_wanted_ = trigger;
    return;
  }
  reloading_ = true;
  if (announced_) manager_.Reloading();
  auto* reading = new Reading;
  reading->server = this;
  reading->work.data = reading;
  reading->past = generations_.back();
  reading->began_ns = uv_hrtime();
  reading->trigger = trigger;
  reading->answers.swap(reload_answers_);
  uv_queue_work(
      &loop_, &reading->work,
      [](uv_work_t* work) {
        auto& own = *static_cast<Reading*>(work->data);
        const Generation& past = *own.past;
        const std::string& file = own.server->file_;
        own.unchanged = InputFiles(file, past.runtime().config) == past.inputs();
        if (own.unchanged) {
          own.files = past.ReloadFiles();
          return;
        }
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
  control::ReloadResult result;
  if (draining_.load()) {
    result.problems.emplace_back("a drain has begun");
  } else if (reading.unchanged) {
    for (const TlsFiles::News& news : reading.files.refused) {
      result.not_taken.push_back({news.part, news.problem});
    }
  } else if (!reading.result) {
    result.problems = std::move(reading.result.error());
  } else {
    result.changed = true;
    for (TlsFiles::Status& status : reading.result->tls_files->statuses()) {
      if (status.problem.empty()) continue;  // else a directory has another pair that is good
      result.not_taken.push_back({std::move(status.part), std::move(status.problem)});
    }
    if (auto adopted = Adopt(std::move(*reading.result)); !adopted) {
      result.problems = std::move(adopted.error());
    }
  }
  result.generation = newest().number();
  if (result.problems.empty()) result.restart = RestartKeys();
  if (!draining_.load()) TellReload(reading, result);
  for (const ReloadAnswer& answer : reading.answers) answer(result);
  if (announced_ && !draining_.load()) manager_.Ready();
  if (const auto wanted = std::exchange(reload_wanted_, {})) BeginReload(*wanted);
}

// RestartKeys returns what a reload can't change, of what differs from how the process runs.
std::string Server::RestartKeys() const {
  const config::Config& wanted = newest().runtime().config;
  std::string keys;
  const auto differs = [&keys](bool same, std::string_view key) {
    if (!same) keys += (keys.empty() ? "" : ", ") + std::string(key);
  };
  differs(user_ == wanted.process.user, "process.user");
  differs(admin_settings_.address == wanted.admin.address, "admin.address");
  differs(admin_settings_.socket == wanted.admin.socket, "admin.socket");
  differs(admin_settings_.socket_mode == wanted.admin.socket_mode, "admin.socket_mode");
  return keys;
}

// TellReload counts and logs what came of a reload.
void Server::TellReload(const Reading& reading, const control::ReloadResult& result) {
  const bool good = result.problems.empty() && (result.changed || result.not_taken.empty());
  last_reload_ok_.store(good);
  if (good) {
    reloads_ok_.fetch_add(1);
    last_reload_time_.store(UnixNow());
  } else {
    reloads_failed_.fetch_add(1);
  }
  for (size_t i = 0; i < std::min(result.problems.size(), kMostProblems); ++i) {
    const size_t more = result.problems.size() - kMostProblems;
    log().Write(Level::kError, "reload",
                {{"trigger", reading.trigger},
                 {"result", "failed"},
                 {"detail", i + 1 == kMostProblems && more > 0
                                ? fmt::format("{}; and {} more", result.problems[i], more)
                                : result.problems[i]}});
  }
  if (!result.problems.empty()) return;
  if (!result.changed) return TlsWatch::LogReload(log(), reading.trigger, reading.files);
  log().Write(
      result.restart.empty() ? Level::kInfo : Level::kWarning, "reload",
      {{"trigger", reading.trigger},
       {"result", "ok"},
       {"generation", result.generation},
       {"duration_ms", (uv_hrtime() - reading.began_ns) / 1'000'000},
       {"detail", result.restart.empty() ? std::string()
                                         : "changes only with a restart: " + result.restart}});
  LogStart(newest());
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
  auto next = MakeGeneration(std::move(prepared), past.number() + 1, *shared);
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

// MakeGeneration makes one for whose end nobody waits, whoever lets go of it last.
std::shared_ptr<Generation> Server::MakeGeneration(Prepared prepared, uint64_t number,
                                                   const ListeningSockets::OfWorkers& sockets) {
  return {new Generation(std::move(prepared), number, sockets),
          [this](Generation* ended) { undertaker_.Take(std::unique_ptr<Generation>(ended)); }};
}

// ReapGenerations lets go of those whose last session has ended.
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
    generation->Join();  // it tells us of its end no more
    log().Write(Level::kInfo, "generation_ended", {{"generation", generation->number()}});
  }
  const bool last = draining_.load() || succeeded_;
  if (last && generations_.size() == 1 && newest().ended()) uv_stop(&loop_);
}

// EndOldSessions drains the generations that have gone on for as long as they may.
void Server::EndOldSessions() {
  const config::Process& settings = newest().runtime().config.process;
  if (settings.old_sessions_timeout.count() == 0 || draining_.load()) return;
  const auto deadline = static_cast<uint64_t>(settings.drain_timeout.count());
  for (const auto& generation : generations_) {
    if (!generation->OutOfTime(settings.old_sessions_timeout)) continue;
    log().Write(Level::kInfo, "generation_timeout",
                {{"generation", generation->number()}, {"timeout_ms", deadline}});
    generation->Drain(deadline / 2, deadline);
  }
}

// ---- upgrading
// ----------------------------------------------------------------------------------

// BeginUpgrade starts the program anew beside this one, which goes on until that serves.
void Server::BeginUpgrade(UpgradeAnswer answer) {
  if (draining_.load() || successor_ || reloading_) {
    control::UpgradeResult result;
    result.problem = "a drain, an upgrade or a reload is under way";
    log().Write(Level::kWarning, "upgrade", {{"result", "failed"}, {"detail", result.problem}});
    if (answer) answer(result);
    return;
  }
  upgrade_answer_ = std::move(answer);
  auto started = Successor::Start(&loop_, arguments_, sockets_.descriptors(), *this);
  if (!started) return FailUpgrade(started.error());
  successor_ = std::move(*started);
}

// FailUpgrade goes on as if nothing had happened.
void Server::FailUpgrade(const std::string& problem) {
  log().Write(Level::kError, "upgrade",
              {{"result", "failed"}, {"program", arguments_.front()}, {"detail", problem}});
  successor_.reset();
  control::UpgradeResult result;
  result.problem = problem;
  if (const UpgradeAnswer answer = std::exchange(upgrade_answer_, {})) answer(result);
  if (!control_) return;
  if (const auto back = control_->ComeBack(); !back) {  // it may have had the place already
    log().Write(Level::kWarning, "control", {{"result", "failed"}, {"detail", back.error()}});
  }
}

void Server::OnSuccessor(bool serves) {
  if (!serves) {
    return FailUpgrade(arguments_.front() +
                       " ended before it served; what it said is on standard error");
  }
  succeeded_ = true;
  admin_.reset();  // the successor waits for its address
  control::UpgradeResult result;
  result.process = successor_->pid();
  result.sessions = newest().runtime().limits->total();
  log().Write(Level::kInfo, "upgrade",
              {{"result", "ok"}, {"process", result.process}, {"sessions", result.sessions}});
  manager_.HandOver(successor_->pid());
  newest().Supersede();
  sockets_.Keep({});
  if (control_) {
    if (const auto moved = control_->MakeWay(); !moved) {
      log().Write(Level::kWarning, "control", {{"result", "failed"}, {"detail", moved.error()}});
    }
  }
  if (const UpgradeAnswer answer = std::exchange(upgrade_answer_, {})) answer(result);
}

// ---- ending
// --------------------------------------------------------------------------------------

void Server::OnSignal(int number) {
  if (number == SIGHUP) return BeginReload("signal");
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

}  // namespace gatepost
