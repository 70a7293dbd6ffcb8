// The IMAP client that logs in at a backend: greeting, STARTTLS, capabilities, login.
//
// Believes a response only when its question was asked. Owned by the session's login part (or a
// probe); one thread. RFC 3501, RFC 9051; RFC 2971 (ID), RFC 4959 (SASL-IR), RFC 5530, RFC 7888.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocols/backend_login.h"
#include "protocols/engine.h"
#include "protocols/imap/response.h"

namespace gatepost::imap {

class ClientEngine final : public protocols::ClientEngine {
 public:
  explicit ClientEngine(protocols::ClientFacts facts);

  protocols::ClientAction Next(protocols::Buffer& input, protocols::Buffer& output) override;
  void LogIn(const sasl::Credentials& credentials) override { facts_.credentials = &credentials; }
  void Answer(std::string_view message) override { exchange_.Answer(message); }
  void LogOut(protocols::Buffer& output) override { Send("LOGOUT", output); }
  void TlsStarted() override;
  [[nodiscard]] const protocols::Capabilities& capabilities() const override {
    return capabilities_;
  }

 private:
  // In the order in which they happen. The …Due phases send a command once all is read that the
  // backend said before.
  enum class Phase : uint8_t {
    kGreeting,
    kStartTlsDue,
    kStartTls,
    kTlsHandshake,
    kCapabilityDue,
    kCapability,
    kLoginDue,
    kLogin
  };
  // What became of a response; nothing: go on with the next one.
  using Outcome = std::optional<protocols::ClientAction>;

  Outcome OnResponse(std::string_view bytes, const Response& response, bool more_input,
                     protocols::Buffer& output);
  Outcome OnGreeting(const Response& response);
  Outcome OnUntagged(std::string_view bytes, const Response& response);
  Outcome OnContinuation(const Response& response, protocols::Buffer& output);
  Outcome OnTagged(const Response& response, bool more_input);
  Outcome OnLoginAnswer(const Response& response);
  // SendDue sends the command that is due; nothing: an answer is awaited.
  Outcome SendDue(protocols::Buffer& output);
  // Login chooses how to log in and sends the first part.
  Outcome Login(protocols::Buffer& output);
  void SendId(protocols::Buffer& output);
  // PrepareAuthenticate and PrepareLogin cut the command into parts; false: it can't be written.
  [[nodiscard]] bool PrepareAuthenticate(sasl::Mechanism mechanism,
                                         const sasl::Credentials& credentials);
  [[nodiscard]] bool PrepareLogin(const sasl::Credentials& credentials);
  void SendLoginPart(protocols::Buffer& output);

  void AssumeCapabilities();
  void Send(std::string_view command, protocols::Buffer& output);
  void NewTag();
  [[nodiscard]] bool Offers(std::string_view capability) const;

  protocols::ClientFacts facts_;
  Phase phase_ = Phase::kGreeting;
  ResponseFramer framer_;
  protocols::Capabilities capabilities_;
  bool capabilities_known_ = false;
  unsigned last_tag_ = 0;
  std::string tag_;     // of the command under way
  std::string id_tag_;  // of an ID in front of the login, until it is answered
  // The login command, cut where a continuation request must come first.
  std::vector<protocols::Buffer> login_parts_;
  size_t parts_sent_ = 0;
  protocols::BackendExchange exchange_;
  std::string untagged_;  // responses that came with the answer to the login
};

}  // namespace gatepost::imap
