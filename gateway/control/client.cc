// SPDX-License-Identifier: Apache-2.0
#include "gateway/control/client.h"

#include <fmt/format.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include "gateway/control/commands.h"
#include "gateway/control/documents.h"
#include "gateway/control/old_sockets.h"
#include "gateway/control/socket_address.h"

namespace gatepost::control {
namespace {

constexpr uint64_t kMorePatienceMs = 5'000;  // than the gateway has
constexpr auto kPollInterval = std::chrono::milliseconds(200);

class Descriptor {
 public:
  explicit Descriptor(int descriptor) : descriptor_(descriptor) {}
  ~Descriptor() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] int get() const { return descriptor_; }

 private:
  int descriptor_;
};

// AskOldProcesses adds what they answer; where the newest has refused, it may be theirs alone.
void AskOldProcesses(const Request& request, Outcome& outcome) {
  const Command& command = *FindCommand(request.command);
  if (command.add == nullptr) return;
  for (const std::filesystem::path& socket : OldSockets(request.socket)) {
    Request again = request;
    again.socket = socket;
    const auto line = Query(again);
    if (!line) continue;  // it has ended
    Outcome old = ParseAnswer(*line);
    if (!old) continue;
    if (outcome) {
      command.add(*outcome, *old);
    } else {
      outcome = std::move(old);
    }
  }
}

}  // namespace

tl::expected<std::string, std::string> Query(const Request& request) {
  const std::string path = request.socket.string();
  const auto failed = [&](int error) {
    return tl::unexpected(fmt::format("{}: {}{}", path, std::strerror(error),
                                      error == ENOENT || error == ECONNREFUSED
                                          ? " (the gateway does not run)"
                                      : error == EAGAIN ? " (no answer in time)"
                                                        : ""));
  };
  const Descriptor descriptor(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const Command* command = FindCommand(request.command);
  const uint64_t patience_ms =
      kMorePatienceMs + (command != nullptr ? command->patience_ms : uint64_t{0});
  const timeval patience{static_cast<time_t>(patience_ms / 1000), 0};
  setsockopt(descriptor.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  setsockopt(descriptor.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  const SocketAddress address(path);
  if (connect(descriptor.get(), address.get(), SocketAddress::length()) != 0) return failed(errno);
  nlohmann::json document = {{"command", request.command}};
  for (const auto& [key, value] : request.keys) {
    if (!value.empty()) document[key] = value;
  }
  if (request.limit) document["limit"] = *request.limit;
  const std::string line = Serialize(document) + "\n";
  for (size_t sent = 0; sent < line.size();) {
    const ssize_t size =
        send(descriptor.get(), line.data() + sent, line.size() - sent, MSG_NOSIGNAL);
    if (size < 0) return failed(errno);
    sent += static_cast<size_t>(size);
  }
  std::string answer;
  char buffer[65536];
  for (;;) {
    const ssize_t size = recv(descriptor.get(), buffer, sizeof(buffer), 0);
    if (size < 0) return failed(errno);
    if (size == 0) break;
    answer.append(buffer, static_cast<size_t>(size));
  }
  if (!answer.ends_with('\n')) {
    return tl::unexpected(path + ": the gateway closed the connection without an answer");
  }
  return answer;
}

int Run(const Request& request) {
  const auto line = Query(request);
  if (!line) {
    fmt::print(stderr, "gatepost: {}\n", line.error());
    return kNotRunning;
  }
  Outcome outcome = ParseAnswer(*line);
  AskOldProcesses(request, outcome);
  if (!outcome) {
    fmt::print(stderr, "gatepost: {}: {}\n", request.command, outcome.error());
    return kRefused;
  }
  const Command& command = *FindCommand(request.command);
  const bool good = command.good == nullptr || command.good(*outcome);
  if (request.json) {
    fmt::print("{}\n", Serialize(*outcome));
  } else {
    fmt::print(good ? stdout : stderr, "{}", command.show(*outcome));
  }
  return good ? kGood : kRefused;
}

void AwaitEnd(const std::filesystem::path& socket) {
  Request request;
  request.socket = socket;
  request.command = "status";
  const auto answers = [&](const std::filesystem::path& at) {
    request.socket = at;
    return Query(request).has_value();
  };
  const auto old_one = [&] {
    const auto sockets = OldSockets(socket);
    return std::any_of(sockets.begin(), sockets.end(), answers);
  };
  while (answers(socket) || old_one()) std::this_thread::sleep_for(kPollInterval);
}

}  // namespace gatepost::control
