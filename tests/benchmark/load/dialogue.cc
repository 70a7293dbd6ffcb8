// SPDX-License-Identifier: Apache-2.0
#include "tests/benchmark/load/dialogue.h"

#include <algorithm>
#include <string>

namespace gatepost::benchmark {
namespace {

constexpr std::string_view kEhlo = "EHLO client.benchmark.test\r\n";
// The user "bench" with the password "secret", RFC 4616.
constexpr std::string_view kAuthPlain = "AUTH PLAIN AGJlbmNoAHNlY3JldA==\r\n";

}  // namespace

Task Dialogue::Start(bool starttls) {
  const bool open = co_await connection_.Open();
  if (!open) co_return false;
  const bool begun = co_await Begin(starttls);
  co_return begun;
}

// NOLINTBEGIN: each step reads as it happens
#define STEP(operation) \
  if (const bool ok = co_await operation; !ok) co_return false

Task Dialogue::Begin(bool starttls) {
  if (!starttls) STEP(connection_.Handshake());
  switch (protocol_) {
    case Protocol::kImap:
      STEP(connection_.Expect("* OK"));
      if (!starttls) co_return true;
      STEP(connection_.Send("s STARTTLS\r\n"));
      STEP(connection_.Expect("s OK"));
      break;
    case Protocol::kPop3:
      STEP(connection_.Expect("+OK"));
      if (!starttls) co_return true;
      STEP(connection_.Send("STLS\r\n"));
      STEP(connection_.Expect("+OK"));
      break;
    case Protocol::kSmtp:
      STEP(connection_.Expect("220 "));
      if (!starttls) co_return true;
      STEP(connection_.Send(std::string(kEhlo)));
      STEP(connection_.Expect("250 "));
      STEP(connection_.Send("STARTTLS\r\n"));
      STEP(connection_.Expect("220 "));
      break;
  }
  STEP(connection_.Handshake());
  co_return true;
}

Task Dialogue::Login() {
  switch (protocol_) {
    case Protocol::kImap:
      STEP(connection_.Send("a LOGIN bench secret\r\n"));
      STEP(connection_.Expect("a OK"));
      break;
    case Protocol::kPop3:
      STEP(connection_.Send("USER bench\r\n"));
      STEP(connection_.Expect("+OK"));
      STEP(connection_.Send("PASS secret\r\n"));
      STEP(connection_.Expect("+OK"));
      break;
    case Protocol::kSmtp:
      STEP(connection_.Send(std::string(kEhlo)));
      STEP(connection_.Expect("250 "));
      STEP(connection_.Send(std::string(kAuthPlain)));
      STEP(connection_.Expect("235 "));
      break;
  }
  co_return true;
}

Task Dialogue::Noop() {
  switch (protocol_) {
    case Protocol::kImap:
      STEP(connection_.Send("n NOOP\r\n"));
      STEP(connection_.Expect("n OK"));
      break;
    case Protocol::kPop3:
      STEP(connection_.Send("NOOP\r\n"));
      STEP(connection_.Expect("+OK"));
      break;
    case Protocol::kSmtp:
      STEP(connection_.Send("NOOP\r\n"));
      STEP(connection_.Expect("250 "));
      break;
  }
  co_return true;
}

Task Dialogue::Ask(uint64_t bytes) {
  connection_.BeginMessage(bytes);
  if (protocol_ == Protocol::kImap) {
    STEP(connection_.Send("f FETCH 1 BODY[]<0." + std::to_string(bytes) + ">\r\n"));
    STEP(connection_.Expect("* 1 FETCH"));
  } else {
    STEP(connection_.Send("RETR " + std::to_string(bytes) + "\r\n"));
    STEP(connection_.Expect("+OK"));
  }
  co_return true;
}

Task Dialogue::Fetch(uint64_t bytes) {
  STEP(Ask(bytes));
  STEP(connection_.ReceiveMessage());
  if (protocol_ == Protocol::kImap) {
    STEP(connection_.Expect(")"));
    STEP(connection_.Expect("f OK"));
  } else {
    STEP(connection_.Expect("."));
  }
  co_return true;
}

Task Dialogue::Store(uint64_t bytes, bool chunking) {
  if (protocol_ == Protocol::kImap) {
    STEP(connection_.Send("p APPEND inbox {" + std::to_string(bytes) + "}\r\n"));
    STEP(connection_.Expect("+"));
    STEP(connection_.SendMessage(bytes));
    STEP(connection_.Send("\r\n"));
    STEP(connection_.Expect("p OK"));
    co_return true;
  }
  STEP(connection_.Send("MAIL FROM:<bench@benchmark.test>\r\n"));
  STEP(connection_.Expect("250 "));
  STEP(connection_.Send("RCPT TO:<bench@benchmark.test>\r\n"));
  STEP(connection_.Expect("250 "));
  if (chunking) {
    STEP(Chunks(bytes));
    co_return true;
  }
  STEP(connection_.Send("DATA\r\n"));
  STEP(connection_.Expect("354 "));
  STEP(connection_.SendMessage(bytes));
  STEP(connection_.Send(".\r\n"));
  STEP(connection_.Expect("250 "));
  co_return true;
}

Task Dialogue::Chunks(uint64_t bytes) {
  for (uint64_t at = 0; at < bytes;) {
    const uint64_t size = std::min(kChunkBytes, bytes - at);
    STEP(connection_.Send("BDAT " + std::to_string(size) +
                          (at + size == bytes ? " LAST\r\n" : "\r\n")));
    STEP(connection_.SendMessage(size, at));
    STEP(connection_.Expect("250 "));
    at += size;
  }
  co_return true;
}

Task Dialogue::Stall(uint64_t bytes) {
  STEP(connection_.Send("p APPEND stall {" + std::to_string(bytes) + "}\r\n"));
  STEP(connection_.Expect("+"));
  STEP(connection_.SendMessage(bytes));
  co_return true;
}

Task Dialogue::Logout() {
  switch (protocol_) {
    case Protocol::kImap:
      STEP(connection_.Send("z LOGOUT\r\n"));
      STEP(connection_.Expect("z OK"));
      break;
    case Protocol::kPop3:
      STEP(connection_.Send("QUIT\r\n"));
      STEP(connection_.Expect("+OK"));
      break;
    case Protocol::kSmtp:
      STEP(connection_.Send("QUIT\r\n"));
      STEP(connection_.Expect("221 "));
      break;
  }
  STEP(connection_.ExpectEnd());
  co_return true;
}

#undef STEP
// NOLINTEND

}  // namespace gatepost::benchmark
