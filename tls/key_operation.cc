// SPDX-License-Identifier: Apache-2.0
#include "tls/key_operation.h"

#include <openssl/mem.h>
#include <openssl/rsa.h>

#include "tls/internal.h"

namespace gatepost::tls {

KeyOperation::KeyOperation(EVP_PKEY& key, uint16_t algorithm, Bytes message)
    : key_(&key), algorithm_(algorithm), input_(message.begin(), message.end()) {
  EVP_PKEY_up_ref(key_);
}

KeyOperation::KeyOperation(EVP_PKEY& key, Bytes encrypted) : KeyOperation(key, 0, encrypted) {}

KeyOperation::~KeyOperation() {
  OPENSSL_cleanse(result_.data(), result_.size());  // what was decrypted makes the session's keys
  EVP_PKEY_free(key_);
}

void KeyOperation::Run() {
  if (algorithm_ == 0) {
    Decrypt();
  } else {
    Sign();
  }
  ERR_clear_error();  // this thread's; the handshake fails with words of its own
}

void KeyOperation::Sign() {
  bssl::ScopedEVP_MD_CTX context;
  EVP_PKEY_CTX* padding = nullptr;
  if (EVP_DigestSignInit(context.get(), &padding, SSL_get_signature_algorithm_digest(algorithm_),
                         nullptr, key_) != 1) {
    return;
  }
  // RFC 8446 §4.2.3: the salt is as long as the digest.
  if (SSL_is_signature_algorithm_rsa_pss(algorithm_) == 1 &&
      (EVP_PKEY_CTX_set_rsa_padding(padding, RSA_PKCS1_PSS_PADDING) != 1 ||
       EVP_PKEY_CTX_set_rsa_pss_saltlen(padding, -1) != 1)) {
    return;
  }
  size_t size = static_cast<size_t>(EVP_PKEY_size(key_));
  result_.resize(size);
  const bool done =
      EVP_DigestSign(context.get(), result_.data(), &size, input_.data(), input_.size()) == 1;
  result_.resize(done ? size : 0);
}

void KeyOperation::Decrypt() {
  RSA* rsa = EVP_PKEY_get0_RSA(key_);
  if (rsa == nullptr) return;
  size_t size = RSA_size(rsa);
  result_.resize(size);
  const bool done = RSA_decrypt(rsa, &size, result_.data(), result_.size(), input_.data(),
                                input_.size(), RSA_NO_PADDING) == 1;
  result_.resize(done ? size : 0);
}

}  // namespace gatepost::tls
