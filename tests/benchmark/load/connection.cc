// SPDX-License-Identifier: Apache-2.0
#include "tests/benchmark/load/connection.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace gatepost::benchmark {
namespace {

constexpr size_t kReadBytes = 256 * 1024;
constexpr size_t kWriteBytes = 64 * 1024;
constexpr size_t kRecordMargin = 17 * 1024;
constexpr uint16_t kAes128Gcm = 0x1301;  // TLS_AES_128_GCM_SHA256, RFC 8446 §B.4

}  // namespace

// The library's view of the socket: the bytes of the call under way.
struct ConnectionBio {
  static int Read(BIO* bio, char* out, int size) {
    auto& self = *static_cast<Connection*>(BIO_get_data(bio));
    BIO_clear_retry_flags(bio);
    if (self.incoming_.empty()) {
      BIO_set_retry_read(bio);
      return -1;
    }
    const size_t taken = std::min(self.incoming_.size(), static_cast<size_t>(size));
    std::memcpy(out, self.incoming_.data(), taken);
    self.incoming_.remove_prefix(taken);
    return static_cast<int>(taken);
  }
  static int Write(BIO* bio, const char* in, int size) {
    BIO_clear_retry_flags(bio);
    static_cast<Connection*>(BIO_get_data(bio))->outgoing_.append(in, static_cast<size_t>(size));
    return size;
  }
  static long Control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }
};

TlsClient::TlsClient(bool rsa, bool resume)
    : context_(SSL_CTX_new(TLS_client_method())), rsa_(rsa), resume_(resume) {
  SSL_CTX_set_min_proto_version(context_.get(), TLS1_3_VERSION);
  SSL_CTX_set_max_proto_version(context_.get(), TLS1_3_VERSION);
  SSL_CTX_set1_curves_list(context_.get(), "X25519");
  SSL_CTX_set_verify(context_.get(), SSL_VERIFY_NONE, nullptr);
  // By the old name, too, which TLS 1.3 never signs with: HAProxy 2.6 takes only clients that have
  // it for such as know RSA.
  static constexpr uint16_t kRsa[] = {SSL_SIGN_RSA_PSS_RSAE_SHA256, SSL_SIGN_RSA_PKCS1_SHA256};
  static constexpr uint16_t kEcdsa[] = {SSL_SIGN_ECDSA_SECP256R1_SHA256};
  SSL_CTX_set_verify_algorithm_prefs(context_.get(), rsa ? kRsa : kEcdsa, rsa ? 2 : 1);
  SSL_CTX_set_app_data(context_.get(), this);
  if (resume) {
    SSL_CTX_set_session_cache_mode(context_.get(),
                                   SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context_.get(), OnSession);
  }
}

int TlsClient::OnSession(SSL* ssl, SSL_SESSION* session) {
  auto& self = *static_cast<TlsClient*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
  if (self.session_) return 0;
  self.session_.reset(session);
  return 1;
}

SSL* TlsClient::New() const {
  SSL* ssl = SSL_new(context_.get());
  SSL_set_connect_state(ssl);
  SSL_set_shed_handshake_config(ssl, 1);  // many thousands of them may be held
  SSL_set_tlsext_host_name(ssl, "mail.benchmark.test");
  if (session_) SSL_set_session(ssl, session_.get());
  return ssl;
}

std::string TlsClient::Check(const SSL* ssl) const {
  if (SSL_version(ssl) != TLS1_3_VERSION) return std::string("negotiated ") + SSL_get_version(ssl);
  if (const uint16_t cipher = SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(ssl));
      cipher != kAes128Gcm) {
    return "negotiated another cipher: " + std::to_string(cipher);
  }
  if (SSL_get_curve_id(ssl) != SSL_CURVE_X25519) return "negotiated another group";
  const bool resumed = SSL_session_reused(ssl) == 1;
  if (resumed != (resume_ && session_ != nullptr)) {
    return resumed ? "resumed a session" : "did not resume the session";
  }
  if (!resumed && SSL_get_peer_signature_algorithm(ssl) !=
                      (rsa_ ? SSL_SIGN_RSA_PSS_RSAE_SHA256 : SSL_SIGN_ECDSA_SECP256R1_SHA256)) {
    return "the server signed with another key";
  }
  return {};
}

