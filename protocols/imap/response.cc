// SPDX-License-Identifier: Apache-2.0
#include "protocols/imap/response.h"

#include <algorithm>

#include "protocols/imap/command.h"
#include "protocols/line_framer.h"

namespace gatepost::imap {
namespace {

using protocols::EqualsIgnoreCase;

// TakeWord removes and returns what stands before the next space, and the space.
std::string_view TakeWord(std::string_view& rest) {
  const size_t end = std::min(rest.find(' '), rest.size());
  const std::string_view word = rest.substr(0, end);
  rest.remove_prefix(std::min(end + 1, rest.size()));
  return word;
}

Condition ConditionOf(std::string_view word) {
  if (EqualsIgnoreCase(word, "OK")) return Condition::kOk;
  if (EqualsIgnoreCase(word, "NO")) return Condition::kNo;
  if (EqualsIgnoreCase(word, "BAD")) return Condition::kBad;
  if (EqualsIgnoreCase(word, "BYE")) return Condition::kBye;
  if (EqualsIgnoreCase(word, "PREAUTH")) return Condition::kPreauth;
  return Condition::kNone;
}

bool MayHoldLiterals(std::string_view first_line) {
  if (!first_line.starts_with("* ")) return false;
  first_line.remove_prefix(2);
  return ConditionOf(TakeWord(first_line)) == Condition::kNone;
}

}  // namespace

ResponseFramer::Result ResponseFramer::Scan(std::string_view input) {
  while (true) {
    if (input.size() - scanned_ < outstanding_literal_) return Result::kNeedInput;
    const size_t begin = scanned_ + outstanding_literal_;
    const std::string_view rest = input.substr(begin);
    const std::optional<protocols::Line> line = protocols::FindLine(rest);
    if (line ? line->text.size() > max_line_bytes_ : rest.size() > max_line_bytes_ + 1) {
      return Result::kTooLong;
    }
    if (!line) return Result::kNeedInput;
    const bool may_go_on = scanned_ > 0 || MayHoldLiterals(line->text);
    scanned_ = begin + line->wire_bytes;
    outstanding_literal_ = 0;
    if (scanned_ > max_response_bytes_) return Result::kTooLong;
    const std::optional<Literal> literal =
        may_go_on ? FindLiteral(line->text) : std::optional<Literal>();
    if (!literal) return Result::kComplete;
    if (literal->size > max_response_bytes_ - scanned_) return Result::kTooLong;
    outstanding_literal_ = static_cast<size_t>(literal->size);
  }
}

void ResponseFramer::Reset() {
  scanned_ = outstanding_literal_ = 0;
}

std::optional<Response> ParseResponse(std::string_view response) {
  if (response.ends_with('\n')) response.remove_suffix(1);
  if (response.ends_with('\r')) response.remove_suffix(1);
  Response result;
  std::string_view rest = response;
  if (rest == "+") rest = "+ ";  // seen of servers that have nothing to say
  const bool has_space = rest.find(' ') != std::string_view::npos;
  const std::string_view first = TakeWord(rest);
  if (!has_space || first.empty()) return std::nullopt;
  result.data = rest;
  if (first == "+") {
    result.kind = ResponseKind::kContinuation;
    return result;
  }
  if (first != "*") {
    result.kind = ResponseKind::kTagged;
    result.tag = first;
  }
  result.condition = ConditionOf(TakeWord(rest));
  if (result.condition == Condition::kNone) {
    // A tagged response is always a status response (RFC 9051 §2.2.2).
    if (result.kind == ResponseKind::kTagged) return std::nullopt;
    return result;
  }
  // resp-text = ["[" resp-text-code "]" SP] text
  const size_t close = rest.find(']');
  if (rest.starts_with('[') && close != std::string_view::npos) {
    std::string_view inside = rest.substr(1, close - 1);
    result.code = TakeWord(inside);
    result.code_arguments = inside;
    rest.remove_prefix(close + 1);
    if (rest.starts_with(' ')) rest.remove_prefix(1);
  }
  result.text = rest;
  return result;
}

protocols::Capabilities ParseCapabilities(std::string_view list) {
  protocols::Capabilities result;
  while (!list.empty()) {
    const std::string_view word = TakeWord(list);
    if (IsAtom(word)) result.emplace_back(word);
  }
  return result;
}

}  // namespace gatepost::imap
