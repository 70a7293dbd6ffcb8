// The channel: SSL over a BIO that sees only the bytes of the call under way.
//
// Reading takes from a span, writing appends to Transport::outgoing and so never blocks and never
// has to be repeated. Which Channel is at work is noted in the Transport, for the library's
// callbacks: an SSL needs no pointer back, and a Transport no list.
// SPDX-License-Identifier: Apache-2.0
#include "tls/channel.h"

#include <algorithm>
#include <cassert>
#include <cstdlib>
#include <cstring>

#include "tls/client_context.h"
#include "tls/client_verifier.h"
#include "tls/context.h"
#include "tls/failure.h"
#include "tls/internal.h"
#include "tls/key_log.h"
#include "tls/key_operation.h"

namespace gatepost::tls {
namespace {

constexpr uint8_t kAlertRecord = 21;      // RFC 8446 §5.1
constexpr uint8_t kHandshakeRecord = 22;  // RFC 8446 §5.1
constexpr size_t kMaxWrite = 1 << 30;     // SSL_write takes an int

}  // namespace

struct Transport::Io {
  Bytes incoming;
  Bytes given;  // what `incoming` was at the beginning of the call
  std::vector<uint8_t>* outgoing = nullptr;
  Channel* channel = nullptr;  // at work
  bssl::UniquePtr<BIO_METHOD> method;
  bssl::UniquePtr<BIO> bio;

  static int Read(BIO* bio, char* out, int size) {
    auto& io = *static_cast<Io*>(BIO_get_data(bio));
    BIO_clear_retry_flags(bio);
    if (io.incoming.empty()) {
      BIO_set_retry_read(bio);
      return -1;
    }
    const size_t taken = std::min(io.incoming.size(), static_cast<size_t>(size));
    std::memcpy(out, io.incoming.data(), taken);
    io.incoming = io.incoming.subspan(taken);
    return static_cast<int>(taken);
  }

  static int Write(BIO* bio, const char* in, int size) {
    auto& io = *static_cast<Io*>(BIO_get_data(bio));
    BIO_clear_retry_flags(bio);
    io.outgoing->insert(io.outgoing->end(), in, in + size);
    return size;
  }

  static long Control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }
};

Transport::Transport() : io_(std::make_unique<Io>()) {
  io_->outgoing = &outgoing;
  io_->method.reset(BIO_meth_new(0, "gatepost transport"));
  BIO_meth_set_read(io_->method.get(), Io::Read);
  BIO_meth_set_write(io_->method.get(), Io::Write);
  BIO_meth_set_ctrl(io_->method.get(), Io::Control);
  io_->bio.reset(BIO_new(io_->method.get()));
  if (!io_->bio) std::abort();  // out of memory
  BIO_set_data(io_->bio.get(), io_.get());
  BIO_set_init(io_->bio.get(), 1);
}

Transport::~Transport() = default;

// The private key of a handshake that does not use it itself.
struct Channel::DeferredKey {
  explicit DeferredKey(EVP_PKEY& used) : key(used) {}

  EVP_PKEY& key;  // the server context's
  bool waiting = false;
  std::unique_ptr<KeyOperation> operation;  // to be taken; then, at Complete, what was computed
  std::vector<uint8_t> held;                // ciphertext that came meanwhile
};

struct Channel::Callbacks {
  static ssl_private_key_result_t Sign(SSL* ssl, uint8_t*, size_t*, size_t, uint16_t algorithm,
                                       const uint8_t* in, size_t size) {
    DeferredKey& deferred = *AtWork(ssl).deferred_key_;
    return Wait(deferred, new KeyOperation(deferred.key, algorithm, Bytes(in, size)));
  }

  static ssl_private_key_result_t Decrypt(SSL* ssl, uint8_t*, size_t*, size_t, const uint8_t* in,
                                          size_t size) {
    DeferredKey& deferred = *AtWork(ssl).deferred_key_;
    return Wait(deferred, new KeyOperation(deferred.key, Bytes(in, size)));
  }

  static ssl_private_key_result_t Wait(DeferredKey& deferred, KeyOperation* operation) {
    deferred.operation.reset(operation);
    deferred.waiting = true;
    return ssl_private_key_retry;
  }

  static ssl_private_key_result_t Complete(SSL* ssl, uint8_t* out, size_t* out_size, size_t room) {
    DeferredKey& deferred = *AtWork(ssl).deferred_key_;
    if (deferred.waiting) return ssl_private_key_retry;
    const std::unique_ptr<KeyOperation> operation = std::move(deferred.operation);
    const std::vector<uint8_t>& result = operation->result_;
    if (result.empty() || result.size() > room) return ssl_private_key_failure;
    std::memcpy(out, result.data(), result.size());
    *out_size = result.size();
    return ssl_private_key_success;
  }