Shared::Shared(Loop& the_loop, TlsClient& client, std::string target_host, uint16_t target_port)
    : loop(the_loop),
      tls(client),
      host(std::move(target_host)),
      port(target_port),
      received(kReadBytes),
      plaintext(kReadBytes + kRecordMargin),
      method(BIO_meth_new(0, "benchmark")) {
  BIO_meth_set_read(method.get(), ConnectionBio::Read);
  BIO_meth_set_write(method.get(), ConnectionBio::Write);
  BIO_meth_set_ctrl(method.get(), ConnectionBio::Control);
}

Connection::~Connection() {
  Close();
}

void Connection::Close() {
  if (descriptor_ >= 0) close(descriptor_);
  descriptor_ = -1;
  ssl_.reset();
}

bool Connection::Fail(std::string error) {
  if (error_.empty()) error_ = std::move(error);
  return false;
}

Task Connection::Open() {
  descriptor_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (descriptor_ < 0) co_return Fail(std::string("socket: ") + std::strerror(errno));
  const int on = 1;
  setsockopt(descriptor_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(shared_.port);
  inet_pton(AF_INET, shared_.host.c_str(), &address.sin_addr);
  shared_.loop.Add(descriptor_, waiter_);
  if (connect(descriptor_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
    if (errno != EINPROGRESS) co_return Fail(std::string("connect: ") + std::strerror(errno));
    for (;;) {
      co_await Event();
      int problem = 0;
      socklen_t size = sizeof(problem);
      getsockopt(descriptor_, SOL_SOCKET, SO_ERROR, &problem, &size);
      if (problem != 0) co_return Fail(std::string("connect: ") + std::strerror(problem));
      sockaddr_in peer;
      size = sizeof(peer);
      if (getpeername(descriptor_, reinterpret_cast<sockaddr*>(&peer), &size) == 0) break;
    }
  }
  co_return true;
}

Task Connection::Handshake() {
  ssl_.reset(shared_.tls.New());
  BIO* bio = BIO_new(shared_.method.get());
  BIO_set_data(bio, this);
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_.get(), bio, bio);
  for (;;) {
    const int result = SSL_do_handshake(ssl_.get());
    if (result != 1 && SSL_get_error(ssl_.get(), result) != SSL_ERROR_WANT_READ) {
      const char* reason = ERR_reason_error_string(ERR_peek_error());
      ERR_clear_error();
      co_return Fail(std::string("TLS: ") + (reason == nullptr ? "failed" : reason));
    }
    const bool done = result == 1;
    // incoming_ points to memory of all connections: it must be used up before anybody waits.
    if (done && !Decrypt()) co_return false;
    const bool sent = co_await Flush();
    if (!sent) co_return false;
    if (done) break;
    for (;;) {
      const ssize_t size = recv(descriptor_, shared_.received.data(), shared_.received.size(), 0);
      if (size > 0) {
        incoming_ = {shared_.received.data(), static_cast<size_t>(size)};
        break;
      }
      if (size == 0) co_return Fail("closed during the handshake");
      if (errno != EAGAIN) co_return Fail(std::string("handshake: ") + std::strerror(errno));
      co_await Event();
    }
  }
  if (std::string wrong = shared_.tls.Check(ssl_.get()); !wrong.empty()) co_return Fail(wrong);
  co_return true;
}

// Takes the plaintext out of all of incoming_.
bool Connection::Decrypt() {
  for (;;) {
    const int size =
        SSL_read(ssl_.get(), shared_.plaintext.data(), static_cast<int>(shared_.plaintext.size()));
    if (size > 0) {
      Consume({shared_.plaintext.data(), static_cast<size_t>(size)});
      continue;
    }
    const int error = SSL_get_error(ssl_.get(), size);
    if (error == SSL_ERROR_WANT_READ) return true;
    if (error == SSL_ERROR_ZERO_RETURN) {
      ended_ = true;
      return true;
    }
    const char* reason = ERR_reason_error_string(ERR_peek_error());
    ERR_clear_error();
    return Fail(std::string("TLS: ") + (reason == nullptr ? "read failed" : reason));
  }
}

Connection::Pumped Connection::Pump() {
  if (ended_) return Pumped::kEnd;
  const ssize_t size = recv(descriptor_, shared_.received.data(), shared_.received.size(), 0);
  if (size < 0) {
    if (errno == EAGAIN) return Pumped::kNothing;
    (void)Fail(std::string("recv: ") + std::strerror(errno));
    ended_ = true;
    return Pumped::kEnd;
  }
  if (size == 0) {
    ended_ = true;
    return Pumped::kEnd;
  }
  if (ssl_) {
    incoming_ = {shared_.received.data(), static_cast<size_t>(size)};
    if (!Decrypt()) ended_ = true;
    return ended_ ? Pumped::kEnd : Pumped::kBytes;
  }
  Consume({shared_.received.data(), static_cast<size_t>(size)});
  return Pumped::kBytes;
}

void Connection::Consume(std::string_view plaintext) {
  if (message_left_ > 0 && !wait_for_message_) {
    const auto size = static_cast<size_t>(std::min<uint64_t>(plaintext.size(), message_left_));
    if (!shared_.pattern.Matches(message_at_, plaintext.substr(0, size))) {
      (void)Fail("other bytes than were sent");
    }
    message_at_ += size;
    message_left_ -= size;
    plaintext.remove_prefix(size);
  }
  input_ += plaintext;
}

void Connection::BeginMessage(uint64_t bytes) {
  message_at_ = 0;
  message_left_ = bytes;
  wait_for_message_ = true;
}

Task Connection::ReceiveMessage() {
  wait_for_message_ = false;
  const std::string early = std::exchange(input_, {});
  Consume(early);
  while (message_left_ > 0) {
    const Pumped pumped = Pump();
    if (pumped == Pumped::kEnd) co_return Fail("closed in the middle of a message");
    if (pumped == Pumped::kNothing) co_await Event();
  }
  co_return error_.empty();
}

Task Connection::Send(std::string text) {
  if (ssl_) {
    if (SSL_write(ssl_.get(), text.data(), static_cast<int>(text.size())) <= 0) {
      co_return Fail("TLS: write failed");
    }
  } else {
    outgoing_ += text;
  }
  const bool sent = co_await Flush();
  co_return sent;
}

Task Connection::SendMessage(uint64_t bytes, uint64_t offset) {
  while (bytes > 0) {
    const std::string_view piece =
        shared_.pattern.At(offset, std::min<uint64_t>(bytes, kWriteBytes));
    if (ssl_) {
      if (SSL_write(ssl_.get(), piece.data(), static_cast<int>(piece.size())) <= 0) {
        co_return Fail("TLS: write failed");
      }
    } else {
      outgoing_ += piece;
    }
    offset += piece.size();
    bytes -= piece.size();
    const bool sent = co_await Flush();
    if (!sent) co_return false;
  }
  co_return true;
}

Task Connection::Flush() {
  size_t at = 0;
  while (at < outgoing_.size()) {
    const ssize_t size =
        send(descriptor_, outgoing_.data() + at, outgoing_.size() - at, MSG_NOSIGNAL);
    if (size >= 0) {
      at += static_cast<size_t>(size);
    } else if (errno == EAGAIN) {
      co_await Event();
    } else {
      co_return Fail(std::string("send: ") + std::strerror(errno));
    }
  }
  outgoing_.clear();
  if (outgoing_.capacity() > 4096 && outgoing_.capacity() < kWriteBytes) outgoing_.shrink_to_fit();
  co_return true;
}

Task Connection::Expect(std::string prefix) {
  for (;;) {
    for (size_t end; (end = input_.find("\r\n")) != std::string::npos;) {
      const std::string line = input_.substr(0, end);
      input_.erase(0, end + 2);
      if (line.starts_with(prefix)) co_return true;
      const bool goes_on = line.starts_with("* ") || (line.size() > 3 && line[3] == '-');
      if (!goes_on) co_return Fail("wanted \"" + prefix + "\", got \"" + line + "\"");
    }
    const Pumped pumped = Pump();
    if (pumped == Pumped::kEnd && input_.find("\r\n") == std::string::npos) {
      co_return Fail("closed while \"" + prefix + "\" was due");
    }
    if (pumped == Pumped::kNothing) co_await Event();
  }
}

Task Connection::ExpectEnd() {
  for (;;) {
    const Pumped pumped = Pump();
    if (pumped == Pumped::kEnd) co_return error_.empty();
    if (pumped == Pumped::kNothing) co_await Event();
  }
}

}  // namespace gatepost::benchmark
