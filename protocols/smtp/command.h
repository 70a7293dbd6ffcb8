// SMTP commands: verb and argument of one line, and the one command with a payload.
//
// Shared by the server engine (before login) and the relay scanner (after it). Views only, nothing
// is copied. RFC 5321 §4.1, RFC 3030 §2.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace gatepost::smtp {

// The verbs that we know; all others are kUnknown.
enum class Verb : uint8_t {
  kHelo,
  kEhlo,
  kMail,
  kRcpt,
  kData,
  kBdat,
  kRset,
  kNoop,
  kQuit,
  kVrfy,
  kExpn,
  kHelp,
  kEtrn,
  kStartTls,
  kAuth,
  kXclient,
  kXforward,
  kUnknown,
  kCount
};

// Command is one command line taken apart.
struct Command {
  Verb verb = Verb::kUnknown;
  std::string_view argument;  // without blanks around it; valid as long as the line
};

// ParseCommand takes a line without its CRLF apart. A line that does not begin with a letter, or
// whose first word is not purely alphabetic, is kUnknown. A tab separates like a space: a backend
// may read it so.
[[nodiscard]] Command ParseCommand(std::string_view line);

// IsCleanLine says whether a line with its line end (as FindLine delimits it) ends in CRLF and has
// no other CR and no NUL: what two implementations can't read as two different commands.
[[nodiscard]] bool IsCleanLine(std::string_view line_with_end);

// Chunk is the argument of BDAT.
struct Chunk {
  uint64_t bytes = 0;
  bool last = false;
};

// ParseChunk parses `chunk-size [SP "LAST"]`, RFC 3030 §2; nothing when it is anything else, or
// larger than 2^62.
[[nodiscard]] std::optional<Chunk> ParseChunk(std::string_view argument);

// AsksForBinaryMime says whether the argument of MAIL carries BODY=BINARYMIME (RFC 3030 §3). It
// looks only behind the last '>': a quoted local part can contain anything.
[[nodiscard]] bool AsksForBinaryMime(std::string_view mail_argument);

// KeywordName returns the keyword of an EHLO line: "SIZE" of "SIZE 1000", "AUTH" of "AUTH=LOGIN".
[[nodiscard]] std::string_view KeywordName(std::string_view keyword_line);

// MayOffer says whether a backend's EHLO keyword may be shown to a client. STARTTLS and AUTH are
// ours to offer, XCLIENT and XFORWARD are for trusted peers only, and what we can't follow
// (XEXCH50, BURL, TURN, ATRN, X-… dialects of login and TLS) is not offered. `chunking`: BDAT can
// be served. A keyword with control characters is never shown.
[[nodiscard]] bool MayOffer(std::string_view keyword_line, bool chunking);

}  // namespace gatepost::smtp
