// A private-key operation that a handshake waits for, to be computed away from the loop.
//
// It has all that it needs and nothing of the connection, which may go meanwhile. One owner at a
// time, on any thread. RFC 8446 §4.4.3, RFC 5246 §7.4.3 and §7.4.7.1.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

struct evp_pkey_st;  // BoringSSL's EVP_PKEY

namespace gatepost::tls {

class KeyOperation {
 public:
  ~KeyOperation();
  KeyOperation(const KeyOperation&) = delete;
  KeyOperation& operator=(const KeyOperation&) = delete;

  // Run computes the result: a signature, or what an RSA key decrypts to. It blocks: 0.4 ms with
  // RSA of 2048 bits or ECDSA P-384, 1 ms with P-521, 4 ms with RSA of 4096 bits.
  void Run();

 private:
  friend class Channel;
  using Bytes = std::span<const uint8_t>;

  // Both take a reference of their own to `key`.
  // `algorithm` is an SSL_SIGN_* id, `message` what the signature is over (not its digest).
  KeyOperation(evp_pkey_st& key, uint16_t algorithm, Bytes message);
  // Of the RSA key exchange: without padding.
  KeyOperation(evp_pkey_st& key, Bytes encrypted);

  void Sign();
  void Decrypt();

  evp_pkey_st* key_;
  uint16_t algorithm_ = 0;  // 0: decrypts
  std::vector<uint8_t> input_;
  std::vector<uint8_t> result_;  // empty: it failed, or was not run
};

}  // namespace gatepost::tls
