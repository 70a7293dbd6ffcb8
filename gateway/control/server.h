// The control socket: a unix socket on which the administrator's commands are answered.
//
// One JSON request a connection, one line; one line is the answer (control.md). The socket's
// permissions are the authentication. Requests and connections are bounded and have a deadline, and
// a slow client holds up nobody. On the main thread's loop, never on a worker's. The file is
// removed at the end, unless another process has put its own in the place.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>
#include <uv.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <tl/expected.hpp>
#include <utility>

#include "config/schema.h"
#include "gateway/control/commands.h"
#include "gateway/control/gateway.h"
#include "gateway/net/uv_handle.h"
#include "gateway/observe/log.h"

namespace gatepost::control {

class Server {
 public:
  // The log of the time of a call: a reload may change it.
  using CurrentLog = std::function<observe::Log&()>;

  // Start makes the socket of `settings`, which has one, in the place of one that nobody listens at
  // any more. Where somebody does, it fails, or takes the place with `take_over`: whoever connects
  // from then on comes here. All must outlive the object.
  [[nodiscard]] static tl::expected<std::unique_ptr<Server>, std::string> Start(
      uv_loop_t* loop, const config::Admin& settings, bool take_over, Gateway& gateway,
      CurrentLog log);
  // MakeWay goes on at this process's OldSocket, after a successor has taken the place. Who has
  // asked already is answered.
  [[nodiscard]] tl::expected<void, std::string> MakeWay();
  // ComeBack listens at the socket's own place again, whoever may have taken it: there was no
  // successor after all.
  [[nodiscard]] tl::expected<void, std::string> ComeBack();
  // An answer that comes later finds nobody who wants it.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

 private:
  // Who asks: from the first byte to the last of the answer.
  struct Connection {
    Server* server;
    uint64_t id;
    net::HandlePtr<uv_pipe_t> pipe;
    net::HandlePtr<uv_timer_t> deadline;
    std::string request;
    bool asked = false;
    bool answered = false;
  };

  Server(uv_loop_t* loop, mode_t mode, Gateway& gateway, CurrentLog log)
      : loop_(loop), mode_(mode), gateway_(gateway), log_(std::move(log)) {}

  [[nodiscard]] tl::expected<void, std::string> Listen(const std::filesystem::path& path,
                                                       bool take_over);
  void Accept();
  void OnBytes(Connection& connection);
  void OnDeadline(Connection& connection);
  void Ask(Connection& connection, std::string_view request);
  void Reply(uint64_t id, const Outcome& outcome);
  static void SetDeadline(Connection& connection, uint64_t delay_ms);

  uv_loop_t* const loop_;
  const mode_t mode_;
  Gateway& gateway_;
  const CurrentLog log_;
  std::filesystem::path path_;
  dev_t device_ = 0;  // of the socket's file
  ino_t inode_ = 0;
  net::HandlePtr<uv_pipe_t> listener_;
  std::map<uint64_t, std::unique_ptr<Connection>> connections_;
  uint64_t last_id_ = 0;
  // What an answer that comes late knows this by.
  const std::shared_ptr<Server*> self_ = std::make_shared<Server*>(this);
  char scratch_[4096];
};

}  // namespace gatepost::control
