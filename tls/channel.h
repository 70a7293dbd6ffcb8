// One TLS connection without I/O: ciphertext in, plaintext out, and the reverse.
//
// Transport is a worker's: it owns the BIO through which all Channels of that worker see the bytes
// of the current call. Not for two threads. Channel belongs to its stream. No socket is ever seen.
// RFC 8446, RFC 5246.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

struct ssl_st;  // BoringSSL's SSL

namespace gatepost::tls {

struct ClientCertificate;
struct Credential;
class KeyOperation;
class Peer;
class ServerContext;

using Bytes = std::span<const uint8_t>;

// Transport holds the ciphertext of the call under way. Every Channel operation appends what is to
// be sent to `outgoing`; the owner sends and clears it after each operation (its capacity stays).
// It must outlive its Channels.
class Transport {
 public:
  Transport();
  ~Transport();
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;

  std::vector<uint8_t> outgoing;

  // Whether server handshakes with a slow private key stop and wait for Channel::Complete; else the
  // operation is computed inside Channel::Receive. ECDSA P-256 (15 µs) is never waited for.
  bool defer_slow_keys = false;

 private:
  friend class Channel;
  struct Io;
  std::unique_ptr<Io> io_;
};

// Which of our keys sealed the session ticket that a client came with.
enum class TicketUse : uint8_t {
  kNone,        // it came with no ticket
  kCurrentKey,  // current
  kOtherKey,    // other: one that seals no more, or not yet
  kUnknownKey,  // unknown: a full handshake followed
  kCount
};

std::string_view Name(TicketUse use);

// Facts of an established connection, for logs and metrics.
struct Facts {
  std::string_view version;  // "TLSv1.3"
  std::string_view cipher;   // standard (IANA) name, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
  // As OpenSSL, nginx and HAProxy have it: "ECDHE-RSA-AES128-GCM-SHA256"; the standard name in
  // TLS 1.3.
  std::string_view openssl_cipher;
  std::string_view group;   // "X25519"; empty when unknown
  std::string server_name;  // SNI as the client sent it, host-name characters only; may be empty
  std::string alpn;         // negotiated; may be empty
  bool resumed = false;
  TicketUse ticket = TicketUse::kNone;  // server side
};

// Why a handshake or connection failed: metric label by Name().
enum class Failure : uint8_t {
  kNone,
  kNoSharedCipher,      // no_shared_cipher
  kNoSharedGroup,       // no_shared_group; in TLS 1.2 and below it is no_shared_cipher
  kNoSharedSignature,   // no_shared_signature: no common signature algorithm
  kUnsupportedVersion,  // unsupported_version
  kPlaintext,           // plaintext: not TLS at all (HTTP, mail commands)
  kBadAlert,            // bad_alert: the peer sent a fatal alert (its text is in error())
  kCertificateUnknown,  // cert_unknown: the peer refused our certificate
  kVerify,              // verify: we refused the peer's certificate
  kClientCertificate,   // client_cert: the client's certificate is missing or not good
  kAlpn,                // alpn
  kServerName,          // server_name: the client asked for a name that is not served
  kEof,                 // eof: the peer closed mid-way
  kOther,               // other
  kCount
};
std::string_view Name(Failure failure);

// Which check a server's certificate did not pass, where the failure is kVerify.
enum class FailedCheck : uint8_t {
  kNone,
  kExpired,      // expired
  kNotYetValid,  // not_yet_valid
  kName,         // name: it is for somebody else
  kUnknownCa,    // unknown_ca: it does not descend from a trusted certificate
  kPin,          // pin: its key is none of those that are allowed
  kOther,        // certificate: malformed, a wrong purpose, a bad signature …
  kCount
};
std::string_view Name(FailedCheck check);

// What a client speaks that does not speak TLS: metric label by Name().
enum class Plaintext : uint8_t {
  kNone,   // it does speak TLS
  kHttp,   // http
  kSsh,    // ssh
  kProxy,  // proxy: a PROXY header that nobody asked for
  kOther,  // other: a mail client that expected STARTTLS, for one
  kCount
};
std::string_view Name(Plaintext kind);

// Channel is one side of one TLS connection. The SSL object is made at the first byte of input
// (server) or at Start (client); before that a Channel costs a few words.
class Channel {
 public:
  // Server side. `context` must outlive the handshake (the Channel keeps a reference of its own).
  Channel(Transport& transport, std::shared_ptr<const ServerContext> context);
  // Client side: towards `peer`, with a session that it gave us earlier where there is one.
  Channel(Transport& transport, std::shared_ptr<Peer> peer);
  ~Channel();
  Channel(Channel&&) = delete;

  // Start begins a client handshake: the ClientHello is in transport.outgoing.
  void Start();

