// The profiles' lists. A change here is a change of tls_profile in the configuration reference.
// SPDX-License-Identifier: Apache-2.0
#include "tls/profile.h"

namespace gatepost::tls {
namespace {

constexpr uint16_t kTls10 = 0x0301;
constexpr uint16_t kTls12 = 0x0303;
constexpr uint16_t kTls13 = 0x0304;

#define GATEPOST_AEAD_CIPHERS      \
  "ECDHE-ECDSA-AES128-GCM-SHA256:" \
  "ECDHE-RSA-AES128-GCM-SHA256:"   \
  "ECDHE-ECDSA-AES256-GCM-SHA384:" \
  "ECDHE-RSA-AES256-GCM-SHA384:"   \
  "ECDHE-ECDSA-CHACHA20-POLY1305:" \
  "ECDHE-RSA-CHACHA20-POLY1305"

constexpr char kAeadCiphers[] = GATEPOST_AEAD_CIPHERS;
constexpr char kAllCiphers[] = GATEPOST_AEAD_CIPHERS
    ":ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA"
    ":ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES256-SHA"
    ":AES128-GCM-SHA256:AES256-GCM-SHA384:AES128-SHA:AES256-SHA";

#undef GATEPOST_AEAD_CIPHERS

}  // namespace

Offer OfferOf(Profile profile) {
  switch (profile) {
    case Profile::kModern:
      return {kTls13, kTls13, kAeadCiphers, false};
    case Profile::kIntermediate:
      return {kTls12, kTls13, kAeadCiphers, false};
    case Profile::kLegacy:
      break;
  }
  return {kTls10, kTls13, kAllCiphers, true};  // split: against BEAST, in TLS 1.0 only
}

Offer BackendOffer() {
  return {kTls12, kTls13, kAllCiphers, false};
}

}  // namespace gatepost::tls
