// The versions, cipher suites and groups that a listener or a backend connection offers.
//
// Mozilla's guideline 5.7 is the model: modern, intermediate, and what it calls old. Its DHE suites
// drop out, since BoringSSL has none. Knows no library type.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

namespace gatepost::tls {

// Versions and algorithms that a listener offers.
enum class Profile : uint8_t {
  kModern,        // TLS 1.3
  kIntermediate,  // TLS 1.2 with ECDHE and AEAD, TLS 1.3
  kLegacy,        // TLS 1.0 and up, CBC and RSA key exchange too: for old printers and scanners
};

// Offer is a profile in the library's terms.
struct Offer {
  uint16_t minimum_version;  // as on the wire: 0x0303 is TLS 1.2
  uint16_t maximum_version;
  const char* ciphers;  // for TLS 1.2 and below; the suites of TLS 1.3 are the library's
  bool split_cbc_records;
};

// OfferOf returns what `profile` stands for.
Offer OfferOf(Profile profile);

// BackendOffer returns what connections to backends use: TLS 1.2 at least, and every suite that an
// old server may need, the good ones first.
Offer BackendOffer();

// Names of groups in order of preference. The post-quantum one is left out where the library does
// not know it, and toward backends, since old servers stumble over a ClientHello of two segments.
inline constexpr std::string_view kServerGroups[] = {"X25519MLKEM768:X25519:P-256:P-384",
                                                     "X25519:P-256:P-384"};
inline constexpr std::string_view kBackendGroups = "X25519:P-256:P-384";

}  // namespace gatepost::tls
