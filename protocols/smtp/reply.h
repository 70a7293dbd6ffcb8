// SMTP replies: reading a backend's, and the texts of our own notices.
//
// Neither knows what was asked; the client engine and the relay scanner do. RFC 5321 §4.2.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocols/buffer.h"
#include "protocols/engine.h"

namespace gatepost::smtp {

// ReplyLine is one line of a reply.
struct ReplyLine {
  unsigned code = 0;
  bool last = false;      // "250 " or a bare "250", not "250-"
  std::string_view text;  // behind the code and its separator; valid as long as the line
};

// ParseReplyLine parses a line without its line end; nothing when it is no reply line: a code from
// 200 to 599, then SP, "-" or the end. RFC 5321 §4.2.
[[nodiscard]] std::optional<ReplyLine> ParseReplyLine(std::string_view line);

// ReplyParser collects one reply, whole lines at a time.
class ReplyParser {
 public:
  enum class Status : uint8_t {
    kNeedInput,
    kComplete,
    kMalformed  // no reply, two codes in one reply, a line too long, or too many lines
  };

  explicit ReplyParser(size_t max_line_bytes) : max_line_bytes_(max_line_bytes) {}

  // Next consumes lines up to the end of one reply. After kComplete, code() and lines() are of that
  // reply until the next call, which begins another one.
  [[nodiscard]] Status Next(protocols::Buffer& input);

  [[nodiscard]] unsigned code() const { return code_; }
  // Texts of the lines, without codes; at least one after kComplete.
  [[nodiscard]] const std::vector<std::string>& lines() const { return lines_; }

 private:
  size_t max_line_bytes_;
  unsigned code_ = 0;
  bool complete_ = false;
  std::vector<std::string> lines_;
};

// EnhancedCode returns the enhanced status code with which a reply's text begins, "5.7.8", or an
// empty view. RFC 2034 §4, RFC 3463 §2.
[[nodiscard]] std::string_view EnhancedCode(std::string_view text);

// AppendNotice appends the reply that says `notice`, with `hostname` as RFC 5321 §4.2.2 wants it.
void AppendNotice(protocols::Notice notice, std::string_view hostname, protocols::Buffer& output);

}  // namespace gatepost::smtp
