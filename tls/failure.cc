// The table from the library's reasons to ours.
// SPDX-License-Identifier: Apache-2.0
#include "tls/failure.h"

#include <array>
#include <cstdio>

#include "tls/internal.h"

namespace gatepost::tls {
namespace {

constexpr std::array<std::string_view, 14> kNames = {"none",
                                                     "no_shared_cipher",
                                                     "no_shared_group",
                                                     "no_shared_signature",
                                                     "unsupported_version",
                                                     "plaintext",
                                                     "bad_alert",
                                                     "cert_unknown",
                                                     "verify",
                                                     "client_cert",
                                                     "alpn",
                                                     "server_name",
                                                     "eof",
                                                     "other"};
static_assert(kNames.size() == static_cast<size_t>(Failure::kCount));

Failure ClassifyAlert(int alert) {
  switch (alert) {
    case SSL_AD_BAD_CERTIFICATE:
    case SSL_AD_UNSUPPORTED_CERTIFICATE:
    case SSL_AD_CERTIFICATE_REVOKED:
    case SSL_AD_CERTIFICATE_EXPIRED:
    case SSL_AD_CERTIFICATE_UNKNOWN:
    case SSL_AD_UNKNOWN_CA:
    case SSL_AD_CERTIFICATE_REQUIRED:
      return Failure::kCertificateUnknown;
    case SSL_AD_PROTOCOL_VERSION:
      return Failure::kUnsupportedVersion;
    case SSL_AD_NO_APPLICATION_PROTOCOL:
      return Failure::kAlpn;
    default:
      return Failure::kBadAlert;
  }
}

Failure ClassifyReason(int reason, bool in_handshake, bool is_server) {
  switch (reason) {
    case SSL_R_NO_SHARED_CIPHER:
    case SSL_R_WRONG_CURVE:  // upstream's word for a TLS 1.2 client without the certificate's curve
      return Failure::kNoSharedCipher;
    case SSL_R_NO_SHARED_GROUP:
      return Failure::kNoSharedGroup;
    case SSL_R_NO_COMMON_SIGNATURE_ALGORITHMS:
      return Failure::kNoSharedSignature;
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_WRONG_SSL_VERSION:
    case SSL_R_INAPPROPRIATE_FALLBACK:
      return Failure::kUnsupportedVersion;
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
    case SSL_R_WRONG_VERSION_NUMBER:
      return in_handshake ? Failure::kPlaintext : Failure::kOther;
    case SSL_R_NO_APPLICATION_PROTOCOL:
    case SSL_R_INVALID_ALPN_PROTOCOL:
      return Failure::kAlpn;
    case SSL_R_CLIENTHELLO_TLSEXT:
      return Failure::kServerName;
    case SSL_R_CERTIFICATE_VERIFY_FAILED:
      return is_server ? Failure::kClientCertificate : Failure::kVerify;
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
    case SSL_R_BAD_SIGNATURE:
    case SSL_R_KEY_USAGE_BIT_INCORRECT:
      return is_server ? Failure::kClientCertificate : Failure::kOther;
    default:
      return Failure::kOther;
  }
}

Diagnosis DescribeAlert(int alert) {
  return {ClassifyAlert(alert),
          std::string("the peer sent the alert \"") + SSL_alert_desc_string_long(alert) + "\" (" +
              std::to_string(alert) + ")",
          static_cast<uint8_t>(alert)};
}

}  // namespace

std::string_view Name(Failure failure) {
  return kNames[static_cast<size_t>(failure)];
}

std::string_view Name(FailedCheck check) {
  static constexpr std::array<std::string_view, static_cast<size_t>(FailedCheck::kCount)> kChecks =
      {"none", "expired", "not_yet_valid", "name", "unknown_ca", "pin", "certificate"};
  return kChecks[static_cast<size_t>(check)];
}

Diagnosis TakeDiagnosis(bool in_handshake, bool is_server) {
  // Beneath the protocol's own error may lie one of the cryptography that says less.
  while (ERR_peek_error() != ERR_peek_last_error() &&
         ERR_GET_LIB(ERR_peek_error()) != ERR_LIB_SSL) {
    ERR_get_error();
  }
  const uint32_t code = ERR_peek_error();
  const int reason = ERR_GET_LIB(code) == ERR_LIB_SSL ? ERR_GET_REASON(code) : 0;
  if (reason >= SSL_AD_REASON_OFFSET) {
    ERR_clear_error();
    return DescribeAlert(reason - SSL_AD_REASON_OFFSET);
  }
  const Failure failure = ClassifyReason(reason, in_handshake, is_server);
  std::string text = TakeLibraryError();
  if (reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE) text = "the client sent no certificate";
  if (failure == Failure::kServerName) text = "the client asked for a name that is not served";
  if (failure == Failure::kPlaintext) text = "the peer does not speak TLS (" + text + ")";
  return {failure, std::move(text)};
}

std::optional<Diagnosis> CleartextAlert(Bytes received) {
  // RFC 8446 §5.1 and §6: the record's type, version and length, then the level fatal.
  constexpr size_t kRecordBytes = 7;
  if (received.size() < kRecordBytes) return std::nullopt;
  const Bytes record = received.last(kRecordBytes);
  const bool is_alert = record[0] == 21 && record[1] == 3 && record[2] <= 3 && record[3] == 0 &&
                        record[4] == 2 && record[5] == SSL3_AL_FATAL;
  if (!is_alert) return std::nullopt;
  return DescribeAlert(record[6]);
}

std::string_view Name(Plaintext kind) {
  static constexpr std::array<std::string_view, static_cast<size_t>(Plaintext::kCount)> kKinds = {
      "none", "http", "ssh", "proxy", "other"};
  return kKinds[static_cast<size_t>(kind)];
}

Plaintext ClassifyPlaintext(Bytes first_bytes) {
  const std::string_view text(reinterpret_cast<const char*>(first_bytes.data()),
                              first_bytes.size());
  for (std::string_view method : {"GET ", "POST ", "HEAD ", "PUT ", "OPTIONS ", "CONNECT "}) {
    if (text.starts_with(method)) return Plaintext::kHttp;
  }
  if (text.starts_with("SSH-")) return Plaintext::kSsh;
  if (text.starts_with("PROXY ") || text.starts_with("\r\n\r\n")) return Plaintext::kProxy;
  return Plaintext::kOther;
}

std::string DescribePlaintext(Bytes first_bytes) {
  switch (ClassifyPlaintext(first_bytes)) {
    case Plaintext::kHttp:
      return "an HTTP request";
    case Plaintext::kSsh:
      return "SSH";
    case Plaintext::kProxy:
      return "a PROXY header";
    case Plaintext::kNone:
    case Plaintext::kOther:
    case Plaintext::kCount:
      break;
  }
  char byte[16];
  std::snprintf(byte, sizeof byte, "0x%02x", first_bytes.empty() ? 0U : first_bytes[0]);
  return std::string("a first byte of ") + byte;
}

}  // namespace gatepost::tls
