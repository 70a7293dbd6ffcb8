// One connection of the benchmark's backend: canned IMAP, POP3 and SMTP at the least CPU.
//
// It believes every password. What a client uploads must be the Pattern, or the command fails: so a
// proxy that changes a byte shows as errors. Owned by the Server; one thread.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "tests/benchmark/pattern.h"

namespace gatepost::benchmark {

enum class Service : uint8_t { kImap, kPop3, kSmtp, kAuthHttp };

// Ports of the services, for the answer to nginx's auth_http.
struct Ports {
  uint16_t imap = 0;
  uint16_t pop3 = 0;
  uint16_t smtp = 0;
  uint16_t auth_http = 0;
};

class Connection {
 public:
  Connection(int descriptor, Service service) : descriptor_(descriptor), service_(service) {}
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  [[nodiscard]] int descriptor() const { return descriptor_; }

  void Greet();
  // OnBytes takes what the client sent.
  void OnBytes(std::string_view bytes, const Pattern& pattern, const Ports& ports);
  // Flush sends what it can; false when the connection is broken or through.
  bool Flush(const Pattern& pattern);

  [[nodiscard]] bool wants_to_write() const { return !output_.empty() || bulk_left_ > 0; }
  // Deaf connections are not read any more: a peer that stalls.
  [[nodiscard]] bool deaf() const { return deaf_; }

 private:
  enum class Expecting : uint8_t {
    kCommand,
    kLoginUser,      // IMAP LOGIN: a literal user name
    kLoginPassword,  // and the password
    kAuthResponse,   // the response to an empty SASL challenge
    kMessage,        // `message_left_` bytes of it
    kMailData        // up to CRLF.CRLF
  };

  void OnLine(std::string_view line, const Ports& ports);
  void OnImap(std::string_view line);
  void OnPop3(std::string_view line);
  void OnSmtp(std::string_view line);
  void OnHttp(std::string_view line, const Ports& ports);
  std::string_view OnMessage(std::string_view bytes, const Pattern& pattern);
  std::string_view OnMailData(std::string_view bytes, const Pattern& pattern);
  void Tagged(std::string_view status);
  void SendMessage(uint64_t bytes, std::string_view tail);

  int descriptor_;
  Service service_;
  Expecting expecting_ = Expecting::kCommand;
  bool matches_ = true;  // the upload so far
  bool closing_ = false;
  bool deaf_ = false;
  bool chunk_last_ = false;
  uint64_t message_at_ = 0;  // offset of the next uploaded byte
  uint64_t message_left_ = 0;
  uint64_t bulk_at_ = 0;
  uint64_t bulk_left_ = 0;
  std::string line_;    // incomplete
  std::string tag_;     // IMAP, of the command under way
  std::string output_;  // goes before the bulk
  std::string tail_;    // goes behind it
  std::string end_;     // last bytes of mail data, at most 5
};

}  // namespace gatepost::benchmark
