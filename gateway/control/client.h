// The client of the control socket: one request, one answer. Blocks; for the command line alone.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>

namespace gatepost::control {

// Exit codes of the commands, as the manual has them.
enum Exit : int {
  kGood = 0,
  kRefused = 1,        // by the gateway, or there was nothing to do
  kConfiguration = 2,  // of it, or the command line
  kNotRunning = 3      // or not reachable
};

struct Request {
  std::filesystem::path socket;
  std::string command;
  std::map<std::string, std::string> keys;  // of the request; those without a value are left out
  std::optional<uint32_t> limit;            // the key of that name
  bool json = false;                        // print the answer's JSON
};

// Query puts the request and returns the line that came; its error is one line for people.
[[nodiscard]] tl::expected<std::string, std::string> Query(const Request& request);

// Run queries the gateway, and where the command concerns them also the processes that an upgrade
// has left (OldSockets), prints the sum, or to standard error why there is none, and returns the
// exit code.
[[nodiscard]] int Run(const Request& request);

// AwaitEnd returns once nobody answers at the socket any more, nor at those of old processes.
void AwaitEnd(const std::filesystem::path& socket);

}  // namespace gatepost::control
