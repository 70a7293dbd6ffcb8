// A TLS client made of BoringSSL alone: another implementation of the plumbing than the Channel's,
// and able to do what our own client side never does (old versions, foreign ALPN, resumption).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/unit/tls/channel_pair.h"
#include "tls/internal.h"

namespace gatepost::tls::test {

class RawClient {
 public:
  RawClient() : context_(SSL_CTX_new(TLS_method())) {
    SSL_CTX_set_session_cache_mode(context_.get(), SSL_SESS_CACHE_CLIENT);
    SSL_CTX_set_app_data(context_.get(), this);
    SSL_CTX_sess_set_new_cb(context_.get(), [](SSL* connection, SSL_SESSION* ticket) {
      auto* self = static_cast<RawClient*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(connection)));
      self->session.reset(ticket);
      return 1;
    });
  }

  SSL_CTX* context() { return context_.get(); }

  // Connect makes a new connection; the next calls speak on it.
  void Connect(const char* server_name = "mail.example") {
    ssl_.reset(SSL_new(context_.get()));
    SSL_set_connect_state(ssl_.get());
    SSL_set_bio(ssl_.get(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    BIO_set_mem_eof_return(SSL_get_rbio(ssl_.get()), -1);
    if (server_name != nullptr) SSL_set_tlsext_host_name(ssl_.get(), server_name);
    if (session) SSL_set_session(ssl_.get(), session.get());
  }

  SSL* ssl() { return ssl_.get(); }

  // TakeOutput returns what the client wants to send.
  std::string TakeOutput() {
    const uint8_t* data = nullptr;
    size_t size = 0;
    BIO* bio = SSL_get_wbio(ssl_.get());
    BIO_mem_contents(bio, &data, &size);
    std::string output(reinterpret_cast<const char*>(data), size);
    BIO_reset(bio);
    return output;
  }

  // Feed hands the client what the server sent.
  void Feed(std::string_view bytes) {
    BIO_write(SSL_get_rbio(ssl_.get()), bytes.data(), static_cast<int>(bytes.size()));
  }

  // Handshake runs the handshake with `server` to its end. Returns whether the client is content.
  bool Handshake(Channel& server, Transport& wire, const Pieces& pieces = Whole()) {
    for (;;) {
      const int result = SSL_do_handshake(ssl_.get());
      if (result != 1 && SSL_get_error(ssl_.get(), result) != SSL_ERROR_WANT_READ) {
        error = TakeLibraryError();
        Pass(server, pieces);
        return false;
      }
      Pass(server, pieces);
      const bool silent = wire.outgoing.empty();
      Feed({reinterpret_cast<const char*>(wire.outgoing.data()), wire.outgoing.size()});
      wire.outgoing.clear();
      if (result == 1) break;
      if (silent) return false;
    }
    return true;
  }

  // Pass hands the client's output to `server` and returns the plaintext that came out.
  std::string Pass(Channel& server, const Pieces& pieces = Whole()) {
    const std::string output = TakeOutput();
    Transport wire;
    wire.outgoing.assign(output.begin(), output.end());
    received += Deliver(wire, server, pieces);
    return received;
  }

  std::string Read() {
    std::string result;
    char buffer[4096];
    int size = 0;
    while ((size = SSL_read(ssl_.get(), buffer, sizeof buffer)) > 0) {
      result.append(buffer, static_cast<size_t>(size));
    }
    last_error = SSL_get_error(ssl_.get(), size);
    ERR_clear_error();
    return result;
  }

  bssl::UniquePtr<SSL_SESSION> session;  // the newest ticket
  std::string error;                     // why the client gave up
  std::string received;                  // all plaintext that the server got
  int last_error = 0;

 private:
  bssl::UniquePtr<SSL_CTX> context_;
  bssl::UniquePtr<SSL> ssl_;
};

}  // namespace gatepost::tls::test
