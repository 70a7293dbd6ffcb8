// What listeners offer under TLS. Contexts are immutable, shared by all workers, thread-safe.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

#include "tls/client_verifier.h"
#include "tls/error.h"
#include "tls/profile.h"

struct ssl_ctx_st;  // BoringSSL's SSL_CTX

namespace gatepost::tls {

class CertificateStore;
class KeyLog;
class TicketKeys;
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
  // Refuses a client that asks for a name that no certificate has, instead of showing it the
  // default one. A client that asks for none gets the default.
  bool strict_sni = false;
  // What session tickets are sealed with; null: keys of the library's, for this context alone.
  std::shared_ptr<const TicketKeys> ticket_keys = nullptr;
  std::shared_ptr<const KeyLog> key_log = nullptr;  // null: secrets stay secret
};

// ServerContext is what a listener offers, with the certificates that it presents. Session tickets
// are on, and nothing about sessions is kept in memory. With the same ticket keys, a session is
// resumed on any context of the same protocol and the same demand for client certificates. No early
// data, no renegotiation.
class ServerContext {
 public:
  [[nodiscard]] static tl::expected<std::shared_ptr<const ServerContext>, Error> Make(
      const ServerOptions& options);
  ~ServerContext();
  ServerContext(const ServerContext&) = delete;
  ServerContext& operator=(const ServerContext&) = delete;

  // With returns the same offer with other certificates, and with another verifier where clients
  // are asked for certificates. Unless that one names other CAs, sessions made with the one are
  // resumed with the other. An error: the offer and the default
  // certificate do not suit each other.
  [[nodiscard]] tl::expected<std::shared_ptr<const ServerContext>, Error> With(
      std::shared_ptr<const CertificateStore> certificates,
      std::shared_ptr<const ClientVerifier> client_verifier) const;

  [[nodiscard]] const Offer& offer() const { return offer_; }
  // Null where clients are not asked for a certificate.
  [[nodiscard]] const std::shared_ptr<const ClientVerifier>& client_verifier() const {
    return options_.client_verifier;
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

// LibraryVersion names the TLS library: "BoringSSL (API 17)".
std::string LibraryVersion();

}  // namespace gatepost::tls
