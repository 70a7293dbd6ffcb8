// The PROXY protocol, version 2, as its sender: tells a backend who the client is, before all else.
//
// haproxy's doc/proxy-protocol.txt. Pure functions.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace gatepost::protocols {

// An end of a TCP connection. An IPv4 address stands in its v4-mapped form (RFC 4291 §2.5.5.2).
struct ProxyEndpoint {
  std::array<uint8_t, 16> address{};
  uint16_t port = 0;
};

// What is told of the client's TLS.
struct ProxyTls {
  std::string_view version = {};      // "TLSv1.3"
  std::string_view cipher = {};       // standard name
  std::string_view group = {};        // may be empty
  bool certificate = false;           // the client presented one in this TLS session
  bool resumed = false;               // …but not over this connection
  bool verified = false;              // and it is believed
  std::string_view common_name = {};  // of a believed one; may be empty
};

// Views are valid during the call only. Empty texts are left out.
struct ProxyHeader {
  ProxyEndpoint source;          // the client
  ProxyEndpoint destination;     // where it connected to
  std::string_view alpn;         // negotiated with the client
  std::string_view server_name;  // SNI
  std::string_view session_id;
  std::optional<ProxyTls> tls;  // nothing: the client came without TLS
};

// Postfix reads no longer header than this. What does not fit is left out: the server name, ALPN,
// the session's id and TLS facts in this order, the addresses never.
inline constexpr size_t kMaxProxyHeaderBytes = 536;

// EncodeProxyV2 returns the header of a connection that is made for a client: IPv4 addresses where
// both are, else IPv6. With a CRC32c.
[[nodiscard]] std::string EncodeProxyV2(const ProxyHeader& header);

// EncodeProxyV2Local returns that of a connection of our own (LOCAL): the receiver keeps the real
// addresses.
[[nodiscard]] std::string EncodeProxyV2Local();

}  // namespace gatepost::protocols
