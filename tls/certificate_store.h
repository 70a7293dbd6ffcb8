// The certificates that listeners present: loaded whole, checked, and found by server name.
//
// All of it is immutable once made and shared by all workers as shared_ptr<const ...>: a reload
// makes a new store, which shares the certificates that did not change, and leaves the old one to
// the handshakes that still use it. Files are read by CertificateLoader only.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <unordered_map>
#include <vector>

#include "tls/error.h"

namespace gatepost::tls {

struct Credential;

// A chain (PEM, the server's certificate first) and its private key (PEM, not encrypted). Both may
// be the same file. An OCSP response (DER) may stand beside the chain: see OcspFile.
struct CertificateFiles {
  std::filesystem::path chain;
  std::filesystem::path key;
  bool operator==(const CertificateFiles&) const = default;
};

// OcspFile returns where the OCSP response for `chain` is looked for: "<chain>.ocsp".
[[nodiscard]] std::filesystem::path OcspFile(const std::filesystem::path& chain);

enum class KeyType : uint8_t { kEcdsa, kRsa };

// What a certificate says, for `gatepost check`, the log and the metrics. All of it is printable.
struct CertificateInfo {
  std::filesystem::path chain_file;
  std::filesystem::path key_file;
  std::vector<std::string> names;  // DNS names and addresses of the SAN, lower case
  std::string subject;             // RFC 4514
  std::string issuer;
  std::chrono::system_clock::time_point not_before;
  std::chrono::system_clock::time_point not_after;
  KeyType key_type = KeyType::kEcdsa;
  std::string key_text;  // "ECDSA P-256", "RSA 2048"
  // Until when an OCSP response is stapled; nothing: there is none, or it is not good.
  std::optional<std::chrono::system_clock::time_point> stapled_until;
  std::string staple_problem;  // why the file that is there is not stapled
};

// Certificate is a chain with its key, checked, as it was read at one time.
class Certificate {
 public:
  ~Certificate();
  Certificate(const Certificate&) = delete;
  Certificate& operator=(const Certificate&) = delete;

  [[nodiscard]] const CertificateInfo& info() const { return info_; }
  // Whether both are the same to clients, wherever they were read.
  [[nodiscard]] bool SameAs(const Certificate& other) const;

 private:
  friend class CertificateLoader;
  friend class CertificateStore;
  Certificate();

  CertificateInfo info_;
  std::unique_ptr<Credential> credential_;
};

// CertificateLoader reads pairs, one after the other. What several chains contain is kept once: a
// loader is meant to live for one round of loading.
class CertificateLoader {
 public:
  using Time = std::chrono::system_clock::time_point;

  CertificateLoader();
  ~CertificateLoader();
  CertificateLoader(const CertificateLoader&) = delete;
  CertificateLoader& operator=(const CertificateLoader&) = delete;

  // Know lets what is loaded later share its issuers' certificates with `certificate`.
  void Know(const Certificate& certificate);

  // Load returns the pair, or every error found, at least one: a file that cannot be read or
  // parsed, a key that does not match, a chain out of order, a certificate that is not valid at
  // `now`.
  [[nodiscard]] tl::expected<std::shared_ptr<const Certificate>, std::vector<Error>> Load(
      const CertificateFiles& files, Time now = std::chrono::system_clock::now());

 private:
  class Deduplicator;
  std::unique_ptr<Deduplicator> deduplicator_;
};

class CertificateStore {
 public:
  using Certificates = std::vector<std::shared_ptr<const Certificate>>;

  // Make takes at least one certificate, of which the first is the default. Where two of the same
  // key type have the same name, the first is used.
  [[nodiscard]] static std::shared_ptr<const CertificateStore> Make(Certificates certificates);
  ~CertificateStore() = default;
  CertificateStore(const CertificateStore&) = delete;
  CertificateStore& operator=(const CertificateStore&) = delete;

  // In Make's order.
  [[nodiscard]] const Certificates& certificates() const { return certificates_; }

  // Choice holds what suits a name: either may be null, not both. Valid as long as the store.
  struct Choice {
    const Credential* ecdsa = nullptr;
    const Credential* rsa = nullptr;
    bool known = true;  // false: no certificate has the name, and this is the default
    [[nodiscard]] const Credential* preferred() const { return ecdsa != nullptr ? ecdsa : rsa; }
  };

  // Find returns the certificates for `server_name` (as HostName() makes it; may be empty): exact
  // name before wildcard before default. Constant time, whatever the number of names.
  [[nodiscard]] Choice Find(std::string_view server_name) const;

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  using Index = std::unordered_map<std::string, Choice, Hash, std::equal_to<>>;

  CertificateStore() = default;
  void AddNames();

  Certificates certificates_;
  Index exact_;
  Index wildcards_;  // by what stands behind "*."
  Choice default_;
};

}  // namespace gatepost::tls
