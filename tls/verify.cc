// Is this the backend we meant, or a client we know? RFC 5280 §6 by the library, RFC 9525 for the
// name.
//
// Runs inside a handshake, on a worker's thread: no file, no network, no revocation lookup.
// SPDX-License-Identifier: Apache-2.0
#include <openssl/nid.h>
#include <openssl/sha.h>

#include <algorithm>
#include <array>
#include <optional>
#include <span>

#include "tls/internal.h"

namespace gatepost::tls {
namespace {

constexpr size_t kNamesShown = 4;

constexpr int kMaxClientDepth = 8;  // of intermediates

// Whom the certificate is for, as far as it fits a line.
std::string NamesText(const X509& certificate) {
  const std::vector<std::string> names = SubjectNames(certificate);
  if (names.empty()) {
    return "no name (its subject is " + NameText(X509_get_subject_name(&certificate)) + ")";
  }
  std::string text;
  for (size_t i = 0; i < names.size() && i < kNamesShown; ++i) {
    if (i > 0) text += ", ";
    text += names[i];
  }
  if (names.size() > kNamesShown) text += ", ...";
  return text;
}

std::string FailureText(X509_STORE_CTX* context, const X509& leaf, const std::string& name) {
  const int error = X509_STORE_CTX_get_error(context);
  if (error == X509_V_ERR_HOSTNAME_MISMATCH || error == X509_V_ERR_IP_ADDRESS_MISMATCH) {
    return "the certificate is for " + NamesText(leaf) + ", not " + Printable(name);
  }
  std::string text =
      std::string("certificate verification failed: ") + X509_verify_cert_error_string(error);
  const X509* at = X509_STORE_CTX_get_current_cert(context);
  if (at == nullptr) at = &leaf;
  if (error == X509_V_ERR_CERT_HAS_EXPIRED) {
    text += " on " + DateText(TimePoint(X509_get0_notAfter(at)));
  } else if (error == X509_V_ERR_CERT_NOT_YET_VALID) {
    text += " before " + DateText(TimePoint(X509_get0_notBefore(at)));
  }
  return text + " (subject " + NameText(X509_get_subject_name(at)) + ", issuer " +
         NameText(X509_get_issuer_name(at)) + ")";
}

FailedCheck CheckOf(int error) {
  switch (error) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
      return FailedCheck::kExpired;
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return FailedCheck::kNotYetValid;
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
      return FailedCheck::kName;
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
      return FailedCheck::kUnknownCa;
    default:
      return FailedCheck::kOther;
  }
}

tl::expected<bssl::UniquePtr<STACK_OF(X509)>, VerifyFailure> ParseChain(
    const STACK_OF(CRYPTO_BUFFER) * chain) {
  bssl::UniquePtr<STACK_OF(X509)> certificates(sk_X509_new_null());
  for (size_t i = 0; chain != nullptr && i < sk_CRYPTO_BUFFER_num(chain); ++i) {
    bssl::UniquePtr<X509> parsed(X509_parse_from_buffer(sk_CRYPTO_BUFFER_value(chain, i)));
    if (!parsed || !bssl::PushToStack(certificates.get(), std::move(parsed))) {
      return tl::unexpected(
          VerifyFailure{"a certificate of the peer cannot be parsed: " + TakeLibraryError(),
                        SSL_AD_BAD_CERTIFICATE});
    }
  }
  if (sk_X509_num(certificates.get()) == 0) {
    return tl::unexpected(VerifyFailure{"the peer sent no certificate", SSL_AD_BAD_CERTIFICATE});
  }
  return certificates;
}

// Run verifies with a context that is ready. `name` is for the words of a mismatch.
tl::expected<void, VerifyFailure> Run(X509_STORE_CTX* context, const X509& leaf,
                                      const std::string& name) {
  const bool good = X509_verify_cert(context) == 1;
  ERR_clear_error();
  if (good) return {};
  const int error = X509_STORE_CTX_get_error(context);
  const auto alert = SSL_alert_from_verify_result(static_cast<long>(error));
  return tl::unexpected(
      VerifyFailure{FailureText(context, leaf, name), static_cast<uint8_t>(alert), CheckOf(error)});
}

// The leaf's issuer must have a CRL; a CA above may have none.
int TolerateMissingCrl(int good, X509_STORE_CTX* context) {
  if (good == 1) return 1;
  return X509_STORE_CTX_get_error(context) == X509_V_ERR_UNABLE_TO_GET_CRL &&
                 X509_STORE_CTX_get_error_depth(context) > 0
             ? 1
             : 0;
}

bool IsLineOfText(std::string_view text) {
  return !text.empty() && std::none_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 0x20 || byte == 0x7f;
  });
}

