// Classifies what the library says about a broken connection. Private to tls/.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "tls/channel.h"

namespace gatepost::tls {

struct Diagnosis {
  Failure failure;
  std::string text;
};

// TakeDiagnosis reads the library's error queue, clears it, and says what happened. `in_handshake`
// and `is_server` tell at which point and on which side.
Diagnosis TakeDiagnosis(bool in_handshake, bool is_server);

// DescribePlaintext says what kind of client speaks like this instead of TLS: "an HTTP request".
std::string DescribePlaintext(Bytes first_bytes);

}  // namespace gatepost::tls