  static constexpr SSL_PRIVATE_KEY_METHOD kDeferred = {Sign, Decrypt, Complete};

  static ssl_verify_result_t VerifyPeer(SSL* ssl, uint8_t* alert) {
    Channel& self = AtWork(ssl);
    const ClientContext& context = self.peer_->context();
    const auto* chain = SSL_get0_peer_certificates(ssl);
    auto verified = VerifyServer(chain, context.trusted_, self.peer_->server_name(), context.pins_);
    if (verified) {
      self.peer_->Verified(sk_CRYPTO_BUFFER_value(chain, 0), *verified);
      return ssl_verify_ok;
    }
    self.failure_ = Failure::kVerify;
    self.failed_check_ = verified.error().check;
    self.peer_->Forget();
    self.error_ = std::move(verified.error().text);
    *alert = verified.error().alert;
    return ssl_verify_invalid;
  }

  static ssl_verify_result_t VerifyClient(SSL* ssl, uint8_t* alert) {
    if (!AtWork(ssl).CheckClient(alert)) return ssl_verify_invalid;
    // The ticket gets the chain, and then the connection forgets it: asked for only now, this says
    // nothing about what goes into the ticket.
    SSL_set_retain_only_sha256_of_client_certs(ssl, 1);
    return ssl_verify_ok;
  }
};

Channel::Channel(Transport& transport, std::shared_ptr<const ServerContext> context)
    : transport_(transport), server_context_(std::move(context)) {}

Channel::Channel(Transport& transport, std::shared_ptr<Peer> peer)
    : transport_(transport), peer_(std::move(peer)) {}

Channel::~Channel() {
  SSL_free(ssl_);
}

bool Channel::Make() {
  ssl_ = SSL_new(server_context_ ? server_context_->context_ : peer_->context().context_);
  if (ssl_ == nullptr) {
    Fail(-1);
    return false;
  }
  BIO* bio = transport_.io_->bio.get();
  BIO_up_ref(bio);
  SSL_set_bio(ssl_, bio, bio);  // takes one reference for both
  SSL_set_shed_handshake_config(ssl_, 1);
  return true;
}

Channel& Channel::AtWork(const SSL* ssl) {
  return *static_cast<const Transport::Io*>(BIO_get_data(SSL_get_rbio(ssl)))->channel;
}

const ServerContext& Channel::ContextAtWork(const SSL* ssl) {
  return *AtWork(ssl).server_context_;
}

bool Channel::Present(SSL* ssl, const Credential& credential) {
  Channel& self = AtWork(ssl);
  EVP_PKEY* key = credential.key.get();
  const SSL_PRIVATE_KEY_METHOD* method = nullptr;
  if (self.transport_.defer_slow_keys && credential.curve != SSL_CURVE_SECP256R1) {
    self.deferred_key_ = std::make_unique<DeferredKey>(*key);
    key = nullptr;
    method = &Callbacks::kDeferred;
  }
  return SSL_set_chain_and_key(ssl, credential.chain.data(), credential.chain.size(), key,
                               method) == 1;
}

Peer& Channel::PeerAtWork(const SSL* ssl) {
  return *AtWork(ssl).peer_;
}

void Channel::LogKey(const SSL* ssl, const char* line) {
  const Channel& self = AtWork(ssl);
  (self.server_context_ ? self.server_context_->options_.key_log : self.peer_->context().key_log_)
      ->Write(line);
}

void Channel::Start() {
  assert(peer_ && ssl_ == nullptr);
  if (!Make()) return;
  SSL_set_connect_state(ssl_);
  SSL_set_custom_verify(ssl_, SSL_VERIFY_PEER, Callbacks::VerifyPeer);
  // RFC 6066 §3: no address literals in SNI.
  const std::string& name = peer_->server_name();
  if (!name.empty() && !IsAddress(name) && SSL_set_tlsext_host_name(ssl_, name.c_str()) != 1) {
    ERR_clear_error();
    FailAs(Failure::kOther, "not usable as a server name: \"" + Printable(name) + "\"");
    return;
  }
  const bssl::UniquePtr<SSL_SESSION> session(peer_->Take(std::chrono::system_clock::now()));
  if (session) SSL_set_session(ssl_, session.get());
  transport_.io_->incoming = {};
  transport_.io_->channel = this;
  Handshake();
  transport_.io_->channel = nullptr;
}

void Channel::Handshake() {
  const int result = SSL_do_handshake(ssl_);
  if (result == 1) {
    Established();
  } else {
    Fail(result);
  }
}

