// SPDX-License-Identifier: Apache-2.0
#include "gateway/control/old_sockets.h"

#include <string>
#include <string_view>
#include <system_error>

namespace gatepost::control {

std::filesystem::path OldSocket(const std::filesystem::path& socket, pid_t process) {
  return socket.string() + "." + std::to_string(process);
}

std::vector<std::filesystem::path> OldSockets(const std::filesystem::path& socket) {
  std::vector<std::filesystem::path> sockets;
  const std::string prefix = socket.filename().string() + ".";
  const std::filesystem::path folder = socket.has_parent_path() ? socket.parent_path() : ".";
  std::error_code error;
  for (auto entry = std::filesystem::directory_iterator(folder, error);
       !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name.size() <= prefix.size() || !name.starts_with(prefix)) continue;
    if (name.find_first_not_of("0123456789", prefix.size()) != std::string::npos) continue;
    std::error_code unknown;
    if (entry->symlink_status(unknown).type() != std::filesystem::file_type::socket) continue;
    sockets.push_back(folder / name);
  }
  return sockets;
}

}  // namespace gatepost::control
