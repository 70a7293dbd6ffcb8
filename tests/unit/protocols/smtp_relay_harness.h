// Drives a RelayScanner between scripted client bytes and a small SMTP server in memory.
//
// For unit tests and the fuzzer. The server believes everything (XCLIENT, STARTTLS, AUTH): what
// must not reach it shows in its records.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "protocols/buffer.h"
#include "protocols/smtp/command.h"
#include "protocols/smtp/relay_scanner.h"

namespace gatepost::test {

// FakeBackend answers as a plain server would; addresses with "refuse" in them are refused.
class FakeBackend {
 public:
  std::string hello = "250-backend\r\n250-CHUNKING\r\n250-BINARYMIME\r\n250 PIPELINING\r\n";
  std::vector<std::string> commands;  // without CRLF
  std::vector<std::string> messages;  // mail data as it came, with its end; payload of chunks

  std::string Feed(std::string_view bytes) {
    std::string replies;
    for (const char byte : bytes) {
      pending_ += byte;
      if (payload_left_ > 0) {
        --payload_left_;
        message_ += byte;
        pending_.clear();
        if (payload_left_ == 0) EndChunk(replies);
      } else if (in_data_) {
        message_ += byte;
        pending_.clear();
        if (message_ == ".\r\n" || message_.ends_with("\r\n.\r\n")) {
          in_data_ = false;
          EndMessage(replies);
        }
      } else if (pending_.ends_with("\r\n")) {
        pending_.resize(pending_.size() - 2);
        commands.push_back(pending_);
        Answer(commands.back(), replies);
        pending_.clear();
      }
    }
    return replies;
  }

 private:
  void EndMessage(std::string& replies) {
    messages.push_back(message_);
    message_.clear();
    mail_ = rcpt_ = false;
    replies += "250 2.0.0 queued\r\n";
  }

  void EndChunk(std::string& replies) {
    if (!rcpt_) {
      message_.clear();
      replies += "503 5.5.1 no recipients\r\n";
    } else if (last_) {
      EndMessage(replies);
    } else {
      replies += "250 2.0.0 chunk\r\n";
    }
  }

  void Answer(const std::string& command, std::string& replies) {
    const smtp::Command parsed = smtp::ParseCommand(command);
    const bool refuse = command.find("refuse") != std::string::npos;
    switch (parsed.verb) {
      case smtp::Verb::kEhlo:
        mail_ = rcpt_ = false;
        replies += hello;
        return;
      case smtp::Verb::kMail:
        replies += refuse  ? "550 5.1.0 no\r\n"
                   : mail_ ? "503 5.5.1 nested\r\n"
                           : "250 2.1.0 ok\r\n";
        mail_ = mail_ || !refuse;
        return;
      case smtp::Verb::kRcpt:
        rcpt_ = rcpt_ || (mail_ && !refuse);
        replies += mail_ && !refuse ? "250 2.1.5 ok\r\n" : "550-5.1.1 no\r\n550 5.1.1 really\r\n";
        return;
      case smtp::Verb::kData:
        in_data_ = rcpt_;
        replies += rcpt_ ? "354 go\r\n" : "503 5.5.1 no recipients\r\n";
        return;
      case smtp::Verb::kBdat: {
        const auto chunk = smtp::ParseChunk(parsed.argument);
        if (!chunk) std::abort();  // the scanner writes BDAT itself
        payload_left_ = chunk->bytes;
        last_ = chunk->last;
        if (payload_left_ == 0) EndChunk(replies);
        return;
      }
      case smtp::Verb::kHelo:
      case smtp::Verb::kRset:
        mail_ = rcpt_ = false;
        message_.clear();
        replies += "250 ok\r\n";
        return;
      case smtp::Verb::kQuit:
        replies += "221 2.0.0 bye\r\n";
        return;
      case smtp::Verb::kVrfy:
        replies += "252 2.5.0 maybe\r\n";
        return;
      case smtp::Verb::kNoop:
      case smtp::Verb::kExpn:
      case smtp::Verb::kHelp:
      case smtp::Verb::kEtrn:
        replies += "250 ok\r\n";
        return;
      case smtp::Verb::kStartTls:
      case smtp::Verb::kAuth:
      case smtp::Verb::kXclient:
      case smtp::Verb::kXforward:
      case smtp::Verb::kUnknown:
      case smtp::Verb::kCount:
        break;
    }
    replies += "220 as you like\r\n";
  }

  std::string pending_;
  std::string message_;
  bool mail_ = false;
  bool rcpt_ = false;
  bool in_data_ = false;
  bool last_ = false;
  uint64_t payload_left_ = 0;
};

struct Relayed {
  std::string to_client;
  std::string to_backend;  // a reset is written as "[reset]"
  std::vector<std::string> commands;
  std::vector<std::string> messages;
  protocols::RelayCounts counts;
  bool closed = false;
  protocols::QuitReason reason = protocols::QuitReason::kCount;
  bool at_boundary = false;
  bool can_speak = false;

