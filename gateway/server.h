// The running process: from a prepared configuration to workers that serve, through reloads and an
// upgrade, and back down.
//
// Main thread, but for what says otherwise. server.cc runs it, server_changes.cc has what happens
// to it: reloads, upgrades, the end.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <uv.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

#include "gateway/control/running_gateway.h"
#include "gateway/control/server.h"
#include "gateway/generation.h"
#include "gateway/listening_sockets.h"
#include "gateway/observe/admin_http.h"
#include "gateway/prepare.h"
#include "gateway/process_metrics.h"
#include "gateway/service_manager.h"
#include "gateway/successor.h"
#include "gateway/undertaker.h"

namespace gatepost {

// UnixNow is the time in seconds.
[[nodiscard]] inline double UnixNow() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

class Server final : private Successor::Observer {
 public:
  // `arguments`: what starts the program anew (SIGUSR2).
  Server(Prepared prepared, std::vector<std::string> arguments)
      : file_(prepared.file),
        arguments_(std::move(arguments)),
        key_log_(prepared.key_log),
        user_(prepared.runtime->config.process.user),
        admin_settings_(prepared.runtime->config.admin),
        first_(std::move(prepared)) {}

  // Run binds, drops privileges, runs the workers and obeys signals, until one of them has drained
  // the last session; returns the exit code.
  [[nodiscard]] int Run();

 private:
  using ReloadAnswer = std::function<void(const control::ReloadResult&)>;
  using UpgradeAnswer = std::function<void(const control::UpgradeResult&)>;

  // A reload under way: what a thread of libuv's reads, while the workers go on.
  struct Reading {
    uv_work_t work{};
    Server* server = nullptr;
    std::shared_ptr<const Generation> past;
    bool unchanged = false;
    TlsWatch::Reloaded files{};  // where it is
    tl::expected<Prepared, std::vector<std::string>> result =
        tl::unexpected(std::vector<std::string>());
    uint64_t began_ns = 0;
    std::string_view trigger;
    std::vector<ReloadAnswer> answers;  // whoever waits for it
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
  [[nodiscard]] tl::expected<void, std::string> StartAdmin();
  void AwaitAdmin();
  void BeginUpgrade(UpgradeAnswer answer = {});
  void FailUpgrade(const std::string& problem);
  void OnSuccessor(bool serves) override;
  void BeginReload(std::string_view trigger, ReloadAnswer answer = {});
  void EndReload(Reading& reading);
  [[nodiscard]] std::string RestartKeys() const;
  void TellReload(const Reading& reading, const control::ReloadResult& result);
  tl::expected<void, std::vector<std::string>> Adopt(Prepared prepared);
  [[nodiscard]] std::shared_ptr<Generation> MakeGeneration(
      Prepared prepared, uint64_t number, const ListeningSockets::OfWorkers& sockets);
  void ReapGenerations();
  int Leave(int code);
  void EndOldSessions();
  void Housekeep();
  void TellManager();
  [[nodiscard]] double DrainRemaining() const;
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
  // What only a restart changes, as it was at the start.
  const std::optional<std::string> user_;
  const config::Admin admin_settings_;
  Prepared first_;
  uint64_t descriptors_ = 0;  // that the process may have
  ListeningSockets sockets_;
  mutable std::mutex mutex_;  // guards this one against other threads than the main one
  Undertaker undertaker_;
  std::vector<std::shared_ptr<Generation>> generations_;  // each made by MakeGeneration
  std::unique_ptr<control::RunningGateway> gateway_;
  std::unique_ptr<control::Server> control_;
  std::unique_ptr<observe::AdminHttp> admin_;
  uint32_t admin_tries_ = 1000;  // to take its address from a predecessor
  std::atomic<bool> started_{false};
  std::atomic<bool> draining_{false};
  std::atomic<uint64_t> drain_deadline_ns_{0};
  std::unique_ptr<Successor> successor_;  // on its way, or serving
  bool succeeded_ = false;                // it serves
  bool reloading_ = false;
  std::optional<std::string_view> reload_wanted_;  // once more, after the one under way: by what
  std::vector<ReloadAnswer> reload_answers_;       // whoever waits for that one
  UpgradeAnswer upgrade_answer_;                   // the same for an upgrade; may be empty
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
  uv_timer_t admin_timer_{};
};

}  // namespace gatepost
