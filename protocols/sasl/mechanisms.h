// SASL mechanisms, both sides, as exchanges of base64 lines; the framing is the protocols'.
//
// RFC 4422, its appendix A (EXTERNAL), RFC 4616 (PLAIN), draft-murchison-sasl-login (LOGIN). One
// thread. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "protocols/buffer.h"
#include "protocols/sasl/credentials.h"

namespace gatepost::sasl {

// FindMechanism returns the mechanism of a SASL name (any case), or nothing when it isn't known.
[[nodiscard]] std::optional<Mechanism> FindMechanism(std::string_view name);

// ServerExchange is one authentication exchange with the client.
class ServerExchange {
 public:
  enum class Status : uint8_t {
    kChallenge,  // send challenge() (base64, may be empty) and call Step with the client's line
    kDone,       // TakeCredentials()
    kBadBase64,  // the client's line is not base64
    kMalformed,  // well-formed base64, but not a message of the mechanism, or NUL/CR/LF in a part,
                 // or an empty authentication identity
    kAborted     // the client sent "*"
  };

  // `external_identity` is whom the TLS connection proved the client to be; for EXTERNAL only.
  explicit ServerExchange(Mechanism mechanism, std::string_view external_identity = {});

  // Begin starts the exchange. `initial_response` is the base64 text from the command; "=" means an
  // empty initial response (RFC 4954 §4), nothing means none was sent.
  [[nodiscard]] Status Begin(std::optional<std::string_view> initial_response);
  // Step takes the client's next line without CRLF.
  [[nodiscard]] Status Step(std::string_view line);

  // Base64 of the challenge to send after kChallenge.
  [[nodiscard]] std::string_view challenge() const { return challenge_; }

  // TakeCredentials returns what the client presented; once, after kDone.
  [[nodiscard]] Credentials TakeCredentials();

 private:
  Status Accept(std::string_view message);

  Credentials credentials_;
  std::string_view challenge_;
  bool have_user_ = false;
};

// AppendPlain appends the base64 of the PLAIN message for `credentials` (RFC 4616 §2) to `output`.
void AppendPlain(const Credentials& credentials, protocols::Buffer& output);

// WithoutPassword returns a backend's words for the log, unless they quote the password of
// `credentials`, as it is or as it went over the wire.
[[nodiscard]] std::string WithoutPassword(std::string_view text, const Credentials& credentials);

}  // namespace gatepost::sasl
