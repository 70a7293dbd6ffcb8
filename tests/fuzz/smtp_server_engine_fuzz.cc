// The SMTP dialogue before login: no crash, no control characters in what we write, and the same
// output however the input is split.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "protocols/smtp/server_engine.h"

namespace {

using namespace gatepost::protocols;  // NOLINT(google-build-using-namespace): one small program

// Serve feeds `bytes` in pieces of `piece` and returns all that was said and done, up to STARTTLS:
// whether bytes stand behind it depends on the split, by design.
std::string Serve(uint8_t flags, std::string_view bytes, size_t piece) {
  ServerFacts facts;
  facts.hostname = "mail.example.org";
  facts.tls_active = (flags & 1) != 0;
  facts.starttls_offered = (flags & 2) != 0;
  facts.cleartext_login_allowed = (flags & 4) != 0;
  if ((flags & 8) != 0) facts.external_identity = "alice";
  facts.trusted_proxy = (flags & 16) != 0;
  facts.limits = {.max_line_bytes = 64, .max_literal_bytes = 64, .max_bad_commands = 20};
  facts.backend_capabilities = std::make_shared<const Capabilities>(
      Capabilities{"SIZE 1000", "STARTTLS", "XCLIENT LOGIN", "CHUNKING"});
  gatepost::smtp::ServerEngine engine(facts);
  Buffer input;
  Buffer output;
  std::string log;
  engine.Greet(output);
  bool open = true;
  while (open && !bytes.empty()) {
    const std::string_view next = bytes.substr(0, piece);
    bytes.remove_prefix(next.size());
    input << next;
    while (open) {
      const ServerAction action = engine.Next(input, output);
      if (std::holds_alternative<NeedInput>(action)) break;
      if (const auto* authenticate = std::get_if<Authenticate>(&action)) {
        const auto& credentials = authenticate->credentials;
        for (const std::string_view part : {std::string_view(credentials.authentication_identity),
                                            std::string_view(credentials.authorization_identity),
                                            credentials.password.Reveal()}) {
          if (part.find_first_of(std::string_view("\0\r\n", 3)) != part.npos) std::abort();
          log.append(part).append("|");
        }
        if (credentials.authentication_identity.empty()) std::abort();
        engine.LoginFailed(LoginFailure::kBadCredentials, credentials.authentication_identity,
                           output);
        continue;
      }
      const auto* quit = std::get_if<Quit>(&action);
      log += quit != nullptr && quit->reason != QuitReason::kCommandInjection ? "quit" : "tls";
      open = false;
    }
  }
  if (log.ends_with("tls")) return "tls";
  std::string said(output.view());
  for (size_t i = 0; i < said.size(); ++i) {
    const char c = said[i];
    const bool line_end = (c == '\r' && said[i + 1] == '\n') || (c == '\n' && said[i - 1] == '\r');
    if (!line_end && (c < 0x20 || c > 0x7E)) std::abort();
  }
  for (const char c : engine.client_name()) {
    if (c < 0x20 || c > 0x7E) std::abort();
  }
  return said + log;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  const std::string whole = Serve(data[0], bytes, SIZE_MAX);
  if (Serve(data[0], bytes, 1) != whole) std::abort();
  if (Serve(data[0], bytes, 1 + data[1] % 80) != whole) std::abort();
  return 0;
}
