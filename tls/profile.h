// The versions, cipher suites, groups and signature algorithms that a listener or a backend
// connection offers.
//
// Mozilla's guideline 5.7 is the model: modern, intermediate, and what it calls old. Its DHE suites
// drop out, since BoringSSL has none. Knows no library type.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <tuple>
#include <vector>

namespace gatepost::tls {

// Versions and algorithms that a listener offers.
enum class Profile : uint8_t {
  kModern,        // TLS 1.3
  kIntermediate,  // TLS 1.2 with ECDHE and AEAD, TLS 1.3
  kLegacy,        // TLS 1.0 and up, CBC and RSA key exchange too: for old printers and scanners
};

// What a listener wants instead of its profile's; nothing and empty lists leave the profile alone.
struct OfferSettings {
  std::optional<uint16_t> minimum_version;        // as on the wire: 0x0303 is TLS 1.2
  std::vector<std::string> groups;                // "X25519", "P-256" or "secp256r1"
  std::vector<std::string> ciphers;               // names of OpenSSL or IANA, of TLS 1.2 and below
  std::vector<std::string> signature_algorithms;  // names of TLS 1.3, RFC 8446 §4.2.3

  // An order, for maps.
  friend bool operator<(const OfferSettings& a, const OfferSettings& b) {
    return std::tie(a.minimum_version, a.groups, a.ciphers, a.signature_algorithms) <
           std::tie(b.minimum_version, b.groups, b.ciphers, b.signature_algorithms);
  }
};

// Offer is a profile, with a listener's settings in it, in the library's terms.
struct Offer {
  uint16_t minimum_version = 0;  // as on the wire
  uint16_t maximum_version = 0;
  std::string ciphers;  // for TLS 1.2 and below; the suites of TLS 1.3 are the library's
  std::string groups;   // by preference, separated by colons
  // What we sign with and accept from clients; empty: the library's.
  std::vector<uint16_t> signature_algorithms;
  bool split_cbc_records = false;
  bool own_order = false;  // of suites and groups; else the client's order decides
};

// Which element of which setting is wrong, and what would be right.
struct SettingError {
  enum class Setting : uint8_t { kMinimumVersion, kGroups, kCiphers, kSignatureAlgorithms };
  Setting setting;
  size_t element;    // of the list, from 0
  std::string text;  // one line, completes "KEY: "
};

// MakeOffer returns what `profile` stands for, with `settings` in it, or every setting that this
// build's library does not know or that nobody could use.
[[nodiscard]] tl::expected<Offer, std::vector<SettingError>> MakeOffer(
    Profile profile, const OfferSettings& settings = {});

// BackendOffer returns what connections to backends use: every suite that an old server may need,
// the good ones first. Without the post-quantum group: old servers stumble over a ClientHello of
// two segments. `minimum_version` as on the wire.
[[nodiscard]] Offer BackendOffer(uint16_t minimum_version = 0x0303);

// Groups by the names that Facts::group has; what else a library may negotiate counts as "other".
inline constexpr std::array<std::string_view, 5> kGroupNames = {"X25519MLKEM768", "X25519", "P-256",
                                                                "P-384", "P-521"};

// VersionText returns "1.2" for 0x0303.
[[nodiscard]] std::string_view VersionText(uint16_t version);

}  // namespace gatepost::tls
