// IMAP commands in two stages: CommandFramer finds where a command ends, literals included, and
// CommandReader parses it. A command that makes no sense is thus skipped whole, and its literals
// are never read as commands.
//
// Knows grammar only: no states, no replies. RFC 3501 §4, §9; RFC 9051; RFC 7888 (LITERAL+).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "protocols/buffer.h"

namespace gatepost::imap {

// Literal is the announcement of a literal: "{5}" or, non-synchronising, "{5+}".
struct Literal {
  uint64_t size = 0;  // UINT64_MAX stands for everything larger
  bool synchronising = true;
};

// FindLiteral returns the literal that the end of `line` (without its line end) announces.
[[nodiscard]] std::optional<Literal> FindLiteral(std::string_view line);

// IsAtom says whether `text` is one or more ATOM-CHARs, with `also_allowed` counted as such.
[[nodiscard]] bool IsAtom(std::string_view text, std::string_view also_allowed = {});

// CommandFramer follows one command through the input. It copies nothing: `input` always begins
// with the first byte of the command.
class CommandFramer {
 public:
  enum class Result : uint8_t {
    kNeedInput,
    kComplete,
    // The command goes on in a literal that the client sends only when told so: append a
    // continuation request and Scan again, or refuse the command and Reset.
    kSynchronisingLiteral,
    kLiteralTooLarge,     // a synchronising one: refuse the command and Reset
    kUnrefusableLiteral,  // too large and already on its way: no way to go on
    kLineTooLong          // likewise
  };

  // Both limits are those of one command: the lines without their ends, and the literals.
  CommandFramer(size_t max_line_bytes, size_t max_literal_bytes)
      : max_line_bytes_(max_line_bytes), max_literal_bytes_(max_literal_bytes) {}

  [[nodiscard]] Result Scan(std::string_view input);

  // Length of the command; of its part so far when the result was about a literal.
  [[nodiscard]] size_t command_bytes() const { return scanned_; }

  // Reset makes ready for the next command.
  void Reset();

 private:
  size_t max_line_bytes_;
  size_t max_literal_bytes_;
  size_t scanned_ = 0;              // where the current line of the command begins
  size_t line_bytes_ = 0;           // of the command's finished lines
  size_t literal_bytes_ = 0;        // of the command's literals
  size_t outstanding_literal_ = 0;  // bytes of a literal that stand between scanned_ and the line
};

// CommandReader parses a framed command from left to right. Each function reads one element and
// consumes nothing when it isn't there. Views point into the command.
class CommandReader {
 public:
  explicit CommandReader(std::string_view command);

  // Tag returns the tag, or an empty view when the command doesn't begin with a valid one.
  [[nodiscard]] std::string_view Tag();
  // Atom returns the atom, or an empty view.
  [[nodiscard]] std::string_view Atom();
  // Word returns everything up to the next space or the end; maybe empty.
  [[nodiscard]] std::string_view Word();
  [[nodiscard]] bool Skip(char expected);
  // AString appends an atom, quoted string or literal to `value`. NUL, CR and LF are read like any
  // byte of a literal; whether they are acceptable is the caller's to say.
  [[nodiscard]] bool AString(protocols::Buffer& value);
  // String appends a quoted string or literal.
  [[nodiscard]] bool String(protocols::Buffer& value);
  [[nodiscard]] bool AtEnd() const { return rest_.empty(); }

 private:
  [[nodiscard]] bool Quoted(protocols::Buffer& value);
  [[nodiscard]] bool ReadLiteral(protocols::Buffer& value);

  std::string_view rest_;  // without the command's final line end
};

}  // namespace gatepost::imap
