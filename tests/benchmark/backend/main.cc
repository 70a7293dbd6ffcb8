// The benchmark's backend: one thread, epoll, canned answers, so that what is measured is the
// proxy. Prints its ports as one line of JSON and serves until its standard input ends.
// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <unordered_map>
#include <vector>

#include "tests/benchmark/backend/connection.h"

namespace gatepost::benchmark {
namespace {

constexpr size_t kReadBytes = 256 * 1024;
constexpr int kBacklog = 4096;

class Server {
 public:
  Server() : epoll_(epoll_create1(EPOLL_CLOEXEC)), received_(kReadBytes) {
    ports_.imap = Listen(Service::kImap);
    ports_.pop3 = Listen(Service::kPop3);
    ports_.smtp = Listen(Service::kSmtp);
    ports_.auth_http = Listen(Service::kAuthHttp);
    Watch(STDIN_FILENO, EPOLLIN, EPOLL_CTL_ADD);
  }

  [[nodiscard]] const Ports& ports() const { return ports_; }

  void Run() {
    std::array<epoll_event, 256> events;
    for (;;) {
      const int count = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), -1);
      for (int i = 0; i < count; ++i) {
        const int descriptor = events[static_cast<size_t>(i)].data.fd;
        if (descriptor == STDIN_FILENO) return;
        if (const auto listener = listeners_.find(descriptor); listener != listeners_.end()) {
          Accept(descriptor, listener->second);
        } else if (const auto found = connections_.find(descriptor); found != connections_.end()) {
          if (!Serve(*found->second, events[static_cast<size_t>(i)].events)) {
            connections_.erase(found);
          }
        }
      }
    }
  }

 private:
  uint16_t Listen(Service service) {
    const int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    if (bind(descriptor, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
        listen(descriptor, kBacklog) != 0 ||
        getsockname(descriptor, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
      std::perror("benchmark backend: listen");
      std::exit(1);
    }
    listeners_[descriptor] = service;
    Watch(descriptor, EPOLLIN, EPOLL_CTL_ADD);
    return ntohs(address.sin_port);
  }

  void Watch(int descriptor, uint32_t events, int operation) const {
    epoll_event event{};
    event.events = events;
    event.data.fd = descriptor;
    epoll_ctl(epoll_, operation, descriptor, &event);
  }

  void Accept(int listener, Service service) {
    for (;;) {
      const int descriptor = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (descriptor < 0) return;
      const int on = 1;
      setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
      auto connection = std::make_unique<Connection>(descriptor, service);
      connection->Greet();
      Watch(descriptor, EPOLLIN, EPOLL_CTL_ADD);
      if (connection->Flush(pattern_)) connections_[descriptor] = std::move(connection);
    }
  }

  bool Serve(Connection& connection, uint32_t events) {
    const bool wanted = connection.wants_to_write();
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
      const ssize_t size = recv(connection.descriptor(), received_.data(), received_.size(), 0);
      if (size <= 0) return false;
      connection.OnBytes({received_.data(), static_cast<size_t>(size)}, pattern_, ports_);
    }
    if (!connection.Flush(pattern_)) return false;
    if (connection.deaf()) {
      Watch(connection.descriptor(), 0, EPOLL_CTL_MOD);
    } else if (connection.wants_to_write() != wanted) {
      Watch(connection.descriptor(), EPOLLIN | (wanted ? 0U : EPOLLOUT), EPOLL_CTL_MOD);
    }
    return true;
  }

  const int epoll_;
  const Pattern pattern_;
  Ports ports_;
  std::vector<char> received_;
  std::unordered_map<int, Service> listeners_;
  std::unordered_map<int, std::unique_ptr<Connection>> connections_;
};

}  // namespace
}  // namespace gatepost::benchmark

int main() {
  rlimit descriptors;
  getrlimit(RLIMIT_NOFILE, &descriptors);
  descriptors.rlim_cur = descriptors.rlim_max;
  setrlimit(RLIMIT_NOFILE, &descriptors);
  gatepost::benchmark::Server server;
  const gatepost::benchmark::Ports& ports = server.ports();
  std::printf("{\"imap\": %u, \"pop3\": %u, \"smtp\": %u, \"auth_http\": %u}\n", ports.imap,
              ports.pop3, ports.smtp, ports.auth_http);
  std::fflush(stdout);
  server.Run();
}
