// OCSP responses from a file that anybody may have written.
// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "tls/internal.h"
#include "tls/ocsp.h"

// The certificate of the corpus's responses: serial number 1 suffices, no signature is looked at.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const bssl::UniquePtr<X509> certificate = [] {
    bssl::UniquePtr<X509> made(X509_new());
    ASN1_INTEGER_set(X509_get_serialNumber(made.get()), 1);
    return made;
  }();
  const auto until = gatepost::tls::CheckOcspResponse({data, size}, *certificate);
  if (!until && until.error().text.empty()) std::abort();
  if (ERR_peek_error() != 0) std::abort();
  return 0;
}
