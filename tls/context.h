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

#include "tls/client_verifier.h"
#include "tls/error.h"
#include "tls/profile.h"

struct crypto_buffer_pool_st;  // BoringSSL's CRYPTO_BUFFER_POOL
struct ssl_ctx_st;             // BoringSSL's SSL_CTX
struct x509_store_st;          // BoringSSL's X509_STORE

namespace gatepost::tls {

class CertificateStore;
struct Credential;

struct ServerOptions {
  Profile profile = Profile::kIntermediate;
  std::string alpn;  // the one protocol id accepted; a client list without it is refused
  std::shared_ptr<const CertificateStore> certificates;
  OfferSettings settings = {};  // instead of the profile's
  // Null: clients are not asked for a certificate. Else one that is presented is verified, and,
  // where it is required, a handshake without a good one fails.
  std::shared_ptr<const ClientVerifier> client_verifier = nullptr;
  bool require_client_certificate = false;
};

// ServerContext is what a listener offers, with the certificates that it presents. Session tickets
// are on, encrypted with keys that the library makes and rotates; nothing about sessions is kept in
// memory. No early data, no renegotiation.
class ServerContext {
 public:
  [[nodiscard]] static tl::expected<std::shared_ptr<const ServerContext>, Error> Make(
      const ServerOptions& options);
  ~ServerContext();
  ServerContext(const ServerContext&) = delete;
  ServerContext& operator=(const ServerContext&) = delete;

  // With returns the same offer with other certificates, and with another verifier where clients
  // are asked for certificates. Unless that one names other CAs, both have the same ticket keys:
  // sessions made with the one are resumed with the other. An error: the offer and the default
  // certificate do not suit each other.
  [[nodiscard]] tl::expected<std::shared_ptr<const ServerContext>, Error> With(
      std::shared_ptr<const CertificateStore> certificates,
      std::shared_ptr<const ClientVerifier> client_verifier) const;

  [[nodiscard]] const Offer& offer() const { return offer_; }
  // Null where clients are not asked for a certificate.
  [[nodiscard]] const ClientVerifier* client_verifier() const {
    return options_.client_verifier.get();
  }
  [[nodiscard]] const std::shared_ptr<const CertificateStore>& certificates() const {
    return options_.certificates;
  }

 private:
  friend class Channel;
  struct Callbacks;
  ServerContext() = default;

  ssl_ctx_st* context_ = nullptr;  // without a certificate: each handshake is given its own
  ServerOptions options_;
  Offer offer_;
};

struct ClientOptions {
  bool verify = true;
  std::optional<std::string> ca_file;  // default: the system's certificates
  std::string alpn;                    // offered when not empty
};

// ClientContext is how a pool's backends are spoken to: TLS 1.2 or 1.3. The trusted certificates
// are read in Make (about 1 MB for the system's): share one context among pools that are alike.
class ClientContext {
 public:
  [[nodiscard]] static tl::expected<std::shared_ptr<const ClientContext>, Error> Make(
      const ClientOptions& options);
  ~ClientContext();
  ClientContext(const ClientContext&) = delete;
  ClientContext& operator=(const ClientContext&) = delete;

 private:
  friend class Channel;
  ClientContext() = default;

  // Each session keeps the peer's chain; the pool makes that one copy per backend certificate. It
  // must outlive all connections.
  crypto_buffer_pool_st* pool_ = nullptr;
  ssl_ctx_st* context_ = nullptr;
  x509_store_st* trusted_ = nullptr;  // null: the certificate is not verified
};

// LibraryVersion names the TLS library: "BoringSSL (API 17)".
std::string LibraryVersion();

}  // namespace gatepost::tls
