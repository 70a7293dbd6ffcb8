// OCSP responses that are stapled: is this file one, about this certificate, and until when?
//
// Private to tls/ and its tests. The responder's signature is for clients to verify, who trust us
// no more than the responder does. RFC 6960 §4.2.1.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <tl/expected.hpp>

#include "tls/error.h"
#include "tls/internal.h"

namespace gatepost::tls {

// CheckOcspResponse returns when the response (DER) about `certificate` ends, the end of time where
// it does not say; an error, without a file's name, where it says nothing good about it.
[[nodiscard]] tl::expected<std::chrono::system_clock::time_point, Error> CheckOcspResponse(
    std::span<const uint8_t> der, const X509& certificate);

}  // namespace gatepost::tls
