// The mail data scanner written byte by byte: slow, and plainly right.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <functional>
#include <string>
#include <string_view>

#include "protocols/smtp/mail_data_scanner.h"

namespace gatepost::test {

class ReferenceScanner {
 public:
  using Found = smtp::MailDataScanner::Found;
  using Result = smtp::MailDataScanner::Result;

  explicit ReferenceScanner(smtp::MailDataScanner::Framing framing)
      : dots_(framing == smtp::MailDataScanner::Framing::kDotStuffed) {}

  Result Scan(std::string_view data) {
    size_t at = 0;
    while (at < data.size()) {
      const std::string_view rest = data.substr(at);
      if (dots_ && replaced_ && rest[0] == '.') {
        replaced_ = false;
        return {at, Found::kUnstuffedDot};
      }
      if (dots_ && line_ && rest[0] == '.') {
        if (rest == "." || rest == ".\r") return {at, Found::kNothing};
        if (rest.starts_with(".\r\n")) return {at + 3, Found::kEnd};
        if (rest[1] == '\r') return {at, Found::kDotBareCr};
        if (rest[1] == '\n') return {at, Found::kDotBareLf};
      }
      if (rest == "\r") return {at, Found::kNothing};
      const bool newline = rest.starts_with("\r\n");
      if (!newline && rest[0] == '\r') return {at, Found::kBareCr};
      if (!newline && rest[0] == '\n') return {at, Found::kBareLf};
      at += newline ? 2 : 1;
      line_ = newline;
      replaced_ = false;
    }
    return {at, Found::kNothing};
  }

  void NewlineReplaced() {
    line_ = false;
    replaced_ = true;
  }

  void NewlineDropped() { line_ = replaced_ = false; }

 private:
  bool dots_;
  bool line_ = true;
  bool replaced_ = false;
};

// CompareWithReference scans `data`, which arrives in pieces of next_piece() bytes, with both
// scanners in the same way up to the end of the data; returns what differs.
inline std::string CompareWithReference(smtp::MailDataScanner::Framing framing,
                                        std::string_view data,
                                        const std::function<size_t()>& next_piece) {
  using Found = smtp::MailDataScanner::Found;
  smtp::MailDataScanner scanner(framing);
  ReferenceScanner reference(framing);
  size_t begin = 0;
  size_t arrived = 0;
  bool replace = false;
  while (arrived < data.size()) {
    arrived = std::min(data.size(), arrived + next_piece());
    while (begin < arrived) {
      const std::string_view piece = data.substr(begin, arrived - begin);
      const auto result = scanner.Scan(piece);
      const auto expected = reference.Scan(piece);
      if (result.clean != expected.clean || result.found != expected.found) {
        return "at " + std::to_string(begin) + ": clean " + std::to_string(result.clean) +
               " instead of " + std::to_string(expected.clean) + ", found " +
               std::to_string(static_cast<int>(result.found)) + " instead of " +
               std::to_string(static_cast<int>(expected.found));
      }
      begin += result.clean;
      if (result.found == Found::kEnd) return {};
      if (result.found == Found::kNothing) break;
      if (result.found == Found::kUnstuffedDot) continue;
      const bool dot = result.found == Found::kDotBareCr || result.found == Found::kDotBareLf;
      begin += dot ? 2 : 1;
      replace = !replace;
      if (replace) {
        scanner.NewlineReplaced();
        reference.NewlineReplaced();
      } else {
        scanner.NewlineDropped();
        reference.NewlineDropped();
      }
    }
  }
  return {};
}

}  // namespace gatepost::test
