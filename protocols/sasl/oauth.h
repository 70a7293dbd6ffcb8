// The messages of XOAUTH2 and OAUTHBEARER: a user's name and a bearer token.
//
// RFC 7628 (OAUTHBEARER, with the header of RFC 5801 and the names of RFC 5802), RFC 6750 (bearer
// tokens); XOAUTH2 as Google and Microsoft document it. Pure functions.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "protocols/buffer.h"
#include "protocols/sasl/credentials.h"

namespace gatepost::sasl {

// ParseOauth reads a client's first message, not base64 any more, of kXoauth2 or kOauthbearer;
// nothing when it is malformed, names no user (RFC 7628 lets a client leave that to the token, but
// we route by name), asks for channel binding, or holds no token of the characters that RFC 6750
// allows.
[[nodiscard]] std::optional<Credentials> ParseOauth(Mechanism mechanism, std::string_view message);

// AppendOauth appends the message, not base64, that presents `credentials` in `mechanism`,
// whichever way they came. False, and nothing appended, where the token or the name can't be
// written.
[[nodiscard]] bool AppendOauth(Mechanism mechanism, const Credentials& credentials,
                               protocols::Buffer& output);

// OauthFailure is the error challenge for a refused token (RFC 7628 §3.2.2), not base64.
inline constexpr std::string_view kOauthFailure = R"({"status":"invalid_token"})";

// OauthDummy is what a client says to an error challenge: %x01 (RFC 7628 §3.2.3), or nothing.
[[nodiscard]] constexpr std::string_view OauthDummy(Mechanism mechanism) {
  return mechanism == Mechanism::kOauthbearer ? std::string_view("\x01") : std::string_view();
}

// DecodeSaslName appends the name that `text` stands for, "=2C" and "=3D" being "," and "="
// (RFC 5802 §5.1); false when it is none.
[[nodiscard]] bool DecodeSaslName(std::string_view text, std::string& name);

}  // namespace gatepost::sasl
