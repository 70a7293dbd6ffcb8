// SASL mechanisms, both sides, as exchanges of base64 lines; the framing is the protocols'.
//
// RFC 4422, its appendix A (EXTERNAL), RFC 4616 (PLAIN), draft-murchison-sasl-login (LOGIN); bearer
// tokens are oauth.h's, SCRAM's names scram.h's. One thread.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

#include "protocols/buffer.h"
#include "protocols/sasl/credentials.h"

namespace gatepost::sasl {

// A set of mechanisms.
class MechanismSet {
 public:
  constexpr MechanismSet() = default;
  constexpr MechanismSet(std::initializer_list<Mechanism> mechanisms) {
    for (const Mechanism mechanism : mechanisms) Add(mechanism);
  }
  [[nodiscard]] static constexpr MechanismSet All() {
    MechanismSet all;
    all.bits_ = Bit(Mechanism::kCount) - 1;
    return all;
  }
  constexpr void Add(Mechanism mechanism) { bits_ |= Bit(mechanism); }
  constexpr void Remove(Mechanism mechanism) { bits_ &= ~Bit(mechanism); }
  [[nodiscard]] constexpr bool Has(Mechanism mechanism) const {
    return (bits_ & Bit(mechanism)) != 0;
  }
  constexpr bool operator==(const MechanismSet&) const = default;
  friend constexpr MechanismSet operator|(MechanismSet a, MechanismSet b) {
    a.bits_ |= b.bits_;
    return a;
  }
  friend constexpr MechanismSet operator&(MechanismSet a, MechanismSet b) {
    a.bits_ &= b.bits_;
    return a;
  }

 private:
  static constexpr uint32_t Bit(Mechanism mechanism) {
    return uint32_t{1} << static_cast<uint32_t>(mechanism);
  }
  uint32_t bits_ = 0;
};

// Those that tell nobody a password.
inline constexpr MechanismSet kPasswordless = {Mechanism::kExternal, Mechanism::kScramSha1,
                                               Mechanism::kScramSha256, Mechanism::kCramMd5,
                                               Mechanism::kApop};

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
                 // or an empty authentication identity, or (tokens) none at all
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

// AppendFirst appends the base64 of the one message that presents `credentials` in `mechanism`:
// kPlain, a token's, or a relayed one, whose first message is the client's. False, and nothing
// appended, where they can't be written.
[[nodiscard]] bool AppendFirst(Mechanism mechanism, const Credentials& credentials,
                               protocols::Buffer& output);

// AppendPlain appends the base64 of the PLAIN message for `credentials` (RFC 4616 §2) to `output`.
void AppendPlain(const Credentials& credentials, protocols::Buffer& output);

// QuotesPassword says whether a backend's words contain the password (or token) of `credentials`,
// as it is or as it goes over the wire.
[[nodiscard]] bool QuotesPassword(std::string_view text, const Credentials& credentials);

// WithoutPassword returns a backend's words for the log, unless they quote the password.
[[nodiscard]] std::string WithoutPassword(std::string_view text, const Credentials& credentials);

}  // namespace gatepost::sasl
