// SPDX-License-Identifier: Apache-2.0
#include "tls/keyed_hash.h"

#include <openssl/rand.h>
#include <openssl/siphash.h>

#include "tls/internal.h"

namespace gatepost::tls {

KeyedHash::KeyedHash() {
  RAND_bytes(reinterpret_cast<uint8_t*>(key_.data()), sizeof(key_));  // BoringSSL's cannot fail
}

uint64_t KeyedHash::Of(std::string_view bytes, uint64_t tweak) const {
  const std::array<uint64_t, 2> key = {key_[0] ^ tweak, key_[1]};
  return SIPHASH_24(key.data(), reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
}

}  // namespace gatepost::tls