bool Channel::CheckClient(uint8_t* alert) {
  SSL_SESSION* session = SSL_get_session(ssl_);
  VerifiedClient client = tls::VerifyClient(SSL_get0_peer_certificates(ssl_),
                                            server_context_->client_verifier()->store_);
  // A ticket must not outlive the certificate: the client would come with it although it has a
  // newer certificate, and be refused.
  using std::chrono::seconds;
  const auto left =
      std::chrono::duration_cast<seconds>(client.not_after - std::chrono::system_clock::now());
  if (client.certificate.verified && left < seconds(SSL_SESSION_get_timeout(session))) {
    SSL_SESSION_set_timeout(session, static_cast<uint32_t>(std::max(left, seconds(1)).count()));
  }
  if (!client.certificate.verified && server_context_->options_.require_client_certificate) {
    failure_ = Failure::kClientCertificate;
    error_ = "the client's certificate is refused: " + client.certificate.problem;
    *alert = client.alert;
    return false;
  }
  client_certificate_ = std::make_unique<ClientCertificate>(std::move(client.certificate));
  return true;
}

// From here on the context's certificates are not needed: after a reload the old ones can go while
// the connection lives. A client's context stays: it has the pool of the peer's certificates.
void Channel::Established() {
  if (server_context_ && server_context_->client_verifier() && SSL_session_reused(ssl_) == 1) {
    // The library believes the ticket. Since then, the certificate may have expired or been
    // revoked.
    const bool presented = sk_CRYPTO_BUFFER_num(SSL_get0_peer_certificates(ssl_)) > 0;
    uint8_t alert = SSL_AD_HANDSHAKE_FAILURE;
    if (!presented && server_context_->options_.require_client_certificate) {
      failure_ = Failure::kClientCertificate;
      error_ = "the resumed session has no certificate";
    } else if (presented) {
      CheckClient(&alert);
    }
    if (failure_ != Failure::kNone) {
      SSL_send_fatal_alert(ssl_, alert);
      ERR_clear_error();
      return;
    }
  }
  established_ = true;
  deferred_key_.reset();
  server_context_.reset();
}

size_t Channel::Receive(Bytes ciphertext, std::span<uint8_t> plaintext) {
  if (failure_ != Failure::kNone || peer_closed_ || ciphertext.empty()) return 0;
  if (deferred_key_ && deferred_key_->waiting) {
    Hold(ciphertext);
    return 0;
  }
  if (ssl_ == nullptr) {
    assert(server_context_);
    if (ciphertext[0] != kHandshakeRecord && ciphertext[0] != kAlertRecord) {
      FailAs(Failure::kPlaintext,
             "the client does not speak TLS: " + DescribePlaintext(ciphertext));
      plaintext_ = ClassifyPlaintext(ciphertext);
      return 0;
    }
    if (!Make()) return 0;
    SSL_set_accept_state(ssl_);
    if (server_context_->client_verifier()) {
      SSL_set_custom_verify(ssl_,
                            SSL_VERIFY_PEER | (server_context_->options_.require_client_certificate
                                                   ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT
                                                   : 0),
                            Callbacks::VerifyClient);
    }
  }
  return Drive(ciphertext, plaintext);
}

std::unique_ptr<KeyOperation> Channel::TakeKeyOperation() {
  return deferred_key_ ? std::move(deferred_key_->operation) : nullptr;
}

size_t Channel::Complete(std::unique_ptr<KeyOperation> operation, std::span<uint8_t> plaintext) {
  if (failure_ != Failure::kNone) return 0;
  assert(deferred_key_ && deferred_key_->waiting && !deferred_key_->operation && operation);
  deferred_key_->waiting = false;
  deferred_key_->operation = std::move(operation);
  const std::vector<uint8_t> held = std::exchange(deferred_key_->held, {});
  return Drive(held, plaintext);
}

// Hold keeps what comes while the handshake waits for a key operation.
void Channel::Hold(Bytes ciphertext) {
  std::vector<uint8_t>& held = deferred_key_->held;
  if (ciphertext.size() > kPlaintextMargin - held.size()) {
    return FailAs(Failure::kOther, "the client sends too much behind its ClientHello");
  }
  held.insert(held.end(), ciphertext.begin(), ciphertext.end());
}

