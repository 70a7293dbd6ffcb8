// The SMTP dialogue with the backend from its greeting to our login.
//
// EHLO, STARTTLS where wanted, EHLO again, XCLIENT where wanted, EHLO again, AUTH. It knows neither
// sockets nor the client; the session owns and drives it. RFC 5321, RFC 3207, RFC 4954.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "protocols/backend_login.h"
#include "protocols/engine.h"
#include "protocols/smtp/reply.h"

namespace gatepost::smtp {

class ClientEngine final : public protocols::ClientEngine {
 public:
  explicit ClientEngine(protocols::ClientFacts facts);

  protocols::ClientAction Next(protocols::Buffer& input, protocols::Buffer& output) override;
  void LogIn(const sasl::Credentials& credentials) override { facts_.credentials = &credentials; }
  void Answer(std::string_view message) override { exchange_.Answer(message); }
  void LogOut(protocols::Buffer& output) override { output << "QUIT\r\n"; }
  void TlsStarted() override;
  [[nodiscard]] const protocols::Capabilities& capabilities() const override {
    return capabilities_;
  }

 private:
  // The reply that comes next, in the order of the dialogue.
  enum class Expect : uint8_t {
    kGreeting,
    kEhlo,
    kHelo,
    kStartTls,
    kReady,  // none: the login is due, or waited for
    kXclient,
    kAskedFirst,  // to AUTH without an initial response
    kLoginUser,   // LOGIN's prompts
    kLoginPassword,
    kVerdict  // to the last message of the exchange
  };

  protocols::ClientAction OnReply(protocols::Buffer& output);
  protocols::ClientAction OnEhlo(protocols::Buffer& output);
  protocols::ClientAction BeginLogin(protocols::Buffer& output);
  protocols::ClientAction BeginXclient(protocols::Buffer& output);
  protocols::ClientAction OnXclient(protocols::Buffer& output);
  protocols::ClientAction BeginAuth(protocols::Buffer& output);
  protocols::ClientAction OnPrompt(protocols::Buffer& output);
  protocols::ClientAction OnChallenge(protocols::Buffer& output);
  protocols::ClientAction OnVerdict();
  protocols::ClientAction AuthRefused();
  protocols::ClientAction Ask(Expect expect, std::string_view command, protocols::Buffer& output);
  protocols::ClientAction SendHello(protocols::Buffer& output);
  protocols::ClientAction Fail(protocols::BackendFailure reason) const;
  [[nodiscard]] bool Offers(std::string_view keyword) const;

  protocols::ClientFacts facts_;
  ReplyParser reply_;
  Expect expect_ = Expect::kGreeting;
  bool tls_started_ = false;
  protocols::Capabilities capabilities_;
  std::vector<std::string> xclient_;  // the commands that introduce the client
  size_t xclient_sent_ = 0;
  bool login_told_ = false;          // they name the user
  protocols::Buffer first_message_;  // of AUTH, where it is too long for its command
  protocols::BackendExchange exchange_;
};

}  // namespace gatepost::smtp
