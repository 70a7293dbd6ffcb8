// SPDX-License-Identifier: Apache-2.0
#include "gateway/net/listener.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace gatepost::net {
namespace {

constexpr int kBacklog = 4096;       // the kernel caps it at net.core.somaxconn
constexpr int kAcceptsPerTurn = 32;  // then the others have theirs
constexpr uint64_t kRestMs = 100;    // after a failure, most likely for want of descriptors

}  // namespace

tl::expected<int, std::string> Bind(const Address& address, bool share) {
  const int descriptor = socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const auto fail = [&](const char* what) {
    std::string text = std::string(what) + " " + address.Text() + ": " + std::strerror(errno);
    if (errno == EACCES) text += " (ports below 1024 need root or CAP_NET_BIND_SERVICE)";
    if (descriptor >= 0) close(descriptor);
    return tl::unexpected(std::move(text));
  };
  if (descriptor < 0) return fail("socket for");
  const int on = 1;
  setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (share && setsockopt(descriptor, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0) {
    return fail("SO_REUSEPORT for");
  }
  if (address.family() == AF_INET6) {
    setsockopt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
  }
  if (bind(descriptor, address.get(), address.length()) != 0) return fail("bind to");
  return descriptor;
}

Listener::Listener(uv_loop_t* loop, int descriptor, size_t listener_index, Observer& observer)
    : loop_(loop),
      descriptor_(descriptor),
      listener_index_(listener_index),
      observer_(observer),
      poll_(new uv_poll_t),
      rest_(new uv_timer_t) {
  uv_poll_init(loop_, poll_.get(), descriptor_);
  poll_->data = this;
  uv_timer_init(loop_, rest_.get());
  rest_->data = this;
}

Listener::~Listener() {
  uv_poll_stop(poll_.get());
  poll_.reset();  // libuv has forgotten the descriptor when uv_close returns
  close(descriptor_);
}

int Listener::Start() {
  if (listen(descriptor_, kBacklog) != 0) return uv_translate_sys_error(errno);
  return Watch();
}

int Listener::Watch() {
  return uv_poll_start(poll_.get(), UV_READABLE, [](uv_poll_t* poll, int, int) {
    if (poll->data != nullptr) static_cast<Listener*>(poll->data)->AcceptAll();
  });
}

void Listener::AcceptAll() {
  for (int i = 0; i < kAcceptsPerTurn; ++i) {
    sockaddr_storage peer{};
    socklen_t length = sizeof(peer);
    const int descriptor = accept4(descriptor_, reinterpret_cast<sockaddr*>(&peer), &length,
                                   SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (descriptor < 0) {
      if (errno == EAGAIN || errno == EWOULDBLOCK) return;
      if (errno == ECONNABORTED || errno == EINTR) continue;
      const int status = uv_translate_sys_error(errno);
      Rest();
      return observer_.OnAcceptError(listener_index_, status);
    }
    HandlePtr<uv_tcp_t> connection(new uv_tcp_t);
    uv_tcp_init(loop_, connection.get());
    if (uv_tcp_open(connection.get(), descriptor) != 0) {
      close(descriptor);
      continue;
    }
    observer_.OnAccept(listener_index_, Address(reinterpret_cast<const sockaddr*>(&peer)),
                       std::move(connection));
  }
}

void Listener::Rest() {
  uv_poll_stop(poll_.get());
  uv_timer_start(
      rest_.get(),
      [](uv_timer_t* timer) {
        if (timer->data != nullptr) (void)static_cast<Listener*>(timer->data)->Watch();
      },
      kRestMs, 0);
}

}  // namespace gatepost::net
