// Classifies what the library says about a broken connection. Private to tls/.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

#include "tls/channel.h"

namespace gatepost::tls {

struct Diagnosis {
  Failure failure;
  std::string text;
  uint8_t alert = 0;  // that the peer sent; 0: none
};

// TakeDiagnosis reads the library's error queue, clears it, and says what happened. `in_handshake`
// and `is_server` tell at which point and on which side.
Diagnosis TakeDiagnosis(bool in_handshake, bool is_server);

// CleartextAlert reads the alert that a client sent in cleartext where the library expects
// ciphertext, and cannot read it: OpenSSL does that in TLS 1.3 when it refuses our certificate.
// `received` is what has come last. Good for words only: anybody may have sent it.
std::optional<Diagnosis> CleartextAlert(Bytes received);

// ClassifyPlaintext tells what kind of client speaks like this instead of TLS.
Plaintext ClassifyPlaintext(Bytes first_bytes);

// DescribePlaintext says what kind of client speaks like this instead of TLS: "an HTTP request".
std::string DescribePlaintext(Bytes first_bytes);

}  // namespace gatepost::tls
