// SPDX-License-Identifier: Apache-2.0
#include "tests/benchmark/load/modes.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

namespace gatepost::benchmark {
namespace {

using std::chrono::milliseconds;

constexpr auto kSettle = milliseconds(1500);   // before memory is looked at
constexpr auto kRecover = milliseconds(5000);  // after a mass disconnect
constexpr auto kPace = milliseconds(20);       // between a steady client's commands
constexpr uint32_t kStormConnections = 32;

}  // namespace

Modes::Modes(const Options& options)
    : options_(options),
      proxy_(options.proxy),
      tls_(options.rsa, options.resume),
      shared_(loop_, tls_, options.host, options.port),
      deadline_(Clock::now() + Seconds(options.limit)) {}

bool Modes::Run() {
  const std::string& mode = options_.mode;
  const bool starttls = options_.starttls;
  if (mode == "handshake") {
    RunSessions([starttls](Client& client) -> Task {
      bool ok = co_await client.dialogue.Start(starttls);
      if (ok) ok = co_await client.dialogue.Logout();
      co_return ok;
    });
  } else if (mode == "login") {
    RunSessions([starttls](Client& client) -> Task {
      bool ok = co_await client.dialogue.Start(starttls);
      if (ok) ok = co_await client.dialogue.Login();
      if (ok) ok = co_await client.dialogue.Logout();
      co_return ok;
    });
  } else if (mode == "churn") {
    RunSessions([](Client& client) -> Task {
      const bool ok = co_await client.connection.Open();
      co_return ok;
    });
  } else if (mode == "rate") {
    RunRate();
  } else if (mode == "download") {
    const uint64_t bytes = options_.bytes;
    RunTransfer([bytes](Client& client) { return client.dialogue.Fetch(bytes); });
  } else if (mode == "upload") {
    const uint64_t bytes = options_.bytes;
    const bool chunking = options_.chunking;
    RunTransfer([=](Client& client) { return client.dialogue.Store(bytes, chunking); });
  } else if (mode == "noop") {
    RunNoop();
  } else if (mode == "idle") {
    RunMemory(true);
  } else if (mode == "prehandshake") {
    RunMemory(false);
  } else if (mode == "stalled-client") {
    RunStalled(false);
  } else if (mode == "stalled-backend") {
    RunStalled(true);
  } else if (mode == "storm") {
    RunStorm();
  } else if (mode == "crowd") {
    RunCrowd();
  } else {
    return false;
  }
  return true;
}

void Modes::Begin() {
  cpu_began_ = proxy_.CpuNanoseconds();
  began_ = Clock::now();
}

void Modes::End(double operations) {
  const double wall = Since(began_);
  loop_.Pause(milliseconds(100));  // what the proxy does behind the last answer: closing, logging
  const auto cpu = static_cast<double>(proxy_.CpuNanoseconds() - cpu_began_) / 1000;
  report_.Number("operations", operations);
  report_.Number("seconds", wall);
  report_.Number("cpu_us", cpu);
  report_.Number("cpu_us_per_operation", cpu / operations);
  report_.Number("operations_per_second", operations / wall);
}

void Modes::Wait(const std::function<bool()>& done) {
  if (!loop_.Run(done, deadline_)) report_.Error("not done in time");
}

// ---- many clients at a time

void Modes::Sessions(uint64_t count, const Operation& operation, std::vector<double>* seconds) {
  uint64_t left = count;
  uint32_t working = 0;
  for (uint32_t i = 0; i < options_.connections; ++i) {
    SessionWorker(operation, left, working, seconds);
  }
  Wait([&] { return working == 0; });
}

Job Modes::SessionWorker(const Operation& operation, uint64_t& left, uint32_t& working,
                         std::vector<double>* seconds) {
  ++working;
  while (left > 0) {
    --left;
    const auto start = Clock::now();
    Client client(shared_, options_.protocol);
    const bool ok = co_await operation(client);
    if (!ok) report_.Error(client.connection.error());
    if (ok && seconds != nullptr) seconds->push_back(Since(start));
  }
  --working;
}

std::vector<std::unique_ptr<Modes::Client>> Modes::LogIn(uint64_t count, uint64_t at_a_time) {
  std::vector<std::unique_ptr<Client>> clients;
  for (uint64_t i = 0; i < count; ++i) {
    clients.push_back(std::make_unique<Client>(shared_, options_.protocol));
  }
  uint64_t next = 0;
  uint32_t working = 0;
  for (uint32_t i = 0; i < std::min(count, at_a_time); ++i) {
    LogInWorker(clients, next, working);
  }
  Wait([&] { return working == 0; });
  std::erase_if(clients, [](const auto& client) { return !client->ready; });
  return clients;
}

Job Modes::LogInWorker(std::vector<std::unique_ptr<Client>>& clients, uint64_t& next,
                       uint32_t& working) {
  ++working;
  while (next < clients.size()) {
    Client& client = *clients[next++];
    bool ok = co_await client.dialogue.Start(options_.starttls);
    if (ok) ok = co_await client.dialogue.Login();
    client.ready = ok;
    if (!ok) report_.Error(client.connection.error());
  }
  --working;
}

void Modes::Repeat(std::vector<std::unique_ptr<Client>>& clients, const Operation& operation,
                   uint64_t count, std::vector<double>* seconds) {
  uint64_t left = count;
  uint32_t working = 0;
  for (const auto& client : clients) Repeater(*client, operation, left, working, seconds);
  Wait([&] { return working == 0; });
}

Job Modes::Repeater(Client& client, const Operation& operation, uint64_t& left, uint32_t& working,
                    std::vector<double>* seconds) {
  ++working;
  bool ok = true;
  while (ok && left > 0) {
    --left;
    const auto start = Clock::now();
    ok = co_await operation(client);
    if (!ok) report_.Error(client.connection.error());
    if (ok && seconds != nullptr) seconds->push_back(Since(start));
  }
  --working;
}

// One connection that brings a ticket for all that follow.
void Modes::KeepTicket() {
  if (!options_.resume) return;
  const auto client = LogIn(1);
  if (!tls_.has_session()) report_.Error("the server sent no session ticket");
}

// ---- the modes

void Modes::RunSessions(const Operation& operation) {
  KeepTicket();
  Sessions(std::max<uint64_t>(options_.operations / 10, 1), operation, nullptr);  // warm-up
  std::vector<double> seconds;
  Begin();
  Sessions(options_.operations, operation, &seconds);
  End(static_cast<double>(options_.operations));
  report_.Latency("session", std::move(seconds));
}

// Sessions begin when they are due, whether or not earlier ones have ended; a late one counts from
// when it was due.
void Modes::RunRate() {
  Sessions(
      20,
      [this](Client& client) -> Task {
        bool ok = co_await client.dialogue.Start(options_.starttls);
        if (ok) ok = co_await client.dialogue.Login();
        co_return ok;
      },
      nullptr);
  std::vector<double> seconds;
  uint32_t working = 0;
  const auto count = static_cast<uint64_t>(options_.rate * options_.seconds);
  Begin();
  const auto first = Clock::now() + milliseconds(10);
  for (uint64_t i = 0; i < count; ++i) {
    RateSession(first + Seconds(static_cast<double>(i) / options_.rate), seconds, working);
  }
  Wait([&] { return working == 0; });
  End(static_cast<double>(count));
  report_.Latency("login", std::move(seconds));
}

Job Modes::RateSession(Clock::time_point start, std::vector<double>& seconds, uint32_t& working) {
  ++working;
  co_await loop_.Until(start);
  Client client(shared_, options_.protocol);
  bool ok = co_await client.dialogue.Start(options_.starttls);
  if (ok) ok = co_await client.dialogue.Login();
  if (ok) seconds.push_back(Since(start));
  if (ok) ok = co_await client.dialogue.Logout();
  if (!ok) report_.Error(client.connection.error());
  --working;
}

void Modes::RunTransfer(const Operation& operation) {
  auto clients = LogIn(options_.connections);
  if (clients.empty()) return;
  Repeat(clients, operation, clients.size(), nullptr);  // warm-up
  Begin();
  Repeat(clients, operation, options_.operations, nullptr);
  const double gib = static_cast<double>(options_.operations) *
                     static_cast<double>(options_.bytes) / (1024.0 * 1024 * 1024);
  End(gib);
  report_.Number("bytes", gib * 1024 * 1024 * 1024);
}

void Modes::RunNoop() {
  auto clients = LogIn(options_.connections);
  if (clients.empty()) return;
  const auto operation = [](Client& client) { return client.dialogue.Noop(); };
  Repeat(clients, operation, options_.operations / 10, nullptr);
  std::vector<double> seconds;
  Begin();
  Repeat(clients, operation, options_.operations, &seconds);
  End(static_cast<double>(options_.operations));
  report_.Latency("round_trip", std::move(seconds));
}

// PSS at each level of open connections; for sessions also what holding them costs, and what is
// left 5 s after all have gone.
void Modes::RunMemory(bool log_in) {
  std::vector<std::unique_ptr<Client>> all;
  report_.Number("pss_base", static_cast<double>(proxy_.PssBytes()));
  if (log_in) {
    // What the first sessions leave behind (code that was paged in, tables) is no leak of the mass.
    LogIn(kLogInAtATime).clear();
    loop_.Pause(kSettle);
    report_.Number("pss_warm", static_cast<double>(proxy_.PssBytes()));
  }
  double first_pss = 0;
  double last_pss = 0;
  uint64_t first = 0;
  const auto began = Clock::now();
  for (const uint64_t level : options_.levels) {
    const uint64_t more = level - std::min<uint64_t>(level, all.size());
    if (log_in) {
      for (auto& client : LogIn(more)) all.push_back(std::move(client));
    } else {
      uint32_t working = 0;
      for (uint64_t i = 0; i < more; ++i) {
        all.push_back(std::make_unique<Client>(shared_, options_.protocol));
        [](Modes& modes, Client& client, uint32_t& count) -> Job {
          ++count;
          const bool ok = co_await client.connection.Open();
          if (!ok) modes.report_.Error(client.connection.error());
          --count;
        }(*this, *all.back(), working);
        if (working >= kLogInAtATime) Wait([&] { return working == 0; });
      }
      Wait([&] { return working == 0; });
    }
    loop_.Pause(kSettle);
    last_pss = static_cast<double>(proxy_.PssBytes());
    report_.Number("pss_" + std::to_string(level), last_pss);
    if (first == 0) {
      first = level;
      first_pss = last_pss;
    }
  }
  const uint64_t last = options_.levels.back();
  report_.Number("establish_seconds", Since(began));
  report_.Number("sessions", static_cast<double>(all.size()));
  if (last > first) {
    report_.Number("pss_per_session", (last_pss - first_pss) / static_cast<double>(last - first));
  }
  if (!log_in) return;
  Begin();
  loop_.Pause(milliseconds(2000));
  const auto cpu = static_cast<double>(proxy_.CpuNanoseconds() - cpu_began_) / 1e6;
  report_.Number("holding_cpu_ms_per_minute", cpu * 30);
  // All of them must still be alive.
  Repeat(
      all, [](Client& client) { return client.dialogue.Noop(); }, all.size(), nullptr);
  all.clear();
  loop_.Pause(kRecover);
  report_.Number("pss_after", static_cast<double>(proxy_.PssBytes()));
  report_.Number("descriptors_after", static_cast<double>(proxy_.Descriptors()));
}

// What a peer that takes nothing costs: a client that does not read its download, or a backend that
// does not read an upload.
void Modes::RunStalled(bool upload) {
  auto clients = LogIn(options_.connections);
  if (clients.empty()) return;
  loop_.Pause(kSettle);
  const auto before = static_cast<double>(proxy_.PssBytes());
  for (const auto& client : clients) {
    [](Client& stalled, uint64_t bytes, bool up) -> Job {
      // Never returns: the connection is closed under it, and its frame goes with the process.
      const bool ok =
          up ? co_await stalled.dialogue.Stall(bytes) : co_await stalled.dialogue.Ask(bytes);
      (void)ok;
    }(*client, options_.bytes, upload);
  }
  loop_.Pause(Seconds(options_.seconds));
  Begin();
  loop_.Pause(milliseconds(1000));
  report_.Number("stalled_cpu_us_per_second",
                 static_cast<double>(proxy_.CpuNanoseconds() - cpu_began_) / 1000);
  const auto after = static_cast<double>(proxy_.PssBytes());
  report_.Number("sessions", static_cast<double>(clients.size()));
  report_.Number("pss_per_session", (after - before) / static_cast<double>(clients.size()));
}

// Round trips of paced clients, alone and beside a process that makes handshakes as fast as it can.
void Modes::RunStorm() {
  auto clients = LogIn(options_.connections);
  if (clients.empty()) return;
  for (const bool storm : {false, true}) {
    pid_t child = -1;
    if (storm) {
      child = fork();
      if (child == 0) StormChild();
      loop_.Pause(milliseconds(500));
    }
    report_.Latency(storm ? "storm" : "quiet", Pace(clients, options_.seconds));
    if (child > 0) {
      kill(child, SIGTERM);
      int status = 0;
      waitpid(child, &status, 0);
      if (!WIFSIGNALED(status)) report_.Error("the storm ended early");
    }
  }
}

std::vector<double> Modes::Pace(std::vector<std::unique_ptr<Client>>& clients, double seconds) {
  std::vector<double> found;
  uint32_t working = 0;
  const auto start = Clock::now();
  const auto step = kPace / static_cast<int>(std::max<size_t>(clients.size(), 1));
  for (size_t i = 0; i < clients.size(); ++i) {
    Pacer(*clients[i], start + step * static_cast<int>(i), start + Seconds(seconds), working,
          found);
  }
  Wait([&] { return working == 0; });
  return found;
}

Job Modes::Pacer(Client& client, Clock::time_point first, Clock::time_point end, uint32_t& working,
                 std::vector<double>& seconds) {
  ++working;
  for (auto due = first; due < end; due += kPace) {
    co_await loop_.Until(due);
    const auto start = Clock::now();
    const bool ok = co_await client.dialogue.Noop();
    if (!ok) {
      report_.Error(client.connection.error());
      break;
    }
    seconds.push_back(Since(start));
  }
  --working;
}

// Nice: it must not take the processor from those whose latency is measured.
void Modes::StormChild() {
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  (void)!nice(5);
  Options options = options_;
  options.connections = kStormConnections;
  options.rsa = true;
  Modes child(options);
  const bool starttls = options.starttls;
  child.Sessions(
      UINT64_MAX,
      [starttls](Client& client) -> Task {
        const bool ok = co_await client.dialogue.Start(starttls);
        co_return ok;
      },
      nullptr);
  _exit(child.report_.errors() == 0 ? 0 : 1);
}

}  // namespace gatepost::benchmark