// Drive goes on with the handshake and then decrypts.
size_t Channel::Drive(Bytes ciphertext, std::span<uint8_t> plaintext) {
  Transport::Io& io = *transport_.io_;
  io.incoming = io.given = ciphertext;
  io.channel = this;
  if (!established_) Handshake();
  if (deferred_key_ && deferred_key_->waiting) Hold(io.incoming);

  size_t size = 0;
  while (established_ && failure_ == Failure::kNone && !peer_closed_) {
    if (size == plaintext.size()) {
      if (!io.incoming.empty() || SSL_pending(ssl_) > 0) {
        FailAs(Failure::kOther, "the buffer for received plaintext is too small");
      }
      break;
    }
    const size_t room = std::min(plaintext.size() - size, kMaxWrite);
    const int result = SSL_read(ssl_, plaintext.data() + size, static_cast<int>(room));
    if (result <= 0) {
      Fail(result);
      break;
    }
    size += static_cast<size_t>(result);
    // Another SSL_read would only find that nothing is left, for as much as half a small record.
    if (io.incoming.empty() && SSL_has_pending(ssl_) == 0) break;
  }
  io.incoming = io.given = {};
  io.channel = nullptr;
  return size;
}

void Channel::PeerClosed() {
  if (failure_ != Failure::kNone || peer_closed_) return;
  FailAs(Failure::kEof, established_ ? "the peer closed the connection without close_notify"
                                     : "the peer closed the connection during the handshake");
}

bool Channel::Send(Bytes plaintext) {
  if (!established_ || shut_down_) return false;
  if (failure_ != Failure::kNone && failure_ != Failure::kEof) return false;
  while (!plaintext.empty()) {
    const size_t part = std::min(plaintext.size(), kMaxWrite);
    const int result = SSL_write(ssl_, plaintext.data(), static_cast<int>(part));
    if (result <= 0) {
      Fail(result);
      return false;
    }
    plaintext = plaintext.subspan(static_cast<size_t>(result));
  }
  return true;
}

void Channel::Shutdown() {
  if (!established_ || shut_down_) return;
  shut_down_ = true;
  SSL_shutdown(ssl_);  // 0: sent, the peer's not yet seen; an error if the connection broke
  ERR_clear_error();
}

// Takes the result of a call that did not succeed; wanting more input or a key operation is no
// failure.
void Channel::Fail(int result) {
  const int error = ssl_ == nullptr ? SSL_ERROR_SSL : SSL_get_error(ssl_, result);
  if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_PRIVATE_KEY_OPERATION) {
    ERR_clear_error();
    return;
  }
  if (error == SSL_ERROR_ZERO_RETURN) {
    ERR_clear_error();
    if (established_) {
      peer_closed_ = true;
    } else {
      FailAs(Failure::kEof, "the peer sent close_notify during the handshake");
    }
    return;
  }
  Diagnosis diagnosis = TakeDiagnosis(!established_, !peer_);
  if (!established_ && diagnosis.failure == Failure::kOther) {
    if (auto alert = CleartextAlert(transport_.io_->given)) diagnosis = std::move(*alert);
  }
  received_alert_ = diagnosis.alert;
  if (failure_ != Failure::kNone) return;  // VerifyPeer knows better
  FailAs(diagnosis.failure, std::move(diagnosis.text));
}

void Channel::FailAs(Failure failure, std::string error) {
  if (peer_ && !established_) peer_->Forget();  // whatever it stumbled over, next time it has less
  failure_ = failure;
  error_ = std::move(error);
}

std::unique_ptr<ClientCertificate> Channel::TakeClientCertificate() {
  return std::move(client_certificate_);
}

Facts Channel::facts() const {
  assert(established_);
  Facts facts;
  facts.version = SSL_get_version(ssl_);
  if (const SSL_CIPHER* cipher = SSL_get_current_cipher(ssl_)) {
    facts.cipher = SSL_CIPHER_standard_name(cipher);
    // Older BoringSSLs had a name of their own for those of TLS 1.3.
    facts.openssl_cipher =
        SSL_version(ssl_) >= TLS1_3_VERSION ? facts.cipher : SSL_CIPHER_get_name(cipher);
  }
  if (const uint16_t group = SSL_get_curve_id(ssl_); group != 0) {
    const char* name = SSL_get_curve_name(group);
    if (name != nullptr) facts.group = name;
  }
  if (peer_) {
    facts.server_name = HostName(peer_->server_name());
  } else if (const char* name = SSL_get_servername(ssl_, TLSEXT_NAMETYPE_host_name)) {
    facts.server_name = HostName(name);
  }
  const uint8_t* alpn = nullptr;
  unsigned alpn_size = 0;
  SSL_get0_alpn_selected(ssl_, &alpn, &alpn_size);
  facts.alpn = Printable({reinterpret_cast<const char*>(alpn), alpn_size});
  facts.resumed = resumed();
  facts.ticket = ticket_;
  return facts;
}

bool Channel::resumed() const {
  return SSL_session_reused(ssl_) == 1;
}

}  // namespace gatepost::tls
