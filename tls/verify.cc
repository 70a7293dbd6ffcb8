// Is this the backend we meant? RFC 5280 §6 by the library, RFC 9525 for the name.
//
// Runs inside a handshake, on a worker's thread: no file, no network, no revocation lookup.
// SPDX-License-Identifier: Apache-2.0
#include "tls/internal.h"

namespace gatepost::tls {
namespace {

constexpr size_t kNamesShown = 4;

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

}  // namespace

tl::expected<void, VerifyFailure> VerifyChain(const STACK_OF(CRYPTO_BUFFER) * chain,
                                              X509_STORE* store, const std::string& name) {
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
  X509* leaf = sk_X509_value(certificates.get(), 0);

  bssl::UniquePtr<X509_STORE_CTX> context(X509_STORE_CTX_new());
  bool ready = context &&
               X509_STORE_CTX_init(context.get(), store, leaf, certificates.get()) == 1 &&
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
  const bool good = X509_verify_cert(context.get()) == 1;
  ERR_clear_error();
  if (good) return {};
  const auto alert =
      SSL_alert_from_verify_result(static_cast<long>(X509_STORE_CTX_get_error(context.get())));
  return tl::unexpected(
      VerifyFailure{FailureText(context.get(), *leaf, name), static_cast<uint8_t>(alert)});
}

}  // namespace gatepost::tls
