// SPDX-License-Identifier: Apache-2.0
#include "gateway/service_manager.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>

namespace gatepost {

ServiceManager::ServiceManager() {
  const char* name = std::getenv("NOTIFY_SOCKET");
  if (name == nullptr) return;
  const std::string_view path = name;
  if (path.size() < 2 || path.size() >= sizeof(address_.sun_path)) return;
  if (path.front() != '/' && path.front() != '@') return;
  address_.sun_family = AF_UNIX;
  std::memcpy(address_.sun_path, path.data(), path.size());
  if (path.front() == '@') address_.sun_path[0] = '\0';
  length_ = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  socket_ = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const char* watched_process = std::getenv("WATCHDOG_PID");
  watched_ = std::getenv("WATCHDOG_USEC") != nullptr &&
             (watched_process == nullptr || watched_process == std::to_string(getpid()));
}

ServiceManager::~ServiceManager() {
  if (socket_ >= 0) close(socket_);
}

void ServiceManager::Ready() {
  Send("READY=1");
}

void ServiceManager::Reloading() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  Send(fmt::format("RELOADING=1\nMONOTONIC_USEC={}",
                   int64_t{now.tv_sec} * 1'000'000 + now.tv_nsec / 1'000));
}

void ServiceManager::Alive() {
  if (watched_) Send("WATCHDOG=1");
}

void ServiceManager::Stopping(std::chrono::milliseconds at_most) {
  Send(fmt::format("STOPPING=1\nEXTEND_TIMEOUT_USEC={}",
                   std::chrono::duration_cast<std::chrono::microseconds>(at_most).count()));
}

void ServiceManager::HandOver(pid_t process) {
  Send(fmt::format("MAINPID={}", process));
  if (socket_ >= 0) close(socket_);
  socket_ = -1;
}

void ServiceManager::Status(std::string_view text) {
  Send(fmt::format("STATUS={}", text));
}

// A manager that has gone, or whose queue is full, is not worth a delay: the next sign follows.
void ServiceManager::Send(std::string_view message) {
  if (socket_ < 0) return;
  (void)sendto(socket_, message.data(), message.size(), MSG_NOSIGNAL,
               reinterpret_cast<const sockaddr*>(&address_), length_);
}

}  // namespace gatepost
