// TLS towards servers: what a pool's backends are offered, and what one of them gave us to resume.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <tl/expected.hpp>
#include <vector>

#include "tls/certificate_store.h"
#include "tls/error.h"
#include "tls/key_log.h"

struct crypto_buffer_pool_st;  // BoringSSL's CRYPTO_BUFFER_POOL
struct crypto_buffer_st;       // BoringSSL's CRYPTO_BUFFER
struct ssl_ctx_st;             // BoringSSL's SSL_CTX
struct ssl_session_st;         // BoringSSL's SSL_SESSION
struct x509_store_st;          // BoringSSL's X509_STORE

namespace gatepost::tls {

// The SHA-256 of a SubjectPublicKeyInfo, RFC 7469 §2.4.
using KeyPin = std::array<uint8_t, 32>;

struct ClientOptions {
  bool verify = true;                  // chain, dates and name
  std::optional<std::string> ca_file;  // default: the system's certificates
  std::string alpn;                    // offered when not empty
  // One of them must be the key of a certificate in the verified chain, or the server's own where
  // `verify` is off. Empty: any key.
  std::vector<KeyPin> pins = {};
  std::optional<CertificateFiles> certificate = {};  // presented to a server that asks for one
  uint16_t minimum_version = 0x0303;                 // as on the wire: 0x0303 is TLS 1.2
  std::shared_ptr<const KeyLog> key_log = nullptr;
  bool operator==(const ClientOptions&) const = default;
};

// ClientContext is how a pool's backends are spoken to. Immutable, shared by all workers. The
// trusted certificates are read in Make (about 1 MB for the system's): share one context among
// pools that are alike.
class ClientContext {
 public:
  // With `before`, a context of the same options: that very one where no file has changed since.
  [[nodiscard]] static tl::expected<std::shared_ptr<const ClientContext>, Error> Make(
      const ClientOptions& options, std::shared_ptr<const ClientContext> before = nullptr);
  ~ClientContext();
  ClientContext(const ClientContext&) = delete;
  ClientContext& operator=(const ClientContext&) = delete;

 private:
  friend class Channel;
  friend class Peer;
  struct Callbacks;
  ClientContext() = default;

  // Each session keeps the peer's chain; the pool makes that one copy per backend certificate. It
  // must outlive all connections.
  crypto_buffer_pool_st* pool_ = nullptr;
  ssl_ctx_st* context_ = nullptr;
  x509_store_st* trusted_ = nullptr;  // null: the certificate is not verified
  std::vector<KeyPin> pins_;
  std::shared_ptr<const KeyLog> key_log_;
  std::array<uint8_t, 32> files_digest_{};  // of all that Make read
};

// Peer is a server as one worker knows it: its context, the name that it is expected to have, and
// the newest of the sessions that it gave us. A session is offered to the server that made it,
// under the context and name under which that server was verified, and never for longer than its
// certificates were found valid. Not for two threads; its Channels keep it alive.
class Peer {
 public:
  // As many logins at a time can resume with TLS 1.3, whose tickets are for one use.
  static constexpr size_t kMaxSessions = 8;

  // `server_name` goes into SNI (unless an address literal) and is verified.
  Peer(std::shared_ptr<const ClientContext> context, std::string server_name);
  ~Peer();
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  [[nodiscard]] const ClientContext& context() const { return *context_; }
  [[nodiscard]] const std::string& server_name() const { return server_name_; }
  [[nodiscard]] size_t sessions() const { return sessions_.size(); }

  using Time = std::chrono::system_clock::time_point;
  // Take returns the newest session that may be offered (a reference for the caller), or null.
  [[nodiscard]] ssl_session_st* Take(Time now);

 private:
  friend class Channel;
  friend class ClientContext;

  // Verified notes that a server with this certificate was found good until then.
  void Verified(const crypto_buffer_st* leaf, Time until);
  // Keep takes a reference of its own.
  void Keep(ssl_session_st* session);
  void Forget();

  std::shared_ptr<const ClientContext> context_;
  std::string server_name_;
  std::vector<ssl_session_st*> sessions_;  // owned references, the newest last
  crypto_buffer_st* leaf_ = nullptr;       // of the server that was verified last
  Time valid_until_{};                     // its chain
};

}  // namespace gatepost::tls
