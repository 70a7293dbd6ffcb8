// Where processes that have handed over to a newer one (an upgrade) are still asked: beside the
// control socket, each at a socket of its own.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <vector>

namespace gatepost::control {

// OldSocket returns the path for the process, where `socket` is the one that all share in turn.
[[nodiscard]] std::filesystem::path OldSocket(const std::filesystem::path& socket, pid_t process);

// OldSockets returns those that are there; whether somebody listens is not asked.
[[nodiscard]] std::vector<std::filesystem::path> OldSockets(const std::filesystem::path& socket);

}  // namespace gatepost::control
