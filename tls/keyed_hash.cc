// SPDX-License-Identifier: Apache-2.0
#include "tls/keyed_hash.h"

#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/siphash.h>

#include <cstring>

#include "tls/internal.h"

namespace gatepost::tls {

KeyedHash::KeyedHash() {
  RAND_bytes(reinterpret_cast<uint8_t*>(key_.data()), sizeof(key_));  // BoringSSL's cannot fail
}

KeyedHash::KeyedHash(std::string_view secret) {
  std::array<uint8_t, SHA256_DIGEST_LENGTH> digest{};
  SHA256(reinterpret_cast<const uint8_t*>(secret.data()), secret.size(), digest.data());
  memcpy(key_.data(), digest.data(), sizeof(key_));
}

uint64_t KeyedHash::Of(std::string_view bytes, uint64_t tweak) const {
  const std::array<uint64_t, 2> key = {key_[0] ^ tweak, key_[1]};
  return SIPHASH_24(key.data(), reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
}

}  // namespace gatepost::tls
