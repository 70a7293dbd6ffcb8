// Socket addresses: literals to sockaddr and back, and the key by which addresses are limited.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>

namespace gatepost::net {

// Address is an IPv4 or IPv6 address with a port.
class Address {
 public:
  Address() = default;
  explicit Address(const sockaddr* address);

  // Parse reads an address literal (IPv6 without brackets).
  [[nodiscard]] static std::optional<Address> Parse(const std::string& host, uint16_t port);

  // FromMapped is the reverse of Mapped.
  [[nodiscard]] static Address FromMapped(const std::array<uint8_t, 16>& bytes, uint16_t port);

  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage_); }
  [[nodiscard]] socklen_t length() const;
  [[nodiscard]] int family() const { return storage_.v6.sin6_family; }
  [[nodiscard]] uint16_t port() const;
  void set_port(uint16_t port);
  // "192.0.2.1" or "2001:db8::1".
  [[nodiscard]] std::string Host() const;
  // "192.0.2.1:143" or "[2001:db8::1]:143".
  [[nodiscard]] std::string Text() const;

  // The IPv6 address, or the v4-mapped one (RFC 4291 §2.5.5.2) of an IPv4 address.
  [[nodiscard]] std::array<uint8_t, 16> Mapped() const;

  // What limits per client count together: the IPv4 address, or the /64 of an IPv6 address.
  using NetworkKey = std::array<uint8_t, 9>;
  [[nodiscard]] NetworkKey Network() const;

 private:
  union Storage {
    sockaddr_in v4;
    sockaddr_in6 v6;
  } storage_{.v6 = {}};
};

}  // namespace gatepost::net
