// Base64 for SASL exchanges (RFC 4648 §4, strict: no line breaks, padding required).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "protocols/buffer.h"

namespace gatepost::sasl {

// EncodeBase64 appends the base64 of `bytes` to `output`.
void EncodeBase64(std::string_view bytes, protocols::Buffer& output);

// DecodeBase64 appends the decoded bytes to `output`; false (and nothing usable appended) when
// `text` is not canonical base64. Empty text is valid and empty.
[[nodiscard]] bool DecodeBase64(std::string_view text, protocols::Buffer& output);

}  // namespace gatepost::sasl
