// The address of a unix socket with a path.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <string>

namespace gatepost::control {

// The configuration makes sure that a path fits.
struct SocketAddress {
  explicit SocketAddress(const std::string& path) {
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
  }
  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&address); }
  [[nodiscard]] static socklen_t length() { return sizeof(sockaddr_un); }

  sockaddr_un address{};
};

}  // namespace gatepost::control
