// IMAP responses, as a client reads them: where one ends, and what it says.
//
// Knows grammar only. RFC 3501 §7, §9; RFC 9051 §7; RFC 5530 (response codes).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "protocols/engine.h"

namespace gatepost::imap {

// ResponseFramer finds the end of the response with which the input begins, including literals.
// Responses that can't hold literals (tagged and status responses, continuation requests) end with
// their first line, whatever their text ends in.
class ResponseFramer {
 public:
  enum class Result : uint8_t { kNeedInput, kComplete, kTooLong };

  ResponseFramer(size_t max_line_bytes, size_t max_response_bytes)
      : max_line_bytes_(max_line_bytes), max_response_bytes_(max_response_bytes) {}

  [[nodiscard]] Result Scan(std::string_view input);
  // Length of the response after kComplete.
  [[nodiscard]] size_t response_bytes() const { return scanned_; }
  void Reset();

 private:
  size_t max_line_bytes_;
  size_t max_response_bytes_;
  size_t scanned_ = 0;
  size_t outstanding_literal_ = 0;
};

enum class ResponseKind : uint8_t { kTagged, kUntagged, kContinuation };

enum class Condition : uint8_t {
  kNone,  // not a status response: data like CAPABILITY
  kOk,
  kNo,
  kBad,
  kBye,
  kPreauth
};

// Response is one response; its views point into the bytes it was parsed from.
struct Response {
  ResponseKind kind = ResponseKind::kUntagged;
  std::string_view tag;  // of a tagged response
  Condition condition = Condition::kNone;
  std::string_view code;            // "CAPABILITY" of "[CAPABILITY IMAP4rev1 …]", else empty
  std::string_view code_arguments;  // what follows it inside the brackets
  std::string_view text;            // of a status response, behind its code
  std::string_view data;            // behind "* ", "+ " or the tag, without the line end
};

// ParseResponse parses a framed response; nothing when it is none.
[[nodiscard]] std::optional<Response> ParseResponse(std::string_view response);

// ParseCapabilities returns the capabilities of a list separated by spaces; what is not an atom is
// left out.
[[nodiscard]] protocols::Capabilities ParseCapabilities(std::string_view list);

}  // namespace gatepost::imap
