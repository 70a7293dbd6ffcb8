// The mode "crowd": many sessions, held and driven by commands on standard input, one a line; each
// is answered by a line of JSON. tests/benchmark/scale starts several such processes.
//
//   open N         log in until N sessions are held
//   rush N         the same, but all of them at once
//   ask            every session says NOOP
//   wake R S       R sessions a second say NOOP, for S seconds, each session in its turn
//   pace S         every session says NOOP each 20 ms, for S seconds
//   refused N      N more connections, each of which the server must refuse: with BYE where it
//                  speaks first, else by closing
//   await-end      until the server has ended every session with BYE
//   close          leave all at once
//   look           CPU time, memory and descriptors of the proxy
//
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <iostream>
#include <iterator>
#include <sstream>

#include "tests/benchmark/load/modes.h"

namespace gatepost::benchmark {

void Modes::RunCrowd() {
  std::vector<std::unique_ptr<Client>> all;
  for (std::string line; std::getline(std::cin, line);) {
    report_ = {};
    deadline_ = Clock::now() + Seconds(options_.limit);
    std::istringstream words(line);
    std::string command;
    double number = 0;
    double seconds = 0;
    words >> command >> number >> seconds;
    const auto began = Clock::now();
    if (command == "open" || command == "rush") {
      const size_t more =
          static_cast<size_t>(number) - std::min(static_cast<size_t>(number), all.size());
      auto clients = command == "open" ? LogIn(more) : LogIn(more, more);
      std::move(clients.begin(), clients.end(), std::back_inserter(all));
    } else if (command == "ask") {
      Repeat(
          all, [](Client& client) { return client.dialogue.Noop(); }, all.size(), nullptr);
    } else if (command == "wake") {
      Wake(all, number, seconds);
    } else if (command == "pace") {
      report_.Latency("round_trip", Pace(all, number));
    } else if (command == "refused") {
      AwaitRefusals(static_cast<uint32_t>(number));
    } else if (command == "await-end") {
      AwaitEnd(all);
    } else if (command == "close") {
      all.clear();
    } else if (command == "look") {
      report_.Number("cpu_ms", static_cast<double>(proxy_.CpuNanoseconds()) / 1e6);
      report_.Number("pss", static_cast<double>(proxy_.PssBytes()));
      report_.Number("descriptors", static_cast<double>(proxy_.Descriptors()));
    } else {
      report_.Error("no such command: " + line);
    }
    report_.Number("seconds", Since(began));
    report_.Number("sessions", static_cast<double>(all.size()));
    std::cout << report_.Json() << std::endl;
  }
  report_ = {};
}

void Modes::Wake(std::vector<std::unique_ptr<Client>>& clients, double rate, double seconds) {
  if (clients.empty()) return;
  std::vector<double> found;
  uint32_t working = 0;
  const auto first = Clock::now();
  const auto count = static_cast<uint64_t>(rate * seconds);
  for (uint64_t i = 0; i < count; ++i) {
    // A step that has no factor in common with most sizes: neighbours were accepted together.
    Client& client = *clients[(i * 7919 + next_to_wake_) % clients.size()];
    [](Modes& modes, Client& woken, Clock::time_point due, std::vector<double>& times,
       uint32_t& left) -> Job {
      ++left;
      co_await modes.loop_.Until(due);
      const bool ok = co_await woken.dialogue.Noop();
      if (ok) times.push_back(Since(due));
      if (!ok) modes.report_.Error(woken.connection.error());
      --left;
    }(*this, client, first + Seconds(static_cast<double>(i) / rate), found, working);
  }
  next_to_wake_ += count;
  Wait([&] { return working == 0; });
  report_.Number("operations", static_cast<double>(found.size()));
  report_.Latency("round_trip", std::move(found));
}

void Modes::AwaitRefusals(uint32_t count) {
  std::vector<std::unique_ptr<Client>> refused;
  uint32_t working = 0;
  uint32_t good = 0;
  for (uint32_t i = 0; i < count; ++i) {
    refused.push_back(std::make_unique<Client>(shared_, options_.protocol));
    [](Modes& modes, Client& client, uint32_t& left, uint32_t& as_expected) -> Job {
      ++left;
      bool ok = co_await client.connection.Open();
      if (ok && modes.options_.starttls) ok = co_await client.connection.Expect("* BYE");
      if (ok) ok = co_await client.connection.ExpectEnd();
      if (ok) ++as_expected;
      if (!ok) modes.report_.Error(client.connection.error());
      --left;
    }(*this, *refused.back(), working, good);
  }
  Wait([&] { return working == 0; });
  report_.Number("refused", good);
}

void Modes::AwaitEnd(std::vector<std::unique_ptr<Client>>& clients) {
  std::vector<double> seconds;
  uint32_t working = 0;
  const auto began = Clock::now();
  for (const auto& client : clients) {
    [](Modes& modes, Client& ending, Clock::time_point start, std::vector<double>& times,
       uint32_t& left) -> Job {
      ++left;
      bool ok = co_await ending.connection.Expect("* BYE");
      if (ok) times.push_back(Since(start));
      if (ok) ok = co_await ending.connection.ExpectEnd();
      if (!ok) modes.report_.Error(ending.connection.error());
      ending.connection.Close();
      --left;
    }(*this, *client, began, seconds, working);
  }
  Wait([&] { return working == 0; });
  report_.Number("byes", static_cast<double>(seconds.size()));
  report_.Latency("bye", std::move(seconds));
  clients.clear();
}

}  // namespace gatepost::benchmark
