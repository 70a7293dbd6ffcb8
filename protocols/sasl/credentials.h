// What a client proved or claims about itself, and the one type that holds a secret.
//
// RFC 4422 (SASL and, in its appendix A, EXTERNAL), RFC 4616 (PLAIN), RFC 7628 (OAUTHBEARER).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <iosfwd>
#include <memory>
#include <string>
#include <string_view>

namespace gatepost::sasl {

// Secret owns a password or token. It is wiped when destroyed or replaced, can't be copied by
// accident (Clone says so in words), compared in place, or printed.
class Secret {
 public:
  Secret() = default;
  explicit Secret(std::string_view bytes);
  ~Secret();
  Secret(Secret&& other) noexcept;
  Secret& operator=(Secret&& other) noexcept;
  Secret(const Secret&) = delete;
  Secret& operator=(const Secret&) = delete;

  [[nodiscard]] Secret Clone() const { return Secret(Reveal()); }
  // Reveal returns the bytes; the view is valid until the Secret changes. Never log it.
  [[nodiscard]] std::string_view Reveal() const { return {data_.get(), size_}; }
  [[nodiscard]] bool empty() const { return size_ == 0; }

 private:
  std::unique_ptr<char[]> data_;
  size_t size_ = 0;
};
std::ostream& operator<<(std::ostream&, const Secret&) = delete;

// How the client presented its credentials.
enum class Mechanism : uint8_t {
  kPlain,        // SASL PLAIN, RFC 4616
  kLogin,        // SASL LOGIN, draft-murchison-sasl-login
  kExternal,     // SASL EXTERNAL, RFC 4422 appendix A: by the certificate of the TLS connection
  kXoauth2,      // SASL XOAUTH2, Google's and Microsoft's: a bearer token
  kOauthbearer,  // SASL OAUTHBEARER, RFC 7628: the same
  kScramSha1,    // SASL SCRAM-SHA-1, RFC 5802; never with channel binding, for we end the channel
  kScramSha256,  // SASL SCRAM-SHA-256, RFC 7677
  kCramMd5,      // SASL CRAM-MD5, RFC 2195
  kProtocol,     // the protocol's own command: IMAP LOGIN, POP3 USER/PASS
  kApop,         // the POP3 command, RFC 1939 §7; no SASL
  kCount
};
// Name returns the mechanism's name for logs and metric labels: that of SASL, "cleartext" or
// "APOP".
std::string_view Name(Mechanism mechanism);

// IsToken says whether the password of such credentials is a bearer token.
[[nodiscard]] constexpr bool IsToken(Mechanism mechanism) {
  return mechanism == Mechanism::kXoauth2 || mechanism == Mechanism::kOauthbearer;
}

// IsRelayed says whether we only pass the messages of the mechanism between the client and who
// knows the password.
[[nodiscard]] constexpr bool IsRelayed(Mechanism mechanism) {
  return mechanism == Mechanism::kScramSha1 || mechanism == Mechanism::kScramSha256 ||
         mechanism == Mechanism::kCramMd5;
}

// Credentials as the client gave them. Neither identity nor the password contains NUL, CR or LF:
// the server engines refuse such input. The authorization identity is empty unless the client asked
// to act as somebody else (RFC 4422 §3.4.1). With kExternal the authentication identity is the user
// for whom the certificate stands, and there is no password. With kXoauth2 and kOauthbearer the
// password is the bearer token, and the authentication identity is whom the client names. With a
// relayed mechanism the password is the client's first message, which names the same identities;
// with kCramMd5, where the server speaks first, all is empty. With kApop the password is the
// client's digest of our greeting's timestamp and the password itself, in hexadecimal.
struct Credentials {
  Mechanism mechanism = Mechanism::kPlain;
  std::string authorization_identity;
  std::string authentication_identity;
  Secret password;

  [[nodiscard]] Credentials Clone() const {
    return {mechanism, authorization_identity, authentication_identity, password.Clone()};
  }
};

// How long credentials may be, in bytes, that somebody is asked about. A PLAIN message within these
// bounds has 6836 characters of base64: Dovecot reads 8192, in the response as in the request to
// its auth process, and SMTP 12286 (RFC 4954 §4). RFC 4616 §2 asks for 255 bytes each. Tokens are
// longer than passwords; not every backend takes the longest.
inline constexpr size_t kMaxIdentityBytes = 1024;  // both identities together
inline constexpr size_t kMaxPasswordBytes = 4096;  // of a relayed mechanism: any of its messages
inline constexpr size_t kMaxTokenBytes = 8192;

// IsTooLong says whether the credentials are beyond these bounds: wrong, wherever they are shown.
[[nodiscard]] bool IsTooLong(const Credentials& credentials);

// IsLongToken says whether the credentials hold a token with which some backends hang up.
[[nodiscard]] bool IsLongToken(const Credentials& credentials);

}  // namespace gatepost::sasl
