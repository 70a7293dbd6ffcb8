// Whom a client's certificate stands for: one of the names in it, or a line of a table.
//
// Only certificates that tls/ has verified get here. Everything is compared as it is, byte for
// byte, and where two answers are possible there is none. A table is immutable; which one is in use
// can be changed while workers look into it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <unordered_map>
#include <vector>

#include "config/schema.h"
#include "tls/client_verifier.h"

namespace gatepost::auth {

// CertificateMap is a file of lines "USER KIND:VALUE", with comments behind '#' at the beginning of
// a line. KIND is email, cn, subject (RFC 4514) or spki-sha256; VALUE goes to the end of the line.
class CertificateMap {
 public:
  // Load reads and checks the whole file; each error is "FILE:LINE: what is wrong".
  [[nodiscard]] static tl::expected<std::shared_ptr<const CertificateMap>, std::vector<std::string>>
  Load(const std::filesystem::path& file);

  // UserOf returns the one user whom the lines for this certificate name, or why there is none.
  [[nodiscard]] tl::expected<std::string, std::string> UserOf(
      const tls::ClientCertificate& certificate) const;
  // Whether both say the same.
  [[nodiscard]] bool SameAs(const CertificateMap& other) const { return users_ == other.users_; }
  // The number of lines.
  [[nodiscard]] size_t size() const { return users_.size(); }

 private:
  std::filesystem::path file_;
  std::unordered_map<std::string, std::string> users_;  // by "KIND:VALUE"
};

// CertificateUsers is how one listener finds users. Thread-safe.
class CertificateUsers {
 public:
  // `map` is not null where `rule` is kMap.
  CertificateUsers(config::CertificateUser rule, std::shared_ptr<const CertificateMap> map)
      : rule_(rule), map_(std::move(map)) {}

  // UserOf returns the user, which is one line of text and not empty, or in one line why the
  // certificate stands for nobody. `certificate` must be a verified one.
  [[nodiscard]] tl::expected<std::string, std::string> UserOf(
      const tls::ClientCertificate& certificate) const;

  // Renew puts a newer state of the file in the place of the one in use.
  void Renew(std::shared_ptr<const CertificateMap> map);

  // Null unless the rule is kMap.
  [[nodiscard]] std::shared_ptr<const CertificateMap> map() const;

 private:
  const config::CertificateUser rule_;
  mutable std::mutex mutex_;
  std::shared_ptr<const CertificateMap> map_;
};

}  // namespace gatepost::auth
