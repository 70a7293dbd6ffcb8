// SPDX-License-Identifier: Apache-2.0
#include "gateway/net/address.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>

namespace gatepost::net {

Address::Address(const sockaddr* address) {
  if (address->sa_family == AF_INET) std::memcpy(&storage_.v4, address, sizeof(storage_.v4));
  if (address->sa_family == AF_INET6) {
    std::memcpy(&storage_.v6, address, sizeof(storage_.v6));
    // A v4-mapped address is the IPv4 client that it is.
    if (IN6_IS_ADDR_V4MAPPED(&storage_.v6.sin6_addr)) {
      sockaddr_in v4{};
      v4.sin_family = AF_INET;
      v4.sin_port = storage_.v6.sin6_port;
      std::memcpy(&v4.sin_addr, storage_.v6.sin6_addr.s6_addr + 12, 4);
      storage_.v6 = {};
      storage_.v4 = v4;
    }
  }
}

std::optional<Address> Address::Parse(const std::string& host, uint16_t port) {
  Address address;
  if (inet_pton(AF_INET, host.c_str(), &address.storage_.v4.sin_addr) == 1) {
    address.storage_.v4.sin_family = AF_INET;
  } else if (inet_pton(AF_INET6, host.c_str(), &address.storage_.v6.sin6_addr) == 1) {
    address.storage_.v6.sin6_family = AF_INET6;
  } else {
    return std::nullopt;
  }
  address.set_port(port);
  return address;
}

Address Address::FromMapped(const std::array<uint8_t, 16>& bytes, uint16_t port) {
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_port = htons(port);
  std::memcpy(address.sin6_addr.s6_addr, bytes.data(), bytes.size());
  return Address(reinterpret_cast<const sockaddr*>(&address));
}

socklen_t Address::length() const {
  return family() == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
}

uint16_t Address::port() const {
  return ntohs(storage_.v6.sin6_port);
}
void Address::set_port(uint16_t port) {
  storage_.v6.sin6_port = htons(port);
}

std::string Address::Host() const {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const void* address = family() == AF_INET ? static_cast<const void*>(&storage_.v4.sin_addr)
                                            : static_cast<const void*>(&storage_.v6.sin6_addr);
  if (inet_ntop(family(), address, text.data(), text.size()) == nullptr) return "unknown";
  return text.data();
}

std::string Address::Text() const {
  const std::string host = Host();
  const std::string number = std::to_string(port());
  return family() == AF_INET6 ? "[" + host + "]:" + number : host + ":" + number;
}

std::array<uint8_t, 16> Address::Mapped() const {
  std::array<uint8_t, 16> bytes{};
  if (family() == AF_INET) {
    bytes[10] = bytes[11] = 0xff;
    std::memcpy(bytes.data() + 12, &storage_.v4.sin_addr, 4);
  } else {
    std::memcpy(bytes.data(), storage_.v6.sin6_addr.s6_addr, bytes.size());
  }
  return bytes;
}

Address::NetworkKey Address::Network() const {
  NetworkKey key{};
  if (family() == AF_INET) {
    key[0] = 4;
    std::memcpy(key.data() + 1, &storage_.v4.sin_addr, 4);
  } else {
    key[0] = 6;
    std::memcpy(key.data() + 1, storage_.v6.sin6_addr.s6_addr, 8);
  }
  return key;
}

}  // namespace gatepost::net
