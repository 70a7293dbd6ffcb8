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

constexpr int kBacklog = 4096;  // the kernel caps it at net.core.somaxconn

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
    : observer_(observer), listener_index_(listener_index), handle_(new uv_tcp_t) {
  uv_tcp_init(loop, handle_.get());
  uv_tcp_open(handle_.get(), descriptor);
  handle_->data = this;
}

int Listener::Start() {
  return uv_listen(reinterpret_cast<uv_stream_t*>(handle_.get()), kBacklog,
                   [](uv_stream_t* server, int status) {
                     if (server->data != nullptr)
                       static_cast<Listener*>(server->data)->Accept(status);
                   });
}

void Listener::Accept(int status) {
  if (status < 0) return observer_.OnAcceptError(listener_index_, status);
  HandlePtr<uv_tcp_t> connection(new uv_tcp_t);
  uv_tcp_init(handle_->loop, connection.get());
  status = uv_accept(reinterpret_cast<uv_stream_t*>(handle_.get()),
                     reinterpret_cast<uv_stream_t*>(connection.get()));
  if (status < 0) return observer_.OnAcceptError(listener_index_, status);
  observer_.OnAccept(listener_index_, std::move(connection));
}

}  // namespace gatepost::net
