// The IMAP server in its not-authenticated state: greeting to login.
//
// Knows no backend but its capabilities; keeps nothing that a client says beyond its command, but
// its ID where that is to be passed on. Owned by the session's login part; one thread. RFC 3501,
// RFC 9051; RFC 2971 (ID), RFC 4959 (SASL-IR), RFC 5530 (response codes), RFC 7888 (LITERAL+).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "protocols/engine.h"
#include "protocols/imap/command.h"
#include "protocols/sasl_login.h"

namespace gatepost::imap {

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
  // MakeScanner returns null: IMAP relays opaquely.
  std::unique_ptr<protocols::RelayScanner> MakeScanner() override;

 private:
  // What became of a command; nothing: go on with the next one.
  using Outcome = std::optional<protocols::ServerAction>;
  struct Request;

  Outcome NextCommand(protocols::Buffer& input, protocols::Buffer& output);
  Outcome NextExchangeLine(protocols::Buffer& input, protocols::Buffer& output);
  // WantsLiteral says whether the command that begins with `so_far` may go on in a literal.
  [[nodiscard]] bool WantsLiteral(std::string_view so_far) const;
  Outcome Run(std::string_view command, bool flight_goes_on, protocols::Buffer& output);

  Outcome DoCapability(Request& request);
  Outcome DoId(Request& request);
  Outcome DoNoop(Request& request);
  Outcome DoLogout(Request& request);
  Outcome DoStartTls(Request& request);
  Outcome DoLogin(Request& request);
  Outcome DoAuthenticate(Request& request);
  Outcome Continue(protocols::SaslLogin::Status status, protocols::Buffer& output);

  void RefuseLogin(protocols::LoginFailure reason, std::string_view text,
                   protocols::Buffer& output) const;

  // Ok, Refuse and Bad append a tagged response; Bad counts it and may end the dialogue.
  Outcome Ok(std::string_view text, protocols::Buffer& output);
  Outcome Refuse(std::string_view text, protocols::Buffer& output);
  Outcome Bad(std::string_view text, protocols::Buffer& output);
  Outcome LineTooLong(std::string_view text, protocols::Buffer& output);
  [[nodiscard]] bool LoginAllowed() const;
  [[nodiscard]] std::string CapabilityList() const;

  protocols::ServerFacts facts_;
  CommandFramer framer_;
  bool first_bytes_ = true;  // nothing has been understood yet: it may be another protocol
  std::string tag_;          // of the command under way; "*" where it had no valid one
  protocols::SaslLogin sasl_{"+ ", counts_};  // of AUTHENTICATE
};

}  // namespace gatepost::imap
