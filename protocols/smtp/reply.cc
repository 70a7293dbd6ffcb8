// SPDX-License-Identifier: Apache-2.0
#include "protocols/smtp/reply.h"

#include <array>

#include "protocols/line_framer.h"

namespace gatepost::smtp {
namespace {

constexpr size_t kMaxLines = 128;

bool IsDigit(char c) {
  return c >= '0' && c <= '9';
}

}  // namespace

std::optional<ReplyLine> ParseReplyLine(std::string_view line) {
  if (line.size() < 3 || line[0] < '2' || line[0] > '5' || !IsDigit(line[1]) || !IsDigit(line[2])) {
    return std::nullopt;
  }
  ReplyLine reply;
  for (const char digit : line.substr(0, 3)) {
    reply.code = reply.code * 10 + static_cast<unsigned>(digit - '0');
  }
  if (line.size() == 3) {
    reply.last = true;
    return reply;
  }
  if (line[3] != ' ' && line[3] != '-') return std::nullopt;
  reply.last = line[3] == ' ';
  reply.text = line.substr(4);
  return reply;
}

ReplyParser::Status ReplyParser::Next(protocols::Buffer& input) {
  if (complete_) {
    complete_ = false;
    code_ = 0;
    lines_.clear();
  }
  while (const auto line = protocols::FindLine(input.view())) {
    const auto reply = ParseReplyLine(line->text);
    if (!reply || line->text.size() > max_line_bytes_ || lines_.size() >= kMaxLines ||
        (!lines_.empty() && reply->code != code_)) {
      return Status::kMalformed;
    }
    code_ = reply->code;
    complete_ = reply->last;
    lines_.emplace_back(reply->text);
    input.Consume(line->wire_bytes);
    if (complete_) return Status::kComplete;
  }
  // Without its line end; the CR may be there already.
  return input.size() > max_line_bytes_ + 1 ? Status::kMalformed : Status::kNeedInput;
}

std::string_view EnhancedCode(std::string_view text) {
  const std::string_view code = text.substr(0, text.find(' '));
  size_t parts = 1;
  size_t digits = 0;
  for (const char c : code) {
    if (c == '.' && digits > 0 && parts < 3) {
      ++parts;
      digits = 0;
    } else if (c >= '0' && c <= '9' && digits < (parts == 1 ? 1 : 3)) {
      ++digits;
    } else {
      return {};
    }
  }
  return parts == 3 && digits > 0 ? code : std::string_view();
}

void AppendNotice(protocols::Notice notice, std::string_view hostname, protocols::Buffer& output) {
  struct Words {
    std::string_view code;
    std::string_view text;
  };
  static constexpr std::array<Words, static_cast<size_t>(protocols::Notice::kCount)> kWords = {{
      {"421 4.3.2 ", " Service not available, too many connections"},
      {"421 4.7.0 ", " Too many connections from your address"},
      {"421 4.3.2 ", " Service shutting down"},
      {"421 4.4.2 ", " Idle for too long, closing connection"},
      {"421 4.4.2 ", " No answer from the mail system, closing connection"},
      {"421 4.4.2 ", " Not logged in for too long, closing connection"},
      {"421 4.7.0 ", " Too many failed logins, closing connection"},
      {"421 4.3.0 ", " Connection to the mail system lost"},
      {"421 4.3.2 ", " Session ended by the administrator"},
  }};
  const Words& words = kWords[static_cast<size_t>(notice)];
  output << words.code << hostname << words.text << "\r\n";
}

}  // namespace gatepost::smtp
