// Lines and first bytes: what IMAP, POP3 and SMTP share in finding the end of a command.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "protocols/engine.h"

namespace gatepost::protocols {

// Line is a complete line at the beginning of some input.
struct Line {
  std::string_view text;  // without its line end; valid as long as the input
  size_t wire_bytes = 0;  // with its line end
};

// FindLine returns the first line of `input`, which ends in LF, a CR before it being part of the
// line end; nothing when there is none yet.
[[nodiscard]] std::optional<Line> FindLine(std::string_view input);

// ForeignProtocol recognises another protocol by the first bytes of a connection: an HTTP request
// line, a TLS record, an SSH banner. Nothing means: a mail client, or too few bytes to say.
[[nodiscard]] std::optional<QuitReason> ForeignProtocol(std::string_view first_bytes);

// Printable returns `text` with everything outside printable ASCII replaced by '?', cut at
// `max_bytes`: what may be shown of a peer's bytes in a reply or log.
[[nodiscard]] std::string Printable(std::string_view text, size_t max_bytes);

// EqualsIgnoreCase compares ASCII letters case-insensitively, in any locale.
[[nodiscard]] bool EqualsIgnoreCase(std::string_view a, std::string_view b);

// HasControl says whether `text` holds a control character (0x00-0x1F, 0x7F).
[[nodiscard]] bool HasControl(std::string_view text);

}  // namespace gatepost::protocols
