// The modes of the load generator: each makes one kind of load and says what the proxy used for it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <vector>

#include "tests/benchmark/load/loop.h"
#include "tests/benchmark/load/options.h"
#include "tests/benchmark/load/process_tree.h"
#include "tests/benchmark/load/report.h"

namespace gatepost::benchmark {

inline Clock::duration Seconds(double seconds) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

inline double Since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

class Modes {
 public:
  explicit Modes(const Options& options);

  // Run runs the mode that the options name; false for a name that is none.
  [[nodiscard]] bool Run();
  [[nodiscard]] const Report& report() const { return report_; }

 private:
  // One client with its connection; a mode may keep many.
  struct Client {
    explicit Client(Shared& shared, Protocol protocol)
        : connection(shared), dialogue(connection, protocol) {}
    Connection connection;
    Dialogue dialogue;
    bool ready = false;
  };
  using Operation = std::function<Task(Client&)>;
  static constexpr uint32_t kLogInAtATime = 64;

  // CPU time is measured from Begin to End.
  void Begin();
  void End(double operations);

  // Until `done`, or an error that says that the time is over.
  void Wait(const std::function<bool()>& done);
  // A session each, `count` of them, `options.connections` at a time.
  void Sessions(uint64_t count, const Operation& operation, std::vector<double>* seconds);
  Job SessionWorker(const Operation& operation, uint64_t& left, uint32_t& working,
                    std::vector<double>* seconds);
  // `count` clients, logged in, so many of them `at_a_time`.
  std::vector<std::unique_ptr<Client>> LogIn(uint64_t count, uint64_t at_a_time = kLogInAtATime);
  Job LogInWorker(std::vector<std::unique_ptr<Client>>& clients, uint64_t& next, uint32_t& working);
  // Every client repeats `operation` until `left` is used up.
  void Repeat(std::vector<std::unique_ptr<Client>>& clients, const Operation& operation,
              uint64_t count, std::vector<double>* seconds);
  Job Repeater(Client& client, const Operation& operation, uint64_t& left, uint32_t& working,
               std::vector<double>* seconds);
  void KeepTicket();

  void RunSessions(const Operation& operation);
  void RunRate();
  Job RateSession(Clock::time_point start, std::vector<double>& seconds, uint32_t& working);
  void RunTransfer(const Operation& operation);
  void RunNoop();
  void RunMemory(bool log_in);
  void RunStalled(bool upload);
  void RunStorm();
  // Every client says NOOP at a steady pace; returns the round trips.
  std::vector<double> Pace(std::vector<std::unique_ptr<Client>>& clients, double seconds);
  Job Pacer(Client& client, Clock::time_point first, Clock::time_point end, uint32_t& working,
            std::vector<double>& seconds);
  [[noreturn]] void StormChild();

  // crowd.cc
  void RunCrowd();
  void Wake(std::vector<std::unique_ptr<Client>>& clients, double rate, double seconds);
  void AwaitRefusals(uint32_t count);
  void AwaitEnd(std::vector<std::unique_ptr<Client>>& clients);

  const Options& options_;
  const ProcessTree proxy_;
  Loop loop_;
  TlsClient tls_;
  Shared shared_;
  Report report_;
  Clock::time_point deadline_;
  Clock::time_point began_;
  uint64_t cpu_began_ = 0;
  uint64_t next_to_wake_ = 0;
};

}  // namespace gatepost::benchmark
