// The running gateway as the administrator sees it: over all generations of workers.
//
// Made on the main thread, which asks it for sessions; the status is for any thread.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <uv.h>

#include <functional>
#include <memory>
#include <string>

#include "gateway/control/gateway.h"
#include "gateway/net/inbox.h"
#include "gateway/process_metrics.h"

namespace gatepost::control {

class RunningGateway final : public Gateway {
 public:
  // What the process knows, on any thread, and from `drain` on what it does, on the main thread.
  struct Process {
    double start_time = 0;                               // Unix time
    std::function<gatepost::Generations()> generations;  // at least one
    std::function<std::string()> not_ready;              // why; empty: it serves
    std::function<bool()> draining;
    std::function<double()> drain_remaining_s;
    std::function<void()> drain;
    std::function<void(std::function<void(const ReloadResult&)>)> reload;
    std::function<void(std::function<void(const UpgradeResult&)>)> upgrade;
  };

  // Answers come on `loop`.
  RunningGateway(uv_loop_t* loop, Process process);
  // Before the loop's last run; what was asked is answered no more.
  ~RunningGateway() override;
  RunningGateway(const RunningGateway&) = delete;
  RunningGateway& operator=(const RunningGateway&) = delete;

  Status GetStatus() const override;
  void ListSessions(session::SessionFilter filter, size_t limit,
                    std::function<void(SessionList)> answer) override;
  void Kick(session::SessionFilter filter, std::function<void(uint64_t)> answer) override;
  bool Drain() override;
  void Reload(std::function<void(const ReloadResult&)> answer) override;
  void Upgrade(std::function<void(const UpgradeResult&)> answer) override;

 private:
  template <typename Query>
  void Ask(const std::shared_ptr<Query>& query);

  const Process process_;
  const std::shared_ptr<net::Inbox> inbox_;
};

}  // namespace gatepost::control
