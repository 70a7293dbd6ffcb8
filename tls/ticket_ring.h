// One state of the ticket keys, and what a handshake does with it. Private to tls/.
//
// A ticket is AES-256-CBC under HMAC-SHA256, RFC 5077 §4; the library computes both.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <openssl/hmac.h>
#include <openssl/mem.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

#include "tls/channel.h"
#include "tls/internal.h"

namespace gatepost::tls {

// TicketKey is wiped when it goes.
struct TicketKey {
  static constexpr size_t kNameBytes = 16;
  static constexpr size_t kMacBytes = 32;
  static constexpr size_t kCipherBytes = 32;
  static constexpr size_t kBytes = kNameBytes + kMacBytes + kCipherBytes;

  TicketKey() = default;
  TicketKey(const TicketKey&) = default;
  TicketKey& operator=(const TicketKey&) = default;
  ~TicketKey() { OPENSSL_cleanse(bytes.data(), bytes.size()); }

  [[nodiscard]] std::span<const uint8_t> name() const {
    return std::span(bytes).first<kNameBytes>();
  }
  [[nodiscard]] const uint8_t* mac() const { return bytes.data() + kNameBytes; }
  [[nodiscard]] const uint8_t* cipher() const { return mac() + kMacBytes; }
  bool operator==(const TicketKey&) const = default;

  std::array<uint8_t, kBytes> bytes{};
};

struct TicketRing {
  std::vector<TicketKey> keys;  // the oldest first; never empty
  size_t sealing = 0;           // the index of the one that seals

  // Seal prepares the library's encryption of a new ticket: it fills `name` and `iv`. Returns what
  // SSL_CTX_set_tlsext_ticket_key_cb wants.
  int Seal(uint8_t* name, uint8_t* iv, EVP_CIPHER_CTX* cipher, HMAC_CTX* mac) const;
  // Open prepares the decryption of the ticket that `name` stands in, the same way; a ticket of an
  // older key is renewed. `use` becomes what is to be counted.
  int Open(const uint8_t* name, const uint8_t* iv, EVP_CIPHER_CTX* cipher, HMAC_CTX* mac,
           TicketUse* use) const;
};

// ParseTicketKeys reads the lines that TicketKeys::Load describes. An error's text goes behind the
// file's name: ":LINE: what", or ": what".
[[nodiscard]] tl::expected<TicketRing, Error> ParseTicketKeys(std::string_view text);

}  // namespace gatepost::tls
