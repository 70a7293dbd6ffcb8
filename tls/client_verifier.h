// Who is this client? Its certificate, verified against a listener's CAs and CRLs.
//
// Immutable once made, shared by all workers; files are read in Make only. RFC 5280 §6 by the
// library.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <tl/expected.hpp>
#include <vector>

#include "tls/error.h"

struct stack_st_CRYPTO_BUFFER;  // BoringSSL's STACK_OF(CRYPTO_BUFFER)
struct x509_store_st;           // BoringSSL's X509_STORE

namespace gatepost::tls {

// What a client's certificate says about it. Names are believed only where `verified`.
struct ClientCertificate {
  bool verified = false;
  std::string problem;  // why not, for the log: one line of printable ASCII
  std::string subject;  // RFC 4514, in printable ASCII, complete
  std::string issuer;   // the same
  std::string serial;   // upper-case hexadecimal, as OpenSSL prints it
  std::string sha1;     // of the certificate, lower-case hexadecimal: a name for it, no proof
  std::string der;      // the certificate
  // The subject's common name; empty where there is none, several, or one that is no line of text.
  std::string common_name;
  // All of the rfc822Name of the SAN; none where one of them is not a line of ASCII.
  std::vector<std::string> emails;
  std::string spki_sha256;  // of the SubjectPublicKeyInfo, lower-case hexadecimal
};

class ClientVerifier {
 public:
  // Make reads the CAs and, where there is such a file, CRLs (PEM both). With CRLs, one of the
  // certificate's own issuer must be there and current, else the certificate is refused; CRLs of
  // the CAs above are obeyed where there are any.
  [[nodiscard]] static tl::expected<std::shared_ptr<const ClientVerifier>, Error> Make(
      const std::filesystem::path& ca_file, const std::optional<std::filesystem::path>& crl_file);
  ~ClientVerifier();
  ClientVerifier(const ClientVerifier&) = delete;
  ClientVerifier& operator=(const ClientVerifier&) = delete;

  // Whether both were made of the same certificates and CRLs.
  [[nodiscard]] bool SameAs(const ClientVerifier& other) const {
    return content_ == other.content_;
  }

  // For `gatepost check`: the CRLs, and until when they are good.
  struct Crl {
    std::string issuer;
    std::chrono::system_clock::time_point next_update;
  };
  [[nodiscard]] const std::vector<Crl>& crls() const { return crls_; }

 private:
  friend class Channel;
  friend class ServerContext;
  ClientVerifier() = default;

  x509_store_st* store_ = nullptr;
  stack_st_CRYPTO_BUFFER* ca_names_ = nullptr;  // DER, for the CertificateRequest
  std::string digest_;                          // of ca_names_
  std::string content_;                         // a digest of all that was read
  std::vector<Crl> crls_;
};

}  // namespace gatepost::tls
