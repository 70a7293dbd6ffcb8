// TLS contexts: immutable after making, shared by all workers, thread-safe.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

struct ssl_ctx_st;  // BoringSSL's SSL_CTX

namespace gatepost::tls {

// What went wrong, in words that name the file and the check. Never holds key material.
struct Error {
  std::string text;
};

// Versions and algorithms that a listener offers; tls/profile.h has the lists.
enum class Profile : uint8_t { kModern, kIntermediate, kLegacy };

class CertificateStore;

struct ServerOptions {
  Profile profile = Profile::kIntermediate;
  std::string alpn;  // the one protocol id accepted; a client list without it is refused
  std::shared_ptr<const CertificateStore> certificates;
};

class ServerContext {
 public:
  [[nodiscard]] static tl::expected<std::shared_ptr<const ServerContext>, Error> Make(
      const ServerOptions& options);
  ~ServerContext();

 private:
  friend class Channel;
  ServerContext() = default;
  ssl_ctx_st* context_ = nullptr;
  std::string alpn_;
  std::shared_ptr<const CertificateStore> certificates_;
};

struct ClientOptions {
  bool verify = true;
  std::optional<std::string> ca_file;  // default: the system's certificates
  std::string alpn;                    // offered when not empty
};

class ClientContext {
 public:
  [[nodiscard]] static tl::expected<std::shared_ptr<const ClientContext>, Error> Make(
      const ClientOptions& options);
  ~ClientContext();

 private:
  friend class Channel;
  ClientContext() = default;
  ssl_ctx_st* context_ = nullptr;
  bool verify_ = true;
};

// LibraryVersion names the TLS library: "BoringSSL (API 17)".
std::string LibraryVersion();

}  // namespace gatepost::tls
