// The alerts of TLS by name, for metrics and words. RFC 8446 §6, RFC 5246 §7.2.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace gatepost::tls {

struct AlertName {
  uint8_t number;
  std::string_view name;
};

// Those that end a connection, in the order of their numbers.
inline constexpr std::array<AlertName, 29> kAlertNames = {{
    {10, "unexpected_message"},
    {20, "bad_record_mac"},
    {21, "decryption_failed"},
    {22, "record_overflow"},
    {30, "decompression_failure"},
    {40, "handshake_failure"},
    {42, "bad_certificate"},
    {43, "unsupported_certificate"},
    {44, "certificate_revoked"},
    {45, "certificate_expired"},
    {46, "certificate_unknown"},
    {47, "illegal_parameter"},
    {48, "unknown_ca"},
    {49, "access_denied"},
    {50, "decode_error"},
    {51, "decrypt_error"},
    {70, "protocol_version"},
    {71, "insufficient_security"},
    {80, "internal_error"},
    {86, "inappropriate_fallback"},
    {90, "user_canceled"},
    {109, "missing_extension"},
    {110, "unsupported_extension"},
    {112, "unrecognized_name"},
    {113, "bad_certificate_status_response"},
    {115, "unknown_psk_identity"},
    {116, "certificate_required"},
    {120, "no_application_protocol"},
    {121, "ech_required"},
}};

// AlertIndex returns the alert's place in kAlertNames, or kAlertNames.size() for any other number.
constexpr size_t AlertIndex(uint8_t number) {
  return static_cast<size_t>(
      std::find_if(kAlertNames.begin(), kAlertNames.end(),
                   [number](const AlertName& alert) { return alert.number == number; }) -
      kAlertNames.begin());
}

}  // namespace gatepost::tls
