// The POP3 server in AUTHORIZATION state: greeting to login.
//
// APOP only where there is a timestamp for it: somebody must know passwords in cleartext. Owned by
// the session's login part; one thread. RFC 1939, RFC 2449 (CAPA), RFC 2595 (STLS), RFC 3206 and
// RFC 2449 (response codes), RFC 5034 (AUTH).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "protocols/engine.h"
#include "protocols/sasl_login.h"

namespace gatepost::pop3 {

class ServerEngine final : public protocols::ServerEngine {
 public:
  explicit ServerEngine(protocols::ServerFacts facts);

  void Greet(protocols::Buffer& output) override;
  protocols::ServerAction Next(protocols::Buffer& input, protocols::Buffer& output) override;
  void TlsStarted(std::string external_identity) override;
  void Challenge(std::string_view message, protocols::Buffer& output) override {
    sasl_.Challenge(message, output);
  }
  void LoginSucceeded(const protocols::LoginReply& reply, protocols::Buffer& output) override;
  void LoginFailed(protocols::LoginFailure reason, std::string_view text,
                   protocols::Buffer& output) override;
  void Say(protocols::Notice notice, protocols::Buffer& output) override;
  // MakeScanner returns null: POP3 relays opaquely.
  std::unique_ptr<protocols::RelayScanner> MakeScanner() override;

 private:
  // What became of a command; nothing: go on with the next one.
  using Outcome = std::optional<protocols::ServerAction>;
  struct Request;

  Outcome Run(std::string_view line, bool flight_goes_on, protocols::Buffer& output);
  Outcome DoCapa(Request& request);
  Outcome DoStls(Request& request);
  Outcome DoUser(Request& request);
  Outcome DoPass(Request& request);
  Outcome DoApop(Request& request);
  Outcome DoAuth(Request& request);
  Outcome DoNoop(Request& request);
  Outcome DoQuit(Request& request);
  Outcome DoXclient(Request& request);
  Outcome Continue(protocols::SaslLogin::Status status, protocols::Buffer& output);

  static void RefuseLogin(protocols::LoginFailure reason, std::string_view text,
                          protocols::Buffer& output);

  // Bad refuses a malformed or misplaced command; it counts and may end the dialogue.
  Outcome Bad(std::string_view text, protocols::Buffer& output);
  Outcome RequireTls(protocols::Buffer& output);
  [[nodiscard]] bool LoginAllowed() const;

  protocols::ServerFacts facts_;
  bool first_bytes_ = true;  // nothing has been understood yet: it may be another protocol
  std::string user_;         // of a USER that waits for its PASS
  protocols::SaslLogin sasl_{"+ ", counts_};  // of AUTH
};

}  // namespace gatepost::pop3
