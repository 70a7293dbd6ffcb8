// A mail client's connection: TCP, TLS by BoringSSL, lines, and messages made of the Pattern.
//
// Every operation is awaited and says whether it went well; error() says what did not. One thread.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <openssl/ssl.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tests/benchmark/load/loop.h"
#include "tests/benchmark/load/task.h"
#include "tests/benchmark/pattern.h"

namespace gatepost::benchmark {

// The TLS client that all connections share: TLS 1.3, X25519, one kind of certificate. What was not
// negotiated so is an error, so that every proxy does the same work.
class TlsClient {
 public:
  TlsClient(bool rsa, bool resume);

  [[nodiscard]] SSL* New() const;
  // Check returns what is wrong with an established connection, or nothing.
  [[nodiscard]] std::string Check(const SSL* ssl) const;
  [[nodiscard]] bool has_session() const { return session_ != nullptr; }
  // For the next New; connections resume this one again and again.
  static int OnSession(SSL* ssl, SSL_SESSION* session);

 private:
  bssl::UniquePtr<SSL_CTX> context_;
  bssl::UniquePtr<SSL_SESSION> session_;
  bool rsa_;
  bool resume_;
};

// What connections share: the loop, buffers, and whom to connect to.
struct Shared {
  Shared(Loop& the_loop, TlsClient& client, std::string target_host, uint16_t target_port);

  Loop& loop;
  TlsClient& tls;
  const std::string host;
  const uint16_t port;
  const Pattern pattern;
  std::vector<char> received;
  std::vector<char> plaintext;
  bssl::UniquePtr<BIO_METHOD> method;
};

class Connection {
 public:
  explicit Connection(Shared& shared) : shared_(shared) {}
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  Task Open();
  Task Handshake();
  Task Send(std::string text);
  // Expect reads lines up to the first that begins with `prefix`. Untagged responses and lines of a
  // reply that go on ("250-") may stand before it; anything else is an error.
  Task Expect(std::string prefix);
  // The next `bytes` bytes that come are the Pattern; begin before asking for them.
  void BeginMessage(uint64_t bytes);
  Task ReceiveMessage();
  // SendMessage writes `bytes` bytes of the Pattern that stands at `offset`.
  Task SendMessage(uint64_t bytes, uint64_t offset = 0);
  Task ExpectEnd();
  void Close();

  [[nodiscard]] const std::string& error() const { return error_; }

 private:
  friend struct ConnectionBio;

  // co_await Event(): until the socket has news.
  auto Event() {
    struct Wait {
      Waiter& waiter;
      bool await_ready() const { return false; }
      void await_suspend(std::coroutine_handle<> handle) { waiter.waiting = handle; }
      void await_resume() const {}
    };
    return Wait{waiter_};
  }

  enum class Pumped : uint8_t { kBytes, kNothing, kEnd };
  Pumped Pump();
  bool Decrypt();
  void Consume(std::string_view plaintext);
  Task Flush();
  bool Fail(std::string error);

  Shared& shared_;
  Waiter waiter_;
  int descriptor_ = -1;
  bssl::UniquePtr<SSL> ssl_;
  std::string_view incoming_;  // ciphertext of the call under way
  std::string outgoing_;
  std::string input_;  // plaintext that no line has taken
  uint64_t message_at_ = 0;
  uint64_t message_left_ = 0;
  bool wait_for_message_ = false;  // lines come before it
  bool ended_ = false;
  std::string error_;
};

}  // namespace gatepost::benchmark
