// Finds the end of mail data and the bare CRs and LFs in it, at the speed of memory.
//
// The one place that decides what ends mail data: CRLF "." CRLF and nothing else. RFC 5321 §2.3.8,
// §4.1.1.4, §4.5.2. It copies nothing and keeps no bytes: what can't be decided yet stays with the
// caller.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace gatepost::smtp {

class MailDataScanner {
 public:
  // How the end of the data is known.
  enum class Framing : uint8_t {
    kDotStuffed,  // DATA: CRLF.CRLF
    kCounted      // BDAT: by its size; a dot means nothing
  };

  enum class Found : uint8_t {
    kNothing,  // all of `clean` may pass; a rest, at most ".\r", needs the bytes behind it
    kEnd,      // `clean` ends with the CRLF.CRLF (or, in empty data, .CRLF)
    kBareCr,   // a CR without LF stands at `clean`
    kBareLf,   // an LF without CR stands at `clean`
    // A dot at the beginning of a line stands at `clean`, a bare newline behind it. To a lenient
    // reader this is the end of the data.
    kDotBareCr,
    kDotBareLf,
    // A dot stands at `clean` and behind a newline that the caller replaced by CRLF: it was not at
    // the beginning of a line when the sender stuffed dots, so it must be stuffed now.
    kUnstuffedDot
  };

  struct Result {
    size_t clean = 0;
    Found found = Found::kNothing;
  };

  explicit MailDataScanner(Framing framing) : framing_(framing) {}

  // Scan looks at `data`. The next call must begin at `clean`, or behind the bare newline that was
  // found there.
  [[nodiscard]] Result Scan(std::string_view data);

  // NewlineReplaced tells that the bare newline just found was passed on as CRLF; the next call
  // begins behind it.
  void NewlineReplaced() { position_ = Position::kReplacedLine; }

  // NewlineDropped tells that the bare newline just found was dropped and is no line end; the next
  // call begins behind it.
  void NewlineDropped() { position_ = Position::kInLine; }

 private:
  // Where in a line the next byte stands.
  enum class Position : uint8_t { kLine, kReplacedLine, kInLine };

  Framing framing_;
  Position position_ = Position::kLine;
};

}  // namespace gatepost::smtp
