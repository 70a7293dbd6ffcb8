// SPDX-License-Identifier: Apache-2.0
#include "tests/benchmark/backend/connection.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <utility>

namespace gatepost::benchmark {
namespace {

constexpr std::string_view kEndOfData = "\r\n.\r\n";
constexpr size_t kMaxLineBytes = 64 * 1024;

bool StartsWith(std::string_view text, std::string_view upper) {
  return text.size() >= upper.size() &&
         std::equal(upper.begin(), upper.end(), text.begin(), [](char a, char b) {
           return a == std::toupper(static_cast<unsigned char>(b));
         });
}

// The number behind the last `mark` of the line; 0 without one.
uint64_t NumberBehind(std::string_view line, char mark) {
  const size_t at = line.rfind(mark);
  uint64_t number = 0;
  if (at != std::string_view::npos) {
    std::from_chars(line.data() + at + 1, line.data() + line.size(), number);
  }
  return number;
}

std::string_view Word(std::string_view line, size_t index) {
  for (; index > 0; --index) {
    const size_t space = line.find(' ');
    if (space == std::string_view::npos) return {};
    line.remove_prefix(space + 1);
  }
  return line.substr(0, line.find(' '));
}

}  // namespace

Connection::~Connection() {
  close(descriptor_);
}

void Connection::Greet() {
  switch (service_) {
    case Service::kImap:
      output_ = "* OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL+ AUTH=PLAIN] ready\r\n";
      return;
    case Service::kPop3:
      output_ = "+OK ready\r\n";
      return;
    case Service::kSmtp:
      output_ = "220 backend.test ESMTP\r\n";
      return;
    case Service::kAuthHttp:
      return;
  }
}

void Connection::OnBytes(std::string_view bytes, const Pattern& pattern, const Ports& ports) {
  while (!bytes.empty() && !closing_ && !deaf_) {
    if (expecting_ == Expecting::kMessage) {
      bytes = OnMessage(bytes, pattern);
      continue;
    }
    if (expecting_ == Expecting::kMailData) {
      bytes = OnMailData(bytes, pattern);
      continue;
    }
    const size_t newline = bytes.find('\n');
    if (newline == std::string_view::npos) {
      line_ += bytes;
      closing_ = line_.size() > kMaxLineBytes;
      return;
    }
    std::string_view line = bytes.substr(0, newline);
    bytes.remove_prefix(newline + 1);
    const std::string earlier = std::exchange(line_, {});
    std::string whole;
    if (!earlier.empty()) line = whole = earlier + std::string(line);
    if (line.ends_with('\r')) line.remove_suffix(1);
    OnLine(line, ports);
  }
}

bool Connection::Flush(const Pattern& pattern) {
  for (;;) {
    if (output_.empty() && bulk_left_ == 0 && !tail_.empty()) output_.swap(tail_);
    const std::string_view next =
        !output_.empty() ? std::string_view(output_) : pattern.At(bulk_at_, bulk_left_);
    if (next.empty()) return !closing_;
    const ssize_t sent = send(descriptor_, next.data(), next.size(), MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN || errno == EINTR;
    if (!output_.empty()) {
      output_.erase(0, static_cast<size_t>(sent));
    } else {
      bulk_at_ += static_cast<uint64_t>(sent);
      bulk_left_ -= static_cast<uint64_t>(sent);
    }
  }
}

void Connection::OnLine(std::string_view line, const Ports& ports) {
  switch (service_) {
    case Service::kImap:
      return OnImap(line);
    case Service::kPop3:
      return OnPop3(line);
    case Service::kSmtp:
      return OnSmtp(line);
    case Service::kAuthHttp:
      return OnHttp(line, ports);
  }
}

void Connection::Tagged(std::string_view status) {
  output_ += tag_;
  output_ += ' ';
  output_ += status;
  output_ += "\r\n";
}

void Connection::SendMessage(uint64_t bytes, std::string_view tail) {
  bulk_at_ = 0;
  bulk_left_ = bytes;
  tail_ = tail;
}

void Connection::OnImap(std::string_view line) {
  switch (expecting_) {
    case Expecting::kLoginUser:
      expecting_ = Expecting::kLoginPassword;
      if (line.ends_with('}')) {
        output_ += "+ go on\r\n";
        return;
      }
      [[fallthrough]];
    case Expecting::kLoginPassword:
    case Expecting::kAuthResponse:
      expecting_ = Expecting::kCommand;
      return Tagged("OK logged in");
    case Expecting::kCommand:
    case Expecting::kMessage:
    case Expecting::kMailData:
      break;
  }
  if (line.empty()) return;  // behind a literal
  tag_ = Word(line, 0);
  const std::string_view command = Word(line, 1);
  if (StartsWith(command, "NOOP")) return Tagged("OK done");
  if (StartsWith(command, "LOGIN")) {
    if (!line.ends_with('}')) return Tagged("OK logged in");
    expecting_ = Expecting::kLoginUser;
    output_ += "+ go on\r\n";
    return;
  }
  if (StartsWith(command, "AUTHENTICATE")) {
    if (!Word(line, 3).empty()) return Tagged("OK logged in");
    expecting_ = Expecting::kAuthResponse;
    output_ += "+ \r\n";
    return;
  }
  if (StartsWith(command, "CAPABILITY")) {
    output_ += "* CAPABILITY IMAP4rev1 SASL-IR LITERAL+ AUTH=PLAIN\r\n";
    return Tagged("OK done");
  }
  if (StartsWith(command, "FETCH")) {  // … BODY[]<0.BYTES>: the size stands behind the last dot
    const uint64_t bytes = NumberBehind(line, '.');
    output_ += "* 1 FETCH (BODY[] {" + std::to_string(bytes) + "}\r\n";
    return SendMessage(bytes, ")\r\n" + tag_ + " OK done\r\n");
  }
  if (StartsWith(command, "APPEND")) {
    if (Word(line, 2) == "stall") {
      deaf_ = true;
    } else {
      expecting_ = Expecting::kMessage;
    }
    message_at_ = 0;
    message_left_ = NumberBehind(line, '{');
    matches_ = true;
    output_ += "+ go on\r\n";
    return;
  }
  if (StartsWith(command, "LOGOUT")) {
    output_ += "* BYE\r\n";
    Tagged("OK done");
    closing_ = true;
    return;
  }
  Tagged("BAD unknown");
}

void Connection::OnPop3(std::string_view line) {
  if (expecting_ == Expecting::kAuthResponse) {
    expecting_ = Expecting::kCommand;
    output_ += "+OK logged in\r\n";
  } else if (StartsWith(line, "CAPA")) {
    output_ += "+OK\r\nUSER\r\nSASL PLAIN\r\nUIDL\r\nTOP\r\n.\r\n";
  } else if (StartsWith(line, "AUTH") && Word(line, 2).empty()) {
    expecting_ = Expecting::kAuthResponse;
    output_ += "+ \r\n";
  } else if (StartsWith(line, "RETR")) {
    output_ += "+OK\r\n";
    SendMessage(NumberBehind(line, ' '), ".\r\n");
  } else {
    output_ += "+OK done\r\n";
    closing_ = StartsWith(line, "QUIT");
  }
}

void Connection::OnSmtp(std::string_view line) {
  if (expecting_ == Expecting::kAuthResponse) {
    expecting_ = Expecting::kCommand;
    output_ += "235 2.7.0 logged in\r\n";
  } else if (StartsWith(line, "EHLO")) {
    output_ +=
        "250-backend.test\r\n250-PIPELINING\r\n250-SIZE\r\n250-CHUNKING\r\n250-AUTH PLAIN\r\n"
        "250 8BITMIME\r\n";
  } else if (StartsWith(line, "AUTH")) {
    if (Word(line, 2).empty()) {
      expecting_ = Expecting::kAuthResponse;
      output_ += "334 \r\n";
    } else {
      output_ += "235 2.7.0 logged in\r\n";
    }
  } else if (StartsWith(line, "DATA")) {
    expecting_ = Expecting::kMailData;
    message_at_ = 0;
    matches_ = true;
    end_ = "\r\n";
    output_ += "354 go on\r\n";
  } else if (StartsWith(line, "BDAT")) {
    std::from_chars(line.data() + 5, line.data() + line.size(), message_left_);
    chunk_last_ = !Word(line, 2).empty();
    if (message_left_ > 0) expecting_ = Expecting::kMessage;
    if (message_left_ == 0) output_ += "250 2.0.0 done\r\n";
  } else if (StartsWith(line, "MAIL")) {
    message_at_ = 0;
    matches_ = true;
    output_ += "250 2.1.0 done\r\n";
  } else if (StartsWith(line, "QUIT")) {
    output_ += "221 2.0.0 bye\r\n";
    closing_ = true;
  } else {
    output_ += "250 2.0.0 done\r\n";
  }
}

// nginx asks once a connection, over HTTP/1.0; the header Auth-Protocol names the service.
void Connection::OnHttp(std::string_view line, const Ports& ports) {
  if (StartsWith(line, "AUTH-PROTOCOL:")) tag_ = line.substr(line.size() - 4);
  if (!line.empty()) return;
  const uint16_t port = tag_ == "imap" ? ports.imap : tag_ == "pop3" ? ports.pop3 : ports.smtp;
  output_ = "HTTP/1.0 200 OK\r\nAuth-Status: OK\r\nAuth-Server: 127.0.0.1\r\nAuth-Port: " +
            std::to_string(port) + "\r\n\r\n";
  closing_ = true;
}

std::string_view Connection::OnMessage(std::string_view bytes, const Pattern& pattern) {
  const auto size = static_cast<size_t>(std::min<uint64_t>(bytes.size(), message_left_));
  matches_ = matches_ && pattern.Matches(message_at_, bytes.substr(0, size));
  message_at_ += size;
  message_left_ -= size;
  if (message_left_ == 0) {
    expecting_ = Expecting::kCommand;
    if (service_ == Service::kImap) {
      Tagged(matches_ ? "OK done" : "NO other bytes");
    } else {
      output_ += matches_ ? "250 2.0.0 done\r\n" : "554 5.6.0 other bytes\r\n";
    }
  }
  return bytes.substr(size);
}

// The client sends nothing behind CRLF.CRLF before the answer, and the Pattern has no dots: the end
// can only be the end of what has come.
std::string_view Connection::OnMailData(std::string_view bytes, const Pattern& pattern) {
  const std::string before = end_;
  end_ += bytes.substr(bytes.size() - std::min(bytes.size(), kEndOfData.size()));
  if (end_.size() > kEndOfData.size()) end_.erase(0, end_.size() - kEndOfData.size());
  const bool ended = end_ == kEndOfData;
  // ".\r\n" may have come in pieces: what of it is in this piece is no message.
  std::string_view text = bytes;
  if (const size_t dot = text.find('.', text.size() - std::min<size_t>(text.size(), 3));
      dot != std::string_view::npos) {
    text = text.substr(0, dot);
  } else if (before.ends_with("\r\n.") || before.ends_with("\r\n.\r")) {
    text = {};
  }
  matches_ = matches_ && pattern.Matches(message_at_, text);
  message_at_ += text.size();
  if (ended) {
    expecting_ = Expecting::kCommand;
    output_ += matches_ ? "250 2.0.0 done\r\n" : "554 5.6.0 other bytes\r\n";
  }
  return {};
}

}  // namespace gatepost::benchmark
