// The lines of Dovecot's auth client protocol, both ways.
//
// Fields between tabs, escaped; versions 1.x of the protocol, as Dovecot 2.3 and 2.4 speak it
// (lib-auth-client). Pure functions; what they return owns its bytes.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "gateway/auth/authenticator.h"
#include "protocols/buffer.h"
#include "protocols/sasl/mechanisms.h"

namespace gatepost::auth {

// The longest line, with its end: Dovecot gives the connection up at a longer one.
inline constexpr size_t kMaxDovecotLineBytes = 16384;

// The fields behind a command: "key=value", or a key alone with an empty value. One may be a
// password, so that all are wiped.
class DovecotFields {
 public:
  // Find returns the value of `key`, or nothing.
  [[nodiscard]] std::optional<std::string_view> Find(std::string_view key) const;
  void Add(std::string_view key, std::string_view value) {
    fields_.emplace_back(std::string(key), sasl::Secret(value));
  }

 private:
  std::vector<std::pair<std::string, sasl::Secret>> fields_;
};

// ---- what the server says
struct DovecotVersion {
  unsigned major;
};
struct DovecotMechanism {
  std::optional<sasl::Mechanism> mechanism;  // nothing: one that we don't know
};
struct DovecotDone {};
struct DovecotOther {};  // SPID, CUID, COOKIE, CANCELLED, and what is newer than this file
struct DovecotContinue {
  uint32_t id;
  sasl::Secret challenge;  // not base64
};
struct DovecotOk {
  uint32_t id;
  DovecotFields fields;
};
struct DovecotFail {
  uint32_t id;
  DovecotFields fields;
};
using DovecotLine = std::variant<DovecotVersion, DovecotMechanism, DovecotDone, DovecotOther,
                                 DovecotContinue, DovecotOk, DovecotFail>;

// ParseDovecotLine reads a line without its end; nothing when it breaks the protocol.
[[nodiscard]] std::optional<DovecotLine> ParseDovecotLine(std::string_view line);

// ---- what we say

// AppendDovecotHandshake appends the lines with which a client begins.
void AppendDovecotHandshake(uint32_t process_id, protocols::Buffer& output);

// DovecotMechanismFor is how the credentials are put to Dovecot: passwords by PLAIN.
[[nodiscard]] sasl::Mechanism DovecotMechanismFor(sasl::Mechanism mechanism);

// AppendDovecotAuth appends the question `id`, AppendDovecotContinue the client's answer (not
// base64) to a challenge; false, and nothing appended, where that can't be written.
[[nodiscard]] bool AppendDovecotAuth(uint32_t id, const Request& request,
                                     protocols::Buffer& output);
[[nodiscard]] bool AppendDovecotContinue(uint32_t id, std::string_view answer,
                                         protocols::Buffer& output);
void AppendDovecotCancel(uint32_t id, protocols::Buffer& output);

// VerdictOf says what an answer to a client of `protocol` means.
[[nodiscard]] Verdict VerdictOf(const DovecotOk& ok, protocols::Protocol protocol);
[[nodiscard]] Verdict VerdictOf(const DovecotFail& fail);
// FinalMessageOf returns what the client must be told, as a last challenge (not base64), before it
// has logged in; empty: nothing. Nothing at all where it can't be read.
[[nodiscard]] std::optional<sasl::Secret> FinalMessageOf(const DovecotOk& ok);

}  // namespace gatepost::auth