  bool operator==(const Relayed& other) const {
    return to_client == other.to_client && to_backend == other.to_backend &&
           commands == other.commands && messages == other.messages && closed == other.closed &&
           reason == other.reason && at_boundary == other.at_boundary &&
           counts.messages_accepted == other.counts.messages_accepted &&
           counts.messages_refused == other.counts.messages_refused &&
           counts.recipients == other.counts.recipients &&
           counts.smuggling_refused == other.counts.smuggling_refused &&
           counts.commands_refused == other.counts.commands_refused &&
           counts.message_bytes == other.counts.message_bytes;
  }
};

// How the bytes arrive.
struct Pace {
  std::vector<size_t> client_cuts;  // offsets in the client's bytes; they arrive piece by piece
  size_t backend_piece = SIZE_MAX;  // the backend's bytes arrive in pieces of this size
  bool backend_is_slow = false;     // it answers only when the scanner waits for it
};

class RelayHarness {
 public:
  RelayHarness(smtp::RelayScanner& scanner, FakeBackend backend)
      : scanner_(scanner), fresh_(backend), backend_(std::move(backend)) {}

  Relayed Run(std::string_view client_bytes, const Pace& pace) {
    std::vector<size_t> cuts = pace.client_cuts;
    cuts.push_back(client_bytes.size());
    size_t begin = 0;
    for (const size_t cut : cuts) {
      client_ += client_bytes.substr(begin, cut - begin);
      begin = cut;
      Pump(pace);
    }
    PumpBackend(pace);
    Pump(pace);
    result_.commands.insert(result_.commands.end(), backend_.commands.begin(),
                            backend_.commands.end());
    result_.messages.insert(result_.messages.end(), backend_.messages.begin(),
                            backend_.messages.end());
    result_.counts = scanner_.counts();
    result_.at_boundary = scanner_.AtBoundary();
    result_.can_speak = scanner_.CanSpeak();
    return result_;
  }

 private:
  using Do = protocols::RelayScanner::Do;

  void Pump(const Pace& pace) {
    while (!client_.empty() && !result_.closed) {
      protocols::Buffer to_client;
      protocols::Buffer to_backend;
      const auto step = scanner_.FromClient(client_, to_client, to_backend);
      result_.to_client += to_client.view();
      Deliver(to_backend.view());
      if (step.bytes > client_.size()) std::abort();
      switch (step.what) {
        case Do::kForward:
        case Do::kSwallow:
          if (step.bytes == 0) std::abort();  // would spin
          if (step.what == Do::kForward) Deliver(std::string_view(client_).substr(0, step.bytes));
          client_.erase(0, step.bytes);
          break;
        case Do::kNeedInput:
          if (!pace.backend_is_slow) PumpBackend(pace);
          return;
        case Do::kWaitForBackend:
          if (replies_.empty()) return;
          PumpBackend(pace);
          continue;
        case Do::kAsk:  // only after TakeInbound
          std::abort();
        case Do::kResetBackend:
          result_.to_backend += "[reset]";
          result_.commands.insert(result_.commands.end(), backend_.commands.begin(),
                                  backend_.commands.end());
          result_.messages.insert(result_.messages.end(), backend_.messages.begin(),
                                  backend_.messages.end());
          backend_ = fresh_;
          replies_.clear();
          scanner_.BackendReset();
          break;
        case Do::kClose:
          Closed(step.reason);
          return;
      }
      if (!pace.backend_is_slow) PumpBackend(pace);
    }
  }

  void Deliver(std::string_view bytes) {
    result_.to_backend += bytes;
    replies_ += backend_.Feed(bytes);
  }

  void PumpBackend(const Pace& pace) {
    size_t visible = std::min(pace.backend_piece, replies_.size());
    while (!replies_.empty() && !result_.closed) {
      protocols::Buffer to_client;
      const auto step =
          scanner_.FromBackend(std::string_view(replies_).substr(0, visible), to_client);
      result_.to_client += to_client.view();
      switch (step.what) {
        case Do::kForward:
        case Do::kSwallow:
          if (step.bytes == 0 || step.bytes > visible) std::abort();
          if (step.what == Do::kForward) result_.to_client += replies_.substr(0, step.bytes);
          replies_.erase(0, step.bytes);
          visible = std::min(std::max(visible - step.bytes, size_t{1}), replies_.size());
          break;
        case Do::kNeedInput:
          if (visible == replies_.size()) return;
          visible =
              std::min(visible + std::min(pace.backend_piece, replies_.size()), replies_.size());
          break;
        case Do::kClose:
          Closed(step.reason);
          return;
        case Do::kWaitForBackend:
        case Do::kAsk:
        case Do::kResetBackend:
          std::abort();  // client direction only
      }
    }
  }

  void Closed(protocols::QuitReason reason) {
    result_.closed = true;
    result_.reason = reason;
  }

  smtp::RelayScanner& scanner_;
  const FakeBackend fresh_;
  FakeBackend backend_;
  std::string client_;
  std::string replies_;
  Relayed result_;
};

}  // namespace gatepost::test
