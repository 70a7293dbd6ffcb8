// The service manager that has started the process: what systemd calls sd_notify(3), in the few
// lines that it is, so that nothing of libsystemd is linked.
//
// Datagrams to the socket that $NOTIFY_SOCKET names. Without it every call does nothing. Not for
// more than one thread at a time.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <chrono>
#include <string_view>

namespace gatepost {

class ServiceManager {
 public:
  // Reads $NOTIFY_SOCKET: a path, or an abstract name that begins with "@". An address that cannot
  // be one is as good as none.
  ServiceManager();
  ~ServiceManager();
  ServiceManager(const ServiceManager&) = delete;
  ServiceManager& operator=(const ServiceManager&) = delete;

  // Ready tells that clients are served from now on (Type=notify waits for it).
  void Ready();
  // Reloading tells that the configuration is read anew; Ready tells that this has ended.
  void Reloading();
  // Alive is the watchdog's sign of life: with WatchdogSec= (and thus $WATCHDOG_USEC) the process
  // is killed and started anew when the signs stay away for so long. Without a watchdog it is
  // silent.
  void Alive();
  // Stopping tells that the process ends by itself, at the latest after `at_most`, whatever
  // TimeoutStopSec= says.
  void Stopping(std::chrono::milliseconds at_most);
  // HandOver tells that `process` is who serves from now on, and is silent from then on.
  void HandOver(pid_t process);
  // Status is shown by `systemctl status`.
  void Status(std::string_view text);

 private:
  void Send(std::string_view message);

  sockaddr_un address_{};
  socklen_t length_ = 0;
  int socket_ = -1;  // -1: nobody wants to know
  bool watched_ = false;
};

}  // namespace gatepost
