// The certificates that listeners present: loaded whole, checked, and found by server name.
//
// Immutable once loaded and shared by all workers as shared_ptr<const CertificateStore>: a reload
// loads a new one and leaves the old to the handshakes that still use it. Files are read in Load
// only.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <unordered_map>
#include <vector>

#include "tls/error.h"

namespace gatepost::tls {

struct Credential;

// A chain (PEM, the server's certificate first) and its private key (PEM, not encrypted). Both may
// be the same file.
struct CertificateFiles {
  std::filesystem::path chain;
  std::filesystem::path key;
  bool operator==(const CertificateFiles&) const = default;
};

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
};

class CertificateStore {
 public:
  using Time = std::chrono::system_clock::time_point;

  // Load reads `files`, of which the first is the default. It returns every error found, at least
  // one: a file that cannot be read or parsed, a key that does not match, a chain out of order, a
  // certificate that is not valid at `now`. Where two certificates of the same key type have the
  // same name, the first is used.
  [[nodiscard]] static tl::expected<std::shared_ptr<const CertificateStore>, std::vector<Error>>
  Load(std::span<const CertificateFiles> files, Time now = std::chrono::system_clock::now());
  ~CertificateStore();
  CertificateStore(const CertificateStore&) = delete;
  CertificateStore& operator=(const CertificateStore&) = delete;

  // In the order of Load's `files`.
  [[nodiscard]] const std::vector<CertificateInfo>& certificates() const { return infos_; }

  // Choice holds what suits a name: either may be null, not both. Valid as long as the store.
  struct Choice {
    const Credential* ecdsa = nullptr;
    const Credential* rsa = nullptr;
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

  CertificateStore();
  void AddNames();

  std::vector<CertificateInfo> infos_;
  std::vector<std::unique_ptr<const Credential>> credentials_;  // credentials_[i]: infos_[i]
  Index exact_;
  Index wildcards_;  // by what stands behind "*."
  Choice default_;
};

}  // namespace gatepost::tls
