// The SMTP dialogue with the client from the greeting to the login.
//
// It knows neither sockets nor backends; the session owns and drives it. Before login it serves
// EHLO, HELO, STARTTLS, AUTH, NOOP, RSET, HELP and QUIT and nothing else; where mail for local
// domains is taken from strangers, MAIL as well, which hands the connection over to the relay
// scanner. RFC 5321, RFC 3207 (STARTTLS), RFC 4954 (AUTH), RFC 3030 (BDAT's payload), RFC 2920
// (pipelining).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "protocols/engine.h"
#include "protocols/relay_scanner.h"
#include "protocols/sasl_login.h"
#include "protocols/smtp/command.h"

namespace gatepost::smtp {

class ServerEngine final : public protocols::ServerEngine {
 public:
  // The EHLO reply offers what `facts.backend_capabilities` holds, less what MayOffer() forbids,
  // and STARTTLS and AUTH as they are possible now. Without backend capabilities no extension but
  // those two is offered: which others are safe depends on a backend that nobody has seen yet.
  explicit ServerEngine(protocols::ServerFacts facts);

  void Greet(protocols::Buffer& output) override;
  protocols::ServerAction Next(protocols::Buffer& input, protocols::Buffer& output) override;
  void TlsStarted(std::string external_identity) override;
  void Challenge(std::string_view message, protocols::Buffer& output) override;
  void LoginSucceeded(const protocols::LoginReply& reply, protocols::Buffer& output) override;
  void LoginFailed(protocols::LoginFailure reason, std::string_view text,
                   protocols::Buffer& output) override;
  void InboundFailed() override;
  void Say(protocols::Notice notice, protocols::Buffer& output) override;
  std::unique_ptr<protocols::RelayScanner> MakeScanner() override;
  [[nodiscard]] std::string_view client_name() const override { return client_name_; }

 private:
  enum class State : uint8_t {
    kFirstBytes,    // nothing read yet on this connection, or on this TLS
    kCommand,       // a command line comes next
    kAuthResponse,  // the client's answer to our challenge comes next
    kSkipLine,      // in a line that was too long
    kSkipPayload    // in the payload of a refused BDAT
  };

  // What one line, or a piece of one, led to: an Action for the caller, or nothing: go on.
  using Outcome = std::optional<protocols::ServerAction>;

  Outcome DoFirstBytes(protocols::Buffer& input, protocols::Buffer& output);
  Outcome DoLine(protocols::Buffer& input, protocols::Buffer& output);
  Outcome DoSkipLine(protocols::Buffer& input, protocols::Buffer& output);
  Outcome DoSkipPayload(protocols::Buffer& input, protocols::Buffer& output);

  Outcome OnCommand(const Command& command, bool more_input, protocols::Buffer& output);
  Outcome OnHello(Verb verb, std::string_view argument, protocols::Buffer& output);
  Outcome OnXclient(std::string_view argument, protocols::Buffer& output);
  Outcome OnStartTls(std::string_view argument, bool more_input, protocols::Buffer& output);
  Outcome OnAuth(std::string_view argument, protocols::Buffer& output);
  Outcome OnExchange(protocols::SaslLogin::Status status, protocols::Buffer& output);
  Outcome OnBdat(std::string_view argument, protocols::Buffer& output);
  Outcome OnMail(protocols::Buffer& output);
  Outcome RequireMail(protocols::Buffer& output);
  Outcome RequireLogin(protocols::Buffer& output);
  Outcome LineTooLong(protocols::Buffer& output);

  static void RefuseLogin(protocols::LoginFailure reason, std::string_view text,
                          protocols::Buffer& output);

  // Bad appends `reply` to a malformed command and counts it.
  Outcome Bad(std::string_view reply, protocols::Buffer& output);

  [[nodiscard]] bool tls_required() const {
    return !facts_.tls_active && !facts_.cleartext_login_allowed;
  }
  [[nodiscard]] size_t max_line_bytes() const;

  protocols::ServerFacts facts_;
  State state_ = State::kFirstBytes;
  bool extended_ = false;                       // EHLO was seen
  bool auth_line_ = false;                      // kSkipLine: the line was an AUTH response
  uint64_t payload_left_ = 0;                   // kSkipPayload
  bool inbound_ = false;                        // Inbound was returned
  bool inbound_failed_ = false;                 // it failed: the next MAIL is told so
  protocols::SaslLogin sasl_{"334 ", counts_};  // of AUTH
  std::string client_name_;
};

}  // namespace gatepost::smtp