// The one common name of a subject, in UTF-8. Of several, nobody can say which one is meant.
std::string CommonName(const X509_NAME* subject) {
  const int index = X509_NAME_get_index_by_NID(const_cast<X509_NAME*>(subject), NID_commonName, -1);
  if (index < 0) return {};
  if (X509_NAME_get_index_by_NID(const_cast<X509_NAME*>(subject), NID_commonName, index) >= 0) {
    return {};
  }
  const ASN1_STRING* value = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, index));
  uint8_t* utf8 = nullptr;
  const int size = ASN1_STRING_to_UTF8(&utf8, const_cast<ASN1_STRING*>(value));
  bssl::UniquePtr<uint8_t> owner(utf8);
  ERR_clear_error();
  if (size <= 0) return {};
  std::string text(reinterpret_cast<const char*>(utf8), static_cast<size_t>(size));
  return IsLineOfText(text) ? text : std::string();
}

// With one among them that is no line of ASCII, nobody can say which one is meant.
std::vector<std::string> Emails(const X509& certificate) {
  bssl::UniquePtr<GENERAL_NAMES> names(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(&certificate, NID_subject_alt_name, nullptr, nullptr)));
  ERR_clear_error();
  std::vector<std::string> emails;
  if (!names) return emails;
  for (const GENERAL_NAME* name : names.get()) {
    if (name->type != GEN_EMAIL) continue;
    const auto* data = reinterpret_cast<const char*>(ASN1_STRING_get0_data(name->d.rfc822Name));
    const std::string_view text(data, static_cast<size_t>(ASN1_STRING_length(name->d.rfc822Name)));
    const bool ascii = std::all_of(text.begin(), text.end(),
                                   [](char c) { return static_cast<unsigned char>(c) < 0x80; });
    if (!ascii || !IsLineOfText(text)) return {};
    emails.emplace_back(text);
  }
  return emails;
}

std::optional<KeyPin> KeyDigest(const X509& certificate) {
  uint8_t* der = nullptr;
  const int size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(&certificate), &der);
  bssl::UniquePtr<uint8_t> owner(der);
  ERR_clear_error();
  if (size <= 0) return std::nullopt;
  KeyPin digest;
  SHA256(der, static_cast<size_t>(size), digest.data());
  return digest;
}

std::string Hexadecimal(std::span<const uint8_t> bytes, const char* digits = "0123456789abcdef") {
  std::string text;
  for (const uint8_t byte : bytes) {
    text += digits[byte >> 4];
    text += digits[byte & 15];
  }
  return text;
}

std::string SerialText(const X509& certificate) {
  const ASN1_INTEGER* serial = X509_get0_serialNumber(&certificate);
  const auto* data = ASN1_STRING_get0_data(serial);
  const auto size = static_cast<size_t>(ASN1_STRING_length(serial));
  const std::string digits = Hexadecimal({data, size}, "0123456789ABCDEF");
  return (ASN1_STRING_type(serial) == V_ASN1_NEG_INTEGER ? "-" : "") +
         (digits.empty() ? std::string("00") : digits);
}

std::string Base64(const KeyPin& digest) {
  std::array<uint8_t, 45> text;
  const size_t size = EVP_EncodeBlock(text.data(), digest.data(), digest.size());
  return {reinterpret_cast<const char*>(text.data()), size};
}

// Whether one of `pins` is the key of one of `certificates`.
tl::expected<void, VerifyFailure> CheckPins(const std::vector<const X509*>& certificates,
                                            const std::vector<KeyPin>& pins) {
  if (pins.empty()) return {};
  for (const X509* certificate : certificates) {
    const auto digest = KeyDigest(*certificate);
    if (digest && std::find(pins.begin(), pins.end(), *digest) != pins.end()) return {};
  }
  const auto leaf = KeyDigest(*certificates.front());
  return tl::unexpected(
      VerifyFailure{"none of the pins is " +
                        std::string(certificates.size() == 1 ? "the certificate's key"
                                                             : "a key of the certificate's chain") +
                        " (its own is " + (leaf ? Base64(*leaf) : "not readable") + ")",
                    SSL_AD_BAD_CERTIFICATE, FailedCheck::kPin});
}

}  // namespace

