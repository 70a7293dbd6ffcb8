// What the files of tls/ share: BoringSSL's headers, PEM files, words for certificates.
//
// Private to tls/ and its tests. The only place that decides which <openssl/…> is meant.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <openssl/base.h>
#ifndef OPENSSL_IS_BORINGSSL
#error "This is OpenSSL: Gatepost needs BoringSSL's headers (see tls/FindBoringSSL.cmake)"
#endif

#include <openssl/bytestring.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pool.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <chrono>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>
#include <vector>

#include "tls/channel.h"
#include "tls/client_context.h"
#include "tls/client_verifier.h"
#include "tls/error.h"
#include "tls/profile.h"

namespace gatepost::tls {

// Credential is a certificate chain, leaf first, and its private key. Immutable once loaded;
// handshakes take references of their own to what they use.
struct Credential {
  Credential() = default;
  Credential(const Credential&) = delete;
  Credential& operator=(const Credential&) = delete;
  ~Credential() {
    for (CRYPTO_BUFFER* certificate : chain) CRYPTO_BUFFER_free(certificate);
  }

  std::vector<CRYPTO_BUFFER*> chain;  // owned references, in the form SSL_set_chain_and_key takes
  bssl::UniquePtr<EVP_PKEY> key;
  uint16_t curve = 0;                     // TLS id of an ECDSA key's curve; 0 for RSA
  bssl::UniquePtr<CRYPTO_BUFFER> staple;  // an OCSP response; null: none
  std::chrono::system_clock::time_point stapled_until;
};

// FileBytes is a file's content, wiped when it goes: it may be a private key.
class FileBytes {
 public:
  explicit FileBytes(std::vector<char> bytes) : bytes_(std::move(bytes)) {}
  FileBytes(FileBytes&&) = default;
  FileBytes& operator=(FileBytes&&) = delete;
  ~FileBytes() { OPENSSL_cleanse(bytes_.data(), bytes_.size()); }

  // Both are valid as long as this.
  [[nodiscard]] std::span<const uint8_t> bytes() const {
    return {reinterpret_cast<const uint8_t*>(bytes_.data()), bytes_.size()};
  }
  [[nodiscard]] std::string_view text() const { return {bytes_.data(), bytes_.size()}; }

  // MemoryBio returns a BIO that reads the bytes, which must outlive it.
  [[nodiscard]] bssl::UniquePtr<BIO> MemoryBio() const;

 private:
  std::vector<char> bytes_;
};

// ReadFile returns all of `file`, which must be a regular file of at most 4 MiB.
[[nodiscard]] tl::expected<FileBytes, Error> ReadFile(const std::filesystem::path& file);

struct ParsedCertificate {
  bssl::UniquePtr<CRYPTO_BUFFER> der;
  bssl::UniquePtr<X509> x509;
};

// ReadCertificates returns the certificates in the PEM file `file`, in order; at least one. Blocks
// of other kinds are skipped.
[[nodiscard]] tl::expected<std::vector<ParsedCertificate>, Error> ReadCertificates(
    const std::filesystem::path& file);

// ReadCrls returns the certificate revocation lists in the PEM file `file`; at least one.
[[nodiscard]] tl::expected<std::vector<bssl::UniquePtr<X509_CRL>>, Error> ReadCrls(
    const std::filesystem::path& file);

// TrustStore returns a store that trusts each of `certificates`, be it a root, an intermediate or a
// leaf.
[[nodiscard]] tl::expected<bssl::UniquePtr<X509_STORE>, Error> TrustStore(
    const std::vector<ParsedCertificate>& certificates);

// ReadPrivateKey returns the first private key in the PEM file `file`.
[[nodiscard]] tl::expected<bssl::UniquePtr<EVP_PKEY>, Error> ReadPrivateKey(
    const std::filesystem::path& file);

// Printable returns `text` with everything but printable ASCII replaced by '?', cut at `limit`.
std::string Printable(std::string_view text, size_t limit = 200);

// HostName returns `name` in lower case and without its final dot, or nothing where it is not made
// of host-name characters (letters, digits, '-', '_', '.') or too long. An IPv6 address comes back
// without abbreviations. A name in other letters must come as A-labels (RFC 5890 §2.3.2.1).
std::string HostName(std::string_view name);

// NameText returns a distinguished name as RFC 4514 writes it: "CN=mail.example.org,O=Example", cut
// where it is too long for a log.
std::string NameText(const X509_NAME* name);
// WholeNameText returns all of it, to be compared. Other characters than printable ASCII are
// escaped, so that different names stay different. Empty: it cannot be written so.
std::string WholeNameText(const X509_NAME* name);

// SubjectNames returns the DNS names and addresses of the subject alternative name, lower case.
std::vector<std::string> SubjectNames(const X509& certificate);

// TimePoint converts; the epoch where `time` is malformed.
std::chrono::system_clock::time_point TimePoint(const ASN1_TIME* time);

// DateText returns the day: "2026-11-22".
std::string DateText(std::chrono::system_clock::time_point time);

// IsAddress tells whether `name` is an IPv4 or IPv6 literal.
bool IsAddress(const std::string& name);

// TakeLibraryError returns the library's oldest error in words and clears its queue.
std::string TakeLibraryError();
// LibraryError says that `doing` failed, and why.
Error LibraryError(std::string_view doing);

// SetOffer applies `offer`; false: the library's error queue says why not.
[[nodiscard]] bool SetOffer(SSL_CTX* context, const Offer& offer);

// VerifyFailure says why a peer's certificate was refused.
struct VerifyFailure {
  std::string text;
  uint8_t alert;
  FailedCheck check = FailedCheck::kOther;
};

// VerifyServer checks a server's `chain` (leaf first): against `store` and for `name`, unless
// `store` is null; and that one of `pins`, unless there are none, is the key of a certificate in
// the chain as it was verified, or of the leaf where nothing was. Returns until when all of it is
// valid.
[[nodiscard]] tl::expected<std::chrono::system_clock::time_point, VerifyFailure> VerifyServer(
    const STACK_OF(CRYPTO_BUFFER) * chain, X509_STORE* store, const std::string& name,
    const std::vector<KeyPin>& pins);

// VerifyClient checks a client's `chain` (leaf first) against `store`, and says who it is. Where it
// is not `verified`, `alert` is what the client should be told.
struct VerifiedClient {
  ClientCertificate certificate;
  uint8_t alert = 0;
  std::chrono::system_clock::time_point not_after;  // of the leaf
};
[[nodiscard]] VerifiedClient VerifyClient(const STACK_OF(CRYPTO_BUFFER) * chain, X509_STORE* store);

}  // namespace gatepost::tls
