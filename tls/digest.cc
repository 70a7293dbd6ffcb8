// SPDX-License-Identifier: Apache-2.0
#include "tls/digest.h"

#include <openssl/mem.h>
#include <openssl/sha.h>

#include "tls/internal.h"

namespace gatepost::tls {

std::array<uint8_t, 32> Sha256(std::initializer_list<std::string_view> pieces) {
  std::array<uint8_t, SHA256_DIGEST_LENGTH> digest{};
  SHA256_CTX hash;
  SHA256_Init(&hash);
  for (const std::string_view piece : pieces) SHA256_Update(&hash, piece.data(), piece.size());
  SHA256_Final(digest.data(), &hash);
  OPENSSL_cleanse(&hash, sizeof(hash));
  return digest;
}

}  // namespace gatepost::tls
