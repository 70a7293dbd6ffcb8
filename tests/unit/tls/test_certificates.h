// Makes keys, certificates and files of them for tests, in process.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tls/certificate_store.h"
#include "tls/internal.h"

namespace gatepost::tls::test {

using std::chrono::hours;

enum class KeyKind { kEcdsaP256, kEcdsaP384, kRsa2048, kRsa1024, kEd25519 };

bssl::UniquePtr<EVP_PKEY> MakeKey(KeyKind kind);

// Identity is a certificate with its key, and the chain above it.
struct Identity {
  bssl::UniquePtr<EVP_PKEY> key;
  bssl::UniquePtr<X509> certificate;
  std::vector<std::string> issuer_pems;  // the issuer's, its issuer's…, without the root

  [[nodiscard]] std::string CertificatePem() const;
  [[nodiscard]] std::string ChainPem() const;  // certificate and issuers
  [[nodiscard]] std::string KeyPem(const char* pass_phrase = nullptr) const;
};

struct Request {
  std::string common_name = "mail.example";
  // DNS names, addresses as "ip:192.0.2.1", or mail addresses as "email:alice@example.org".
  std::vector<std::string> names;
  KeyKind key = KeyKind::kEcdsaP256;
  const Identity* issuer = nullptr;  // null: self-signed
  bool is_ca = false;
  int purpose = 0;                           // the one extended key usage, as NID; 0: any
  std::vector<std::string> more_names = {};  // further common names
  hours starts{-1};                          // relative to now
  hours ends{24};
};
Identity Issue(const Request& request);

// MakeCrl returns the PEM of a CRL of `issuer` that revokes `revoked`.
std::string MakeCrl(const Identity& issuer, const std::vector<const Identity*>& revoked,
                    hours ends = hours(24));

// Folder is a temporary folder that goes with its object.
class Folder {
 public:
  Folder();
  ~Folder();
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  // Write makes the file `name` and returns its path.
  std::filesystem::path Write(std::string_view name, std::string_view content) const;
  // WritePair writes <name>.crt and <name>.key.
  CertificateFiles WritePair(const std::string& name, const Identity& identity) const;

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace gatepost::tls::test
