// A backend that answers our login with anything: no crash, one line per command, no NUL or line
// break out of its text into what the client will see.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "protocols/smtp/client_engine.h"

using namespace gatepost::protocols;  // NOLINT(google-build-using-namespace): one small program

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const gatepost::sasl::Credentials credentials{gatepost::sasl::Mechanism::kPlain,
                                                (data[0] & 8) != 0 ? "authz" : "", "user",
                                                gatepost::sasl::Secret("pass")};
  ClientFacts facts{.hostname = "gate.example",
                    .tls = (data[0] & 1) != 0 ? BackendTls::kStartTls : BackendTls::kNone,
                    .credentials = (data[0] & 2) != 0 ? nullptr : &credentials,
                    .authenticate = (data[0] & 4) == 0,
                    .max_line_bytes = 128};
  gatepost::smtp::ClientEngine engine(facts);
  if ((data[0] & 32) != 0) {
    Introduction client;
    client.client_host = "2001:db8::7";
    client.client_port = 49152;
    client.helo = (data[0] & 64) != 0 ? std::string(165, '+') : "client.example";
    engine.Introduce(std::make_shared<const Introduction>(std::move(client)));
  }
  std::string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  const size_t piece = 1 + data[1];
  Buffer input;
  Buffer output;
  (void)engine.Next(input, output);
  while (!bytes.empty()) {
    const std::string_view next = bytes.substr(0, piece);
    bytes.remove_prefix(next.size());
    input << next;
    output.Clear();
    ClientAction action = engine.Next(input, output);
    if (std::holds_alternative<StartTls>(action)) {
      if (!input.empty()) std::abort();  // must have been kInjection
      engine.TlsStarted();
      if (!engine.capabilities().empty()) std::abort();
      action = engine.Next(input, output);
    }
    if (!output.empty() && output.view().find('\n') != output.size() - 1) std::abort();
    if (const auto* logged_in = std::get_if<LoggedIn>(&action)) {
      const std::string_view status = logged_in->reply.status;
      if (!status.empty() &&
          (status.find_first_of("\r\n") != status.size() - 2 || !status.starts_with("235 "))) {
        std::abort();
      }
    }
    if (!std::holds_alternative<NeedInput>(action)) break;
    if (input.size() > 130) std::abort();
  }
  return 0;
}