tl::expected<std::chrono::system_clock::time_point, VerifyFailure> VerifyServer(
    const STACK_OF(CRYPTO_BUFFER) * chain, X509_STORE* store, const std::string& name,
    const std::vector<KeyPin>& pins) {
  auto valid_until = std::chrono::system_clock::time_point::max();
  if (store == nullptr && pins.empty()) return valid_until;
  const auto certificates = ParseChain(chain);
  if (!certificates) return tl::unexpected(certificates.error());
  X509* leaf = sk_X509_value(certificates->get(), 0);
  if (store == nullptr) {  // what stands behind the leaf proves nothing
    if (auto pinned = CheckPins({leaf}, pins); !pinned) return tl::unexpected(pinned.error());
    return valid_until;
  }
  bssl::UniquePtr<X509_STORE_CTX> context(X509_STORE_CTX_new());
  bool ready = context &&
               X509_STORE_CTX_init(context.get(), store, leaf, certificates->get()) == 1 &&
               X509_STORE_CTX_set_default(context.get(), "ssl_server") == 1;
  if (ready) {
    X509_VERIFY_PARAM* parameters = X509_STORE_CTX_get0_param(context.get());
    X509_VERIFY_PARAM_set_hostflags(
        parameters, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
    ready = IsAddress(name)
                ? X509_VERIFY_PARAM_set1_ip_asc(parameters, name.c_str()) == 1
                : X509_VERIFY_PARAM_set1_host(parameters, name.data(), name.size()) == 1;
  }
  if (!ready) {  // an empty name, or one with a NUL inside
    ERR_clear_error();
    return tl::unexpected(VerifyFailure{
        "there is no usable name to verify the certificate against: \"" + Printable(name) + "\"",
        SSL_AD_INTERNAL_ERROR});
  }
  if (auto good = Run(context.get(), *leaf, name); !good) return tl::unexpected(good.error());
  std::vector<const X509*> verified;
  for (const X509* certificate : X509_STORE_CTX_get0_chain(context.get())) {
    verified.push_back(certificate);
    valid_until = std::min(valid_until, TimePoint(X509_get0_notAfter(certificate)));
  }
  if (auto pinned = CheckPins(verified, pins); !pinned) return tl::unexpected(pinned.error());
  return valid_until;
}

VerifiedClient VerifyClient(const STACK_OF(CRYPTO_BUFFER) * chain, X509_STORE* store) {
  VerifiedClient client;
  const auto refuse = [&client](const VerifyFailure& failure) {
    client.certificate.problem = failure.text;
    client.alert = failure.alert;
  };
  const auto certificates = ParseChain(chain);
  if (!certificates) {
    refuse(certificates.error());
    return client;
  }
  X509* leaf = sk_X509_value(certificates->get(), 0);
  client.certificate.subject = WholeNameText(X509_get_subject_name(leaf));
  client.certificate.issuer = WholeNameText(X509_get_issuer_name(leaf));
  client.certificate.serial = SerialText(*leaf);
  const CRYPTO_BUFFER* der = sk_CRYPTO_BUFFER_value(chain, 0);
  client.certificate.der.assign(reinterpret_cast<const char*>(CRYPTO_BUFFER_data(der)),
                                CRYPTO_BUFFER_len(der));
  std::array<uint8_t, SHA_DIGEST_LENGTH> sha1;
  SHA1(CRYPTO_BUFFER_data(der), CRYPTO_BUFFER_len(der), sha1.data());
  client.certificate.sha1 = Hexadecimal(sha1);
  client.not_after = TimePoint(X509_get0_notAfter(leaf));
  bssl::UniquePtr<X509_STORE_CTX> context(X509_STORE_CTX_new());
  if (!context || X509_STORE_CTX_init(context.get(), store, leaf, certificates->get()) != 1 ||
      X509_STORE_CTX_set_default(context.get(), "ssl_client") != 1) {
    refuse({"the verification cannot begin: " + TakeLibraryError(), SSL_AD_INTERNAL_ERROR});
    return client;
  }
  X509_VERIFY_PARAM_set_depth(X509_STORE_CTX_get0_param(context.get()), kMaxClientDepth);
  X509_STORE_CTX_set_verify_cb(context.get(), TolerateMissingCrl);
  if (const auto verified = Run(context.get(), *leaf, {}); !verified) {
    refuse(verified.error());
    return client;
  }
  client.certificate.verified = true;
  client.certificate.common_name = CommonName(X509_get_subject_name(leaf));
  client.certificate.emails = Emails(*leaf);
  if (const auto digest = KeyDigest(*leaf)) client.certificate.spki_sha256 = Hexadecimal(*digest);
  return client;
}

tl::expected<bssl::UniquePtr<X509_STORE>, Error> TrustStore(
    const std::vector<ParsedCertificate>& certificates) {
  bssl::UniquePtr<X509_STORE> store(X509_STORE_new());
  bool added = store != nullptr;
  for (const ParsedCertificate& certificate : certificates) {
    added = added && X509_STORE_add_cert(store.get(), certificate.x509.get()) == 1;
  }
  // What stands in the file is trusted, be it a root, an intermediate or the peer's own.
  added = added && X509_STORE_set_flags(store.get(),
                                        X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_TRUSTED_FIRST) == 1;
  if (!added) {
    return tl::unexpected(Error{"taking the trusted certificates failed: " + TakeLibraryError()});
  }
  ERR_clear_error();
  return store;
}

}  // namespace gatepost::tls
