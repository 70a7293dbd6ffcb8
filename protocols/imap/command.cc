// SPDX-License-Identifier: Apache-2.0
#include "protocols/imap/command.h"

#include <algorithm>
#include <limits>

#include "protocols/line_framer.h"

namespace gatepost::imap {
namespace {

constexpr bool IsDigit(char c) {
  return c >= '0' && c <= '9';
}

// ATOM-CHAR of RFC 3501 §9: any CHAR (7-bit, not NUL) except atom-specials.
bool IsAtomChar(char c) {
  return c > 0x20 && c < 0x7F && std::string_view("(){%*\"\\]").find(c) == std::string_view::npos;
}

std::string_view TakePrefix(std::string_view& rest, size_t length) {
  const std::string_view prefix = rest.substr(0, length);
  rest.remove_prefix(length);
  return prefix;
}

}  // namespace

std::optional<Literal> FindLiteral(std::string_view line) {
  if (!line.ends_with('}')) return std::nullopt;
  line.remove_suffix(1);
  Literal literal;
  if (line.ends_with('+')) {
    literal.synchronising = false;
    line.remove_suffix(1);
  }
  const size_t open = line.rfind('{');
  if (open == std::string_view::npos) return std::nullopt;
  const std::string_view digits = line.substr(open + 1);
  if (digits.empty() || !std::all_of(digits.begin(), digits.end(), IsDigit)) return std::nullopt;
  constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();
  for (const char digit : digits) {
    const auto value = static_cast<uint64_t>(digit - '0');
    literal.size = literal.size > (kMax - value) / 10 ? kMax : literal.size * 10 + value;
    if (literal.size == kMax) break;
  }
  return literal;
}

bool IsAtom(std::string_view text, std::string_view also_allowed) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
    return IsAtomChar(c) || also_allowed.find(c) != std::string_view::npos;
  });
}

CommandFramer::Result CommandFramer::Scan(std::string_view input) {
  while (true) {
    if (input.size() - scanned_ < outstanding_literal_) return Result::kNeedInput;
    scanned_ += outstanding_literal_;
    outstanding_literal_ = 0;

    const std::string_view rest = input.substr(scanned_);
    const size_t room = max_line_bytes_ - line_bytes_;
    const std::optional<protocols::Line> line = protocols::FindLine(rest);
    if (!line) return rest.size() > room + 1 ? Result::kLineTooLong : Result::kNeedInput;
    if (line->text.size() > room) return Result::kLineTooLong;
    scanned_ += line->wire_bytes;
    line_bytes_ += line->text.size();

    const std::optional<Literal> literal = FindLiteral(line->text);
    if (!literal) return Result::kComplete;
    if (literal->size > max_literal_bytes_ - literal_bytes_) {
      return literal->synchronising ? Result::kLiteralTooLarge : Result::kUnrefusableLiteral;
    }
    outstanding_literal_ = static_cast<size_t>(literal->size);
    literal_bytes_ += outstanding_literal_;
    if (literal->synchronising) return Result::kSynchronisingLiteral;
  }
}

void CommandFramer::Reset() {
  scanned_ = line_bytes_ = literal_bytes_ = outstanding_literal_ = 0;
}

CommandReader::CommandReader(std::string_view command) : rest_(command) {
  if (rest_.ends_with('\n')) rest_.remove_suffix(1);
  if (rest_.ends_with('\r')) rest_.remove_suffix(1);
}

std::string_view CommandReader::Tag() {
  // tag = 1*<any ASTRING-CHAR except "+">
  const size_t end = std::min(rest_.find(' '), rest_.size());
  const std::string_view tag = rest_.substr(0, end);
  if (!IsAtom(tag, "]") || tag.find('+') != std::string_view::npos) return {};
  return TakePrefix(rest_, end);
}

std::string_view CommandReader::Atom() {
  const auto end = std::find_if_not(rest_.begin(), rest_.end(), IsAtomChar);
  return TakePrefix(rest_, static_cast<size_t>(end - rest_.begin()));
}

std::string_view CommandReader::Word() {
  return TakePrefix(rest_, std::min(rest_.find(' '), rest_.size()));
}

bool CommandReader::Skip(char expected) {
  if (!rest_.starts_with(expected)) return false;
  rest_.remove_prefix(1);
  return true;
}

bool CommandReader::AString(protocols::Buffer& value) {
  if (rest_.starts_with('"') || rest_.starts_with('{')) return String(value);
  // ASTRING-CHAR = ATOM-CHAR / resp-specials. Bytes above 7 bits and the other specials are taken
  // too, since clients send such passwords unquoted; only what structures a line is not.
  const auto end = std::find_if(rest_.begin(), rest_.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte <= 0x20 || byte == 0x7F || c == '"' || c == '(' || c == ')' || c == '{';
  });
  if (end == rest_.begin()) return false;
  value << TakePrefix(rest_, static_cast<size_t>(end - rest_.begin()));
  return true;
}

bool CommandReader::String(protocols::Buffer& value) {
  return rest_.starts_with('"') ? Quoted(value) : ReadLiteral(value);
}

bool CommandReader::Quoted(protocols::Buffer& value) {
  // quoted = DQUOTE *QUOTED-CHAR DQUOTE; only DQUOTE and "\" may be escaped. RFC 9051 allows UTF-8.
  protocols::Buffer unescaped;
  size_t i = 1;
  while (i < rest_.size() && rest_[i] != '"') {
    if (rest_[i] == '\\') {
      ++i;
      if (i == rest_.size() || (rest_[i] != '"' && rest_[i] != '\\')) return false;
    } else if (rest_[i] == '\0' || rest_[i] == '\r' || rest_[i] == '\n') {
      return false;
    }
    unescaped << rest_.substr(i, 1);
    ++i;
  }
  if (i == rest_.size()) return false;
  value << unescaped.view();
  rest_.remove_prefix(i + 1);
  return true;
}

bool CommandReader::ReadLiteral(protocols::Buffer& value) {
  if (!rest_.starts_with('{')) return false;
  const std::optional<protocols::Line> line = protocols::FindLine(rest_);
  if (!line || line->text.rfind('{') != 0) return false;
  const std::optional<Literal> literal = FindLiteral(line->text);
  if (!literal || literal->size > rest_.size() - line->wire_bytes) return false;
  const auto size = static_cast<size_t>(literal->size);
  value << rest_.substr(line->wire_bytes, size);
  rest_.remove_prefix(line->wire_bytes + size);
  return true;
}

}  // namespace gatepost::imap
