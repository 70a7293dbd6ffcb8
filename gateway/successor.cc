// SPDX-License-Identifier: Apache-2.0
#include "gateway/successor.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string_view>

extern char** environ;

namespace gatepost {
namespace {

constexpr const char* kVariable = "GATEPOST_INHERITED_SOCKETS";
constexpr int kFirst = 3;                 // behind standard error, as sd_listen_fds(3) has it
constexpr uint64_t kPatienceMs = 60'000;  // for certificates without end, and a slow disk
constexpr char kServes = 's';

// What only the process itself was told, or what it says itself.
bool IsPrivate(std::string_view variable) {
  static constexpr std::array<std::string_view, 5> kNames = {
      "LISTEN_PID=", "LISTEN_FDS=", "LISTEN_FDNAMES=", "WATCHDOG_PID=",
      "GATEPOST_INHERITED_SOCKETS="};
  return std::any_of(kNames.begin(), kNames.end(),
                     [&](std::string_view name) { return variable.starts_with(name); });
}

std::optional<int> TakeNumber(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr) return std::nullopt;
  const std::string_view digits = text;
  int number = -1;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  unsetenv(name);
  if (error != std::errc() || end != digits.data() + digits.size() || number < 0) {
    return std::nullopt;
  }
  return number;
}

}  // namespace

Successor::Successor(uv_loop_t* loop, Observer& observer)
    : observer_(observer),
      process_(new uv_process_t{}),
      pipe_(new uv_pipe_t),
      patience_(new uv_timer_t) {
  process_->loop = loop;
  uv_pipe_init(loop, pipe_.get(), 0);
  uv_timer_init(loop, patience_.get());
  pipe_->data = patience_->data = this;
}

tl::expected<std::unique_ptr<Successor>, std::string> Successor::Start(
    uv_loop_t* loop, const std::vector<std::string>& arguments, const std::vector<int>& sockets,
    Observer& observer) {
  std::vector<uv_stdio_container_t> files;
  const auto inherit = [&files](int descriptor) {
    uv_stdio_container_t file{};
    file.flags = UV_INHERIT_FD;
    file.data.fd = descriptor;
    files.push_back(file);
  };
  for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) inherit(standard);
  for (const int descriptor : sockets) inherit(descriptor);
  std::unique_ptr<Successor> self(new Successor(loop, observer));
  uv_stdio_container_t pipe{};
  pipe.flags = static_cast<uv_stdio_flags>(UV_CREATE_PIPE | UV_WRITABLE_PIPE);
  pipe.data.stream = reinterpret_cast<uv_stream_t*>(self->pipe_.get());
  files.push_back(pipe);

  std::vector<char*> words;
  words.reserve(arguments.size() + 1);
  for (const std::string& argument : arguments)
    words.push_back(const_cast<char*>(argument.c_str()));
  words.push_back(nullptr);
  std::string inherited = fmt::format("{}={}", kVariable, sockets.size());
  std::vector<char*> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (!IsPrivate(*variable)) variables.push_back(*variable);
  }
  variables.push_back(inherited.data());
  variables.push_back(nullptr);

  uv_process_options_t options{};
  options.file = words.front();
  options.args = words.data();
  options.env = variables.data();
  options.stdio = files.data();
  options.stdio_count = static_cast<int>(files.size());
  options.exit_cb = [](uv_process_t* process, int64_t, int) {
    if (process->data != nullptr) static_cast<Successor*>(process->data)->Tell(false);
  };
  const int error = uv_spawn(loop, self->process_.get(), &options);
  self->process_->data = self.get();
  if (error != 0) {
    return tl::unexpected(
        fmt::format("{} can't be run: {}", arguments.front(), uv_strerror(error)));
  }
  uv_read_start(
      reinterpret_cast<uv_stream_t*>(self->pipe_.get()),
      [](uv_handle_t* handle, size_t, uv_buf_t* buffer) {
        *buffer = uv_buf_init(&static_cast<Successor*>(handle->data)->word_, 1);
      },
      [](uv_stream_t* stream, ssize_t length, const uv_buf_t*) {
        if (stream->data == nullptr || length == 0) return;
        auto& own = *static_cast<Successor*>(stream->data);
        uv_read_stop(stream);
        if (length > 0 && own.word_ == kServes) own.Tell(true);
        // Its end is told by the exit.
      });
  uv_timer_start(
      self->patience_.get(),
      [](uv_timer_t* timer) {
        if (timer->data != nullptr) static_cast<Successor*>(timer->data)->Kill();
      },
      kPatienceMs, 0);
  return self;
}

void Successor::Kill() {
  uv_process_kill(process_.get(), SIGKILL);
}

void Successor::Tell(bool serves) {
  if (told_) return;
  told_ = true;
  uv_timer_stop(patience_.get());
  observer_.OnSuccessor(serves);
}

Inheritance Inheritance::Take() {
  Inheritance inheritance;
  const std::optional<int> process = TakeNumber("LISTEN_PID");
  const std::optional<int> from_systemd = TakeNumber("LISTEN_FDS");
  unsetenv("LISTEN_FDNAMES");
  const std::optional<int> from_predecessor = TakeNumber(kVariable);
  const bool ours = process == getpid();
  const int count = from_predecessor ? *from_predecessor : ours ? from_systemd.value_or(0) : 0;
  for (int descriptor = kFirst; descriptor < kFirst + count; ++descriptor) {
    fcntl(descriptor, F_SETFD, FD_CLOEXEC);
    fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK);
    inheritance.sockets.push_back(descriptor);
  }
  if (from_predecessor) {
    inheritance.predecessor = kFirst + count;
    fcntl(inheritance.predecessor, F_SETFD, FD_CLOEXEC);
  }
  return inheritance;
}

void Inheritance::Serves() {
  if (predecessor < 0) return;
  (void)send(predecessor, &kServes, 1, MSG_NOSIGNAL);
  close(predecessor);
  predecessor = -1;
}

}  // namespace gatepost
