// The lines of Dovecot's auth protocol: whatever a server sends, what comes of it can be written to
// a backend or a client, and a question that quotes it is one line.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "gateway/auth/dovecot_lines.h"

using namespace gatepost;  // NOLINT(google-build-using-namespace): one small program

namespace {

void Require(bool holds) {
  if (!holds) std::abort();
}

void RequireSound(const auth::Verdict& verdict) {
  const auto clean = [](std::string_view text) {
    return std::none_of(text.begin(), text.end(),
                        [](char c) { return static_cast<unsigned char>(c) < 0x20; });
  };
  Require(clean(verdict.user) && clean(verdict.message) && clean(verdict.backend_user));
  if (verdict.backend) Require(clean(verdict.backend->host) && verdict.backend->port != 0);
  if (verdict.backend_password) {
    Require(verdict.backend_password->Reveal().find_first_of(std::string_view("\0\r\n", 3)) ==
            std::string_view::npos);
  }
  if (verdict.backend_credentials) {
    Require(clean(verdict.backend_credentials->authentication_identity) &&
            clean(verdict.backend_credentials->authorization_identity));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  while (!rest.empty()) {
    const std::string_view text = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(text.size() + 1, rest.size()));
    const auto line = auth::ParseDovecotLine(text);
    if (!line) continue;
    if (const auto* ok = std::get_if<auth::DovecotOk>(&*line)) {
      RequireSound(auth::VerdictOf(*ok, protocols::Protocol::kImap));
      (void)auth::FinalMessageOf(*ok);
    } else if (const auto* fail = std::get_if<auth::DovecotFail>(&*line)) {
      RequireSound(auth::VerdictOf(*fail));
    } else if (const auto* next = std::get_if<auth::DovecotContinue>(&*line)) {
      protocols::Buffer answer;
      if (!auth::AppendDovecotContinue(next->id, next->challenge.Reveal(), answer)) continue;
      Require(answer.view().find('\n') == answer.size() - 1);
    }
  }
  return 0;
}
