// The PROXY protocol: says who the client is, before all else. Read from proxies in front of us,
// and written to backends.
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
  std::string_view cipher = {};       // as OpenSSL names it
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

// EncodeProxyV1 returns the header in version 1, which can tell of nothing but the addresses. Where
// one of both is IPv6, the other is v4-mapped: receivers want one family. A connection of our own
// has our own addresses there: Postfix refuses the kind UNKNOWN.
[[nodiscard]] std::string EncodeProxyV1(const ProxyEndpoint& source,
                                        const ProxyEndpoint& destination);

// What the beginning of a connection is, as far as it has come.
struct ProxyReading {
  enum class Status : uint8_t {
    kNeedInput,
    kMalformed,  // no header of the accepted versions, or one that contradicts itself
    kLocal,      // the connection is the proxy's own, or of a kind that has no IP addresses
    kClient      // it is made for the client that `header` tells of
  };
  Status status = Status::kNeedInput;
  unsigned version = 0;     // 1 or 2; 0: neither can be told
  size_t bytes = 0;         // of the whole header; kLocal and kClient
  ProxyHeader header = {};  // kClient; views point into the input
};

// A version 2 header with all its TLVs has at most so many bytes.
inline constexpr size_t kMaxProxyHeaderBytesRead = 4096;

// ReadProxy reads a header of an accepted version at the beginning of `input`. What is malformed is
// so however much more may come. A checksum must be right, unknown TLVs are skipped, and so is all
// that a version 1 header of kind UNKNOWN says.
[[nodiscard]] ProxyReading ReadProxy(std::string_view input, bool version1, bool version2);

// ProxyHeaderBytes returns how much of `input` can belong to the header that begins it: all, as
// long as its end is not in sight.
[[nodiscard]] size_t ProxyHeaderBytes(std::string_view input);

}  // namespace gatepost::protocols
