// SPDX-License-Identifier: Apache-2.0
#include "gateway/control/server.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "gateway/control/old_sockets.h"
#include "gateway/control/socket_address.h"

namespace gatepost::control {
namespace {

constexpr size_t kMaxRequestBytes = 4096;
constexpr size_t kMaxConnections = 16;
constexpr int kBacklog = 16;
constexpr uint64_t kRequestMs = 5'000;    // for a client to ask
constexpr uint64_t kFarewellMs = 10'000;  // for a client to take the answer

// Somebody listens at `path`, and not a gateway that has died.
bool Alive(const std::string& path) {
  const int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (descriptor < 0) return false;
  const SocketAddress address(path);
  const bool connected = connect(descriptor, address.get(), SocketAddress::length()) == 0;
  const bool busy = !connected && errno == EAGAIN;
  close(descriptor);
  return connected || busy;
}

// ListenAt returns a socket at `path` that has had these permissions from its first moment on. It
// is made beside the path and moved there, so that somebody listens at every moment.
tl::expected<int, std::string> ListenAt(const std::string& path, mode_t mode, bool take_over) {
  struct stat status {};
  if (lstat(path.c_str(), &status) == 0) {
    if (!S_ISSOCK(status.st_mode)) return tl::unexpected(path + " is there, and is no socket");
    if (!take_over && Alive(path)) return tl::unexpected("another process listens at " + path);
  }
  const std::string beside = path + ".new";
  (void)unlink(beside.c_str());
  const int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (descriptor < 0) return tl::unexpected(std::string(std::strerror(errno)));
  const SocketAddress address(beside);
  // Linux gives the file the permissions of the socket, less the umask; chmod adds what that took.
  if (fchmod(descriptor, mode) != 0 ||
      bind(descriptor, address.get(), SocketAddress::length()) != 0 ||
      chmod(beside.c_str(), mode) != 0 || listen(descriptor, kBacklog) != 0 ||
      rename(beside.c_str(), path.c_str()) != 0) {
    std::string error = path + ": " + std::strerror(errno);
    (void)unlink(beside.c_str());
    close(descriptor);
    return tl::unexpected(std::move(error));
  }
  return descriptor;
}

mode_t ModeOf(config::SocketMode mode) {
  return mode == config::SocketMode::kGroup ? 0660 : 0600;
}

// A write that outlives the connection it is for: libuv ends it when the handle is closed.
struct Write {
  uv_write_t request;
  std::string text;
};

}  // namespace

tl::expected<std::unique_ptr<Server>, std::string> Server::Start(uv_loop_t* loop,
                                                                 const config::Admin& settings,
                                                                 bool take_over, Gateway& gateway,
                                                                 CurrentLog log) {
  for (const std::filesystem::path& old : OldSockets(*settings.socket)) {
    if (!Alive(old.string())) (void)unlink(old.c_str());
  }
  std::unique_ptr<Server> server(
      new Server(loop, ModeOf(settings.socket_mode), gateway, std::move(log)));
  if (auto listens = server->Listen(*settings.socket, take_over); !listens) {
    return tl::unexpected("admin.socket: " + listens.error());
  }
  return server;
}

tl::expected<void, std::string> Server::Listen(const std::filesystem::path& path, bool take_over) {
  const auto descriptor = ListenAt(path.string(), mode_, take_over);
  if (!descriptor) return tl::unexpected(descriptor.error());
  path_ = path;
  struct stat status {};
  if (stat(path.c_str(), &status) == 0) {
    device_ = status.st_dev;
    inode_ = status.st_ino;
  }
  listener_.reset(new uv_pipe_t);
  uv_pipe_t* const pipe = listener_.get();
  uv_pipe_init(loop_, pipe, 0);
  pipe->data = this;
  int error = uv_pipe_open(pipe, *descriptor);
  if (error != 0) {
    close(*descriptor);
  } else {
    error = uv_listen(reinterpret_cast<uv_stream_t*>(pipe), kBacklog, [](uv_stream_t* stream, int) {
      if (stream->data != nullptr) static_cast<Server*>(stream->data)->Accept();
    });
  }
  if (error != 0) return tl::unexpected(path.string() + ": " + uv_strerror(error));
  return {};
}

tl::expected<void, std::string> Server::MakeWay() {
  return Listen(OldSocket(path_, getpid()), false);
}

tl::expected<void, std::string> Server::ComeBack() {
  return Listen(path_, true);
}

Server::~Server() {
  struct stat status {};
  if (!path_.empty() && lstat(path_.c_str(), &status) == 0 && status.st_dev == device_ &&
      status.st_ino == inode_) {
    (void)unlink(path_.c_str());
  }
}

void Server::SetDeadline(Connection& connection, uint64_t delay_ms) {
  uv_timer_start(
      connection.deadline.get(),
      [](uv_timer_t* timer) {
        if (timer->data == nullptr) return;
        auto& self = *static_cast<Connection*>(timer->data);
        self.server->OnDeadline(self);
      },
      delay_ms, 0);
}

void Server::Accept() {
  auto connection = std::make_unique<Connection>();
  connection->server = this;
  connection->id = ++last_id_;
  connection->pipe.reset(new uv_pipe_t);
  uv_pipe_t* const pipe = connection->pipe.get();
  uv_pipe_init(loop_, pipe, 0);
  pipe->data = connection.get();
  auto* const stream = reinterpret_cast<uv_stream_t*>(pipe);
  if (uv_accept(reinterpret_cast<uv_stream_t*>(listener_.get()), stream) != 0) return;
  if (connections_.size() >= kMaxConnections) return;  // whoever is one too many is closed
  connection->deadline.reset(new uv_timer_t);
  uv_timer_init(loop_, connection->deadline.get());
  connection->deadline->data = connection.get();
  SetDeadline(*connection, kRequestMs);
  uv_read_start(
      stream,
      [](uv_handle_t* handle, size_t, uv_buf_t* buffer) {
        auto& scratch = static_cast<Connection*>(handle->data)->server->scratch_;
        *buffer = uv_buf_init(scratch, sizeof(scratch));
      },
      [](uv_stream_t* from, ssize_t size, const uv_buf_t* buffer) {
        if (from->data == nullptr || size == 0) return;
        auto& self = *static_cast<Connection*>(from->data);
        Server& server = *self.server;
        if (size < 0) {
          // A client may end its direction behind the request, and still wait for the answer.
          if (size != UV_EOF || !self.asked) server.connections_.erase(self.id);
          return;
        }
        if (self.asked) return;  // nothing belongs behind a request
        self.request.append(buffer->base, static_cast<size_t>(size));
        server.OnBytes(self);
      });
  connections_[connection->id] = std::move(connection);
}

void Server::OnBytes(Connection& connection) {
  const size_t end = connection.request.find('\n');
  if (end == std::string::npos && connection.request.size() <= kMaxRequestBytes) return;
  connection.asked = true;
  if (end > kMaxRequestBytes) {
    return Reply(connection.id, tl::unexpected<std::string>("the request is too long"));
  }
  const std::string request = connection.request.substr(0, end);
  Ask(connection, request);
}

// Ask has the command answer, at once or later; the connection may be gone behind it.
void Server::Ask(Connection& connection, std::string_view request) {
  ucred peer{};
  socklen_t length = sizeof(peer);
  uv_os_fd_t descriptor = -1;
  uv_fileno(reinterpret_cast<const uv_handle_t*>(connection.pipe.get()), &descriptor);
  const bool known = getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0;
  const uint64_t id = connection.id;
  const Command* command =
      Serve(gateway_, request, [self = std::weak_ptr(self_), id](const Outcome& outcome) {
        if (const auto server = self.lock()) (*server)->Reply(id, outcome);
      });
  if (command == nullptr) return;
  const auto found = connections_.find(id);
  if (found != connections_.end() && !found->second->answered) {
    SetDeadline(*found->second, command->patience_ms);
  }
  if (!command->changes) return;
  log_().Write(observe::Level::kInfo, "control",
               {{"command", command->name},
                {"uid", known ? static_cast<int64_t>(peer.uid) : -1},
                {"pid", known ? static_cast<int64_t>(peer.pid) : -1},
                {"request", request}});
}

void Server::OnDeadline(Connection& connection) {
  if (connection.asked && !connection.answered) {
    return Reply(connection.id, tl::unexpected<std::string>("no answer in time"));
  }
  connections_.erase(connection.id);
}

void Server::Reply(uint64_t id, const Outcome& outcome) {
  const auto found = connections_.find(id);
  if (found == connections_.end() || found->second->answered) return;
  Connection& connection = *found->second;
  connection.answered = true;
  SetDeadline(connection, kFarewellMs);
  auto write = std::make_unique<Write>();
  write->text = AnswerLine(outcome);
  write->request.data = write.get();
  const uv_buf_t buffer =
      uv_buf_init(write->text.data(), static_cast<unsigned>(write->text.size()));
  const int error =
      uv_write(&write->request, reinterpret_cast<uv_stream_t*>(connection.pipe.get()), &buffer, 1,
               [](uv_write_t* request, int) {
                 const std::unique_ptr<Write> done(static_cast<Write*>(request->data));
                 if (request->handle->data == nullptr) return;
                 const auto& self = *static_cast<Connection*>(request->handle->data);
                 self.server->connections_.erase(self.id);
               });
  if (error == 0) {
    (void)write.release();  // the callback's
  } else {
    connections_.erase(found);
  }
}

}  // namespace gatepost::control
