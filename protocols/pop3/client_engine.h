// The POP3 client that logs in at a backend: greeting, STLS, CAPA, login.
//
// Believes a response only when its question was asked. Owned by the session's login part (or a
// probe); one thread. RFC 1939, RFC 2449, RFC 2595, RFC 3206, RFC 5034.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string_view>

#include "protocols/backend_login.h"
#include "protocols/engine.h"

namespace gatepost::pop3 {

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
  // In the order in which they happen: what the next line answers.
  enum class Phase : uint8_t {
    kGreeting,
    kStls,
    kTlsStarted,  // nothing is awaited: CAPA is due
    kCapa,
    kCapaList,
    kReady,  // nothing is awaited: the login is due, or waited for
    kXclient,
    kUser,
    kPass,
    kAuth,         // the empty challenge of AUTH
    kAuthResponse  // its end, or another challenge
  };
  // What became of a line; nothing: go on with the next one.
  using Outcome = std::optional<protocols::ClientAction>;

  Outcome OnLine(std::string_view line, bool more_input, protocols::Buffer& output);
  Outcome OnGreeting(std::string_view line, protocols::Buffer& output);
  Outcome OnCapability(std::string_view line, protocols::Buffer& output);
  void AskCapabilities(protocols::Buffer& output);
  Outcome Login(protocols::Buffer& output);
  void SendXclient(protocols::Buffer& output);
  [[nodiscard]] bool Offers(std::string_view capability) const;

  protocols::ClientFacts facts_;
  Phase phase_ = Phase::kGreeting;
  bool has_capa_ = false;
  size_t capability_bytes_ = 0;
  protocols::Capabilities capabilities_;
  bool takes_xclient_ = false;       // the greeting says so
  protocols::Buffer first_message_;  // of AUTH, for its empty challenge
  protocols::BackendExchange exchange_;
};

}  // namespace gatepost::pop3
