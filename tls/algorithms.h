// What this build's library can negotiate, by the names that people use.
//
// Private to tls/. The library is asked, not assumed: the two that Gatepost is built with differ.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace gatepost::tls {

// FindGroup returns the library's name of a group ("P-256" for "secp256r1"), any case.
[[nodiscard]] std::optional<std::string> FindGroup(std::string_view name);
// GroupList names every group there is: "X25519, P-256, …".
[[nodiscard]] std::string GroupList();

// Cipher is a suite of TLS 1.2 or below.
struct Cipher {
  std::string name;  // the library's, as OpenSSL has it
  uint16_t minimum_version;
};
// FindCipher takes OpenSSL's name and IANA's, any case.
[[nodiscard]] std::optional<Cipher> FindCipher(std::string_view name);
[[nodiscard]] std::string CipherList();

// FindSignatureAlgorithm returns the id of a signature algorithm, RFC 8446 §4.2.3.
[[nodiscard]] std::optional<uint16_t> FindSignatureAlgorithm(std::string_view name);
[[nodiscard]] std::string SignatureAlgorithmList();

// Signs tells whether `algorithm` is made with a key of this kind: an ECDSA key on `curve`, or RSA
// where `curve` is 0. Since TLS 1.3 the algorithm names the curve, and RSA means PSS.
[[nodiscard]] bool Signs(uint16_t algorithm, uint16_t curve, bool tls13);

}  // namespace gatepost::tls