  // Receive takes ciphertext and decrypts into `plaintext`, whose size must be at least that of
  // `ciphertext` and kPlaintextMargin more (an earlier call may have left a record that lacks only
  // its last byte); a smaller one breaks the connection rather than lose bytes. It consumes all of
  // the ciphertext in any case (an incomplete record is kept inside) and returns the number of
  // plaintext bytes. During the handshake it drives the handshake, and goes on to the data behind
  // it. What came before a failure or a close_notify in the same call is returned.
  static constexpr size_t kPlaintextMargin = size_t{16} * 1024;
  [[nodiscard]] size_t Receive(Bytes ciphertext, std::span<uint8_t> plaintext);

  // TakeKeyOperation returns the private-key operation that the handshake waits for, once; null:
  // there is none. Run it, on any thread, and give it to Complete.
  [[nodiscard]] std::unique_ptr<KeyOperation> TakeKeyOperation();

  // Complete goes on with the handshake once its key operation has been run; `plaintext` must have
  // room for 2 * kPlaintextMargin, and all is as in Receive. What Receive is given before that is
  // kept, up to kPlaintextMargin: no client has much to say between its ClientHello and our answer.
  [[nodiscard]] size_t Complete(std::unique_ptr<KeyOperation> operation,
                                std::span<uint8_t> plaintext);

  // PeerClosed tells that the TCP connection ended: without a close_notify before, that is a
  // failure (kEof), for the bytes may have been cut off by anybody. RFC 8446 §6.1.
  void PeerClosed();

  // Send encrypts all of `plaintext` into transport.outgoing (16 KiB records). Established only.
  // Returns false when the connection is broken.
  [[nodiscard]] bool Send(Bytes plaintext);

  // Shutdown appends close_notify, once. Reading may go on (half-close). Established only.
  void Shutdown();

  [[nodiscard]] bool established() const { return established_; }
  // True once the peer sent close_notify: no plaintext follows.
  [[nodiscard]] bool peer_closed() const { return peer_closed_; }
  [[nodiscard]] Failure failure() const { return failure_; }
  // The library's words for the failure, one line, safe to log.
  [[nodiscard]] const std::string& error() const { return error_; }
  // kNone unless failure() is kVerify.
  [[nodiscard]] FailedCheck failed_check() const { return failed_check_; }
  // What a server was sent in place of TLS, where failure() is kPlaintext.
  [[nodiscard]] Plaintext plaintext() const { return plaintext_; }
  // The number of the fatal alert that the peer sent, RFC 8446 §6.2; 0: none.
  [[nodiscard]] uint8_t received_alert() const { return received_alert_; }
  [[nodiscard]] Facts facts() const;   // established only
  [[nodiscard]] bool resumed() const;  // established only

  // TakeClientCertificate returns what the client presented (server side, established), once; null:
  // nothing, or it was not asked. Nothing of it stays in memory, but after a resumption the chain
  // that the session had, which the library keeps.
  [[nodiscard]] std::unique_ptr<ClientCertificate> TakeClientCertificate();

 private:
  friend class ClientContext;
  friend class ServerContext;
  struct Callbacks;
  struct DeferredKey;

  // AtWork is the Channel that is in a call of the library.
  static Channel& AtWork(const ssl_st* ssl);
  // ContextAtWork is the context of the server Channel whose handshake is under way.
  static const ServerContext& ContextAtWork(const ssl_st* ssl);
  // Present gives the handshake under way the certificate that it presents.
  static bool Present(ssl_st* ssl, const Credential& credential);
  // PeerAtWork is the peer of the client Channel that is reading.
  static Peer& PeerAtWork(const ssl_st* ssl);

  // LogKey writes a secret into the key log of that Channel's context.
  static void LogKey(const ssl_st* ssl, const char* line);

  bool Make();
  size_t Drive(Bytes ciphertext, std::span<uint8_t> plaintext);
  void Hold(Bytes ciphertext);
  void Handshake();
  void Established();
  // CheckClient verifies the chain of this connection's session.
  bool CheckClient(uint8_t* alert);
  void Fail(int result);
  void FailAs(Failure failure, std::string error);

  Transport& transport_;
  std::shared_ptr<const ServerContext> server_context_;  // let go after the handshake
  std::shared_ptr<Peer> peer_;                           // client side
  std::unique_ptr<ClientCertificate> client_certificate_;
  std::unique_ptr<DeferredKey> deferred_key_;  // during the handshake
  std::string error_;
  ssl_st* ssl_ = nullptr;
  Failure failure_ = Failure::kNone;
  FailedCheck failed_check_ = FailedCheck::kNone;
  TicketUse ticket_ = TicketUse::kNone;
  Plaintext plaintext_ = Plaintext::kNone;
  uint8_t received_alert_ = 0;
  bool established_ = false;
  bool peer_closed_ = false;
  bool shut_down_ = false;
};

}  // namespace gatepost::tls
