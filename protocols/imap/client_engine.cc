// SPDX-License-Identifier: Apache-2.0
#include "protocols/imap/client_engine.h"

#include <algorithm>
#include <utility>

#include "protocols/imap/quoted.h"
#include "protocols/line_framer.h"

namespace gatepost::imap {
namespace {

using protocols::BackendFailure;
using protocols::BackendTls;
using protocols::Buffer;
using protocols::ClientAction;
using protocols::EqualsIgnoreCase;
using protocols::Failed;
using protocols::LoginFailure;
using protocols::NeedInput;
using protocols::Refused;

// Of one response, and of all untagged responses that come with the answer to the login.
constexpr size_t kMaxResponseBytes = 65536;

bool Writable(std::string_view text) {
  return text.find_first_of(std::string_view("\0\r\n", 3)) == std::string_view::npos;
}

bool IsPrintableAscii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c < 0x7F; });
}

// RFC 5530 §3: a server that shuts down, or has no room, says so in its code.
Failed ByeOf(const Response& response) {
  return Failed{EqualsIgnoreCase(response.code, "UNAVAILABLE") ? BackendFailure::kShuttingDown
                                                               : BackendFailure::kRefusedService,
                std::string(response.data)};
}

Failed ProtocolError(std::string_view what, std::string_view bytes = {}) {
  return Failed{BackendFailure::kProtocolError, std::string(what) + std::string(bytes)};
}

// RFC 5530 §3. A refusal without a code, or with one that says nothing of why, is about the
// credentials.
ClientAction RefusalOf(const Response& response) {
  const auto is = [&](std::string_view code) { return EqualsIgnoreCase(response.code, code); };
  std::string text(response.text);
  if (is("UNAVAILABLE")) return Failed{BackendFailure::kUnavailable, std::move(text)};
  if (is("PRIVACYREQUIRED")) return Failed{BackendFailure::kNoMechanism, std::move(text)};
  LoginFailure reason = LoginFailure::kBadCredentials;
  if (is("AUTHORIZATIONFAILED") || is("NOPERM")) reason = LoginFailure::kAuthorizationDenied;
  if (is("EXPIRED")) reason = LoginFailure::kPasswordExpired;
  if (is("CONTACTADMIN")) reason = LoginFailure::kAccountDisabled;
  if (is("LIMIT") || is("INUSE")) reason = LoginFailure::kTooManyConnections;
  // No wrong passwords, but answers all the same: no other member is asked. A referral leads to a
  // server that we were not told to trust.
  if (is("CORRUPTION") || is("SERVERBUG") || is("REFERRAL")) reason = LoginFailure::kUnavailable;
  return Refused{reason, std::move(text),
                 is("REFERRAL") ? std::string(response.code_arguments) : std::string()};
}

}  // namespace

ClientEngine::ClientEngine(protocols::ClientFacts facts)
    : facts_(std::move(facts)), framer_(facts_.max_line_bytes, kMaxResponseBytes) {}

ClientAction ClientEngine::Next(Buffer& input, Buffer& output) {
  if (exchange_.TakeAnswer(output)) {
    output << "\r\n";
    if (!input.empty() && input.view().front() != '*') {
      return ProtocolError("response without a command");
    }
  }
  while (true) {
    // Only untagged responses may come unasked. Those that are complete are read before the next
    // command goes out, so that nothing which came before a question counts as its answer.
    const bool command_due = phase_ == Phase::kStartTlsDue || phase_ == Phase::kCapabilityDue ||
                             phase_ == Phase::kLoginDue;
    if (command_due && !input.empty() && input.view().front() != '*') {
      return ProtocolError("response without a command");
    }
    const ResponseFramer::Result result = framer_.Scan(input.view());
    if (result == ResponseFramer::Result::kTooLong) return ProtocolError("response too long");
    if (result == ResponseFramer::Result::kNeedInput) {
      Outcome outcome = SendDue(output);
      return outcome ? std::move(*outcome) : NeedInput{};
    }
    const size_t length = framer_.response_bytes();
    const std::string_view bytes = input.view().substr(0, length);
    const std::optional<Response> response = ParseResponse(bytes);
    if (!response) return ProtocolError("not a response: ", bytes);
    Outcome outcome = OnResponse(bytes, *response, input.size() > length, output);
    input.Consume(length);
    framer_.Reset();
    if (outcome) return std::move(*outcome);
  }
}

ClientEngine::Outcome ClientEngine::OnResponse(std::string_view bytes, const Response& response,
                                               bool more_input, Buffer& output) {
  if (phase_ == Phase::kGreeting) return OnGreeting(response);
  switch (response.kind) {
    case ResponseKind::kUntagged:
      return OnUntagged(bytes, response);
    case ResponseKind::kContinuation:
      return OnContinuation(response, output);
    case ResponseKind::kTagged:
      return OnTagged(response, more_input);
  }
  return std::nullopt;
}

ClientEngine::Outcome ClientEngine::OnGreeting(const Response& response) {
  if (response.kind != ResponseKind::kUntagged) return ProtocolError("no greeting");
  if (response.condition == Condition::kBye) return ByeOf(response);
  // PREAUTH would log every client in as somebody whom nobody named.
  if (response.condition != Condition::kOk) {
    return ProtocolError("unexpected greeting: ", response.data);
  }
  if (EqualsIgnoreCase(response.code, "CAPABILITY")) {
    capabilities_ = ParseCapabilities(response.code_arguments);
    capabilities_known_ = true;
  }
  if (facts_.tls == BackendTls::kStartTls) {
    phase_ = Phase::kStartTlsDue;
  } else {
    if (!capabilities_known_) AssumeCapabilities();
    phase_ = capabilities_known_ ? Phase::kLoginDue : Phase::kCapabilityDue;
  }
  return std::nullopt;
}

ClientEngine::Outcome ClientEngine::OnUntagged(std::string_view bytes, const Response& response) {
  if (response.condition == Condition::kBye) return ByeOf(response);
  if (response.condition == Condition::kBad || response.condition == Condition::kPreauth) {
    return ProtocolError("unexpected response: ", response.data);
  }
  // Who the backend is, is told to us alone.
  constexpr std::string_view kId = "ID ";
  if (!id_tag_.empty() && EqualsIgnoreCase(response.data.substr(0, kId.size()), kId)) {
    return std::nullopt;
  }
  if (phase_ == Phase::kLogin) {
    // Its line end may be a bare LF; what we write ends in CRLF.
    bytes.remove_suffix(1);
    if (bytes.ends_with('\r')) bytes.remove_suffix(1);
    if (untagged_.size() + bytes.size() + 2 > kMaxResponseBytes) {
      return ProtocolError("too many untagged responses");
    }
    untagged_.append(bytes).append("\r\n");
    return std::nullopt;
  }
  // Asked for only: an unasked list would count or not as its packet happens to come.
  if (phase_ != Phase::kCapability) return std::nullopt;
  std::string_view data = response.data;
  constexpr std::string_view kCapability = "CAPABILITY ";
  if (response.condition == Condition::kNone &&
      EqualsIgnoreCase(data.substr(0, kCapability.size()), kCapability)) {
    data.remove_prefix(kCapability.size());
    capabilities_ = ParseCapabilities(data);
    capabilities_known_ = true;
  }
  return std::nullopt;
}

ClientEngine::Outcome ClientEngine::OnContinuation(const Response& response, Buffer& output) {
  if (phase_ != Phase::kLogin) return ProtocolError("unexpected continuation request");
  if (parts_sent_ < login_parts_.size()) {
    SendLoginPart(output);
    return std::nullopt;
  }
  if (Outcome outcome = exchange_.OnChallenge(response.data)) return outcome;
  if (exchange_.TakeAnswer(output)) output << "\r\n";
  return std::nullopt;
}

ClientEngine::Outcome ClientEngine::OnTagged(const Response& response, bool more_input) {
  if (!id_tag_.empty() && response.tag == id_tag_) {
    id_tag_.clear();
    // The words of Dovecot from 2.4 on, and ours. An older one says the same to everybody.
    if (response.condition != Condition::kOk) {
      trust_ = protocols::Trust::kRefused;
    } else if (response.text.starts_with("Trusted")) {
      trust_ = protocols::Trust::kGiven;
    }
    return std::nullopt;
  }
  if (response.tag != tag_) return ProtocolError("unexpected tag");
  tag_.clear();
  if (phase_ == Phase::kStartTls) {
    if (response.condition != Condition::kOk) {
      return Failed{BackendFailure::kNoStartTls, std::string(response.data)};
    }
    // RFC 9051 §6.2.1: what stands behind this line came in cleartext, from anybody.
    if (more_input) return Failed{BackendFailure::kInjection, {}};
    phase_ = Phase::kTlsHandshake;
    return protocols::StartTls{};
  }
  if (phase_ == Phase::kCapability) {
    if (response.condition != Condition::kOk || !capabilities_known_) {
      return ProtocolError("no capabilities: ", response.data);
    }
    phase_ = Phase::kLoginDue;
    return std::nullopt;
  }
  return OnLoginAnswer(response);
}

ClientEngine::Outcome ClientEngine::OnLoginAnswer(const Response& response) {
  if (!id_tag_.empty()) return ProtocolError("login answered before ID");
  switch (response.condition) {
    case Condition::kOk:
      if (parts_sent_ < login_parts_.size()) return ProtocolError("login believed half told");
      return protocols::LoggedIn{{std::move(untagged_), std::string(response.data).append("\r\n")}};
    case Condition::kNo:
      return RefusalOf(response);
    case Condition::kNone:
    case Condition::kBad:
    case Condition::kBye:
    case Condition::kPreauth:
      break;
  }
  return ProtocolError("login answered: ", response.data);
}

ClientEngine::Outcome ClientEngine::SendDue(Buffer& output) {
  switch (phase_) {
    case Phase::kStartTlsDue:
      if (capabilities_known_ && !Offers("STARTTLS")) {
        return Failed{BackendFailure::kNoStartTls, "STARTTLS is not offered"};
      }
      phase_ = Phase::kStartTls;
      Send("STARTTLS", output);
      return std::nullopt;
    case Phase::kCapabilityDue:
      phase_ = Phase::kCapability;
      Send("CAPABILITY", output);
      return std::nullopt;
    case Phase::kLoginDue:
      return Login(output);
    case Phase::kTlsHandshake:
    case Phase::kGreeting:
    case Phase::kStartTls:
    case Phase::kCapability:
    case Phase::kLogin:
      return std::nullopt;
  }
  return std::nullopt;
}

ClientEngine::Outcome ClientEngine::Login(Buffer& output) {
  if (facts_.credentials == nullptr) return protocols::Ready{};
  phase_ = Phase::kLogin;
  const sasl::Credentials& credentials = *facts_.credentials;
  if (!Writable(credentials.authorization_identity) ||
      !Writable(credentials.authentication_identity) || !Writable(credentials.password.Reveal())) {
    return Failed{BackendFailure::kUnencodable, {}};
  }
  if (introduction_) SendId(output);
  const std::optional<sasl::Mechanism> mechanism = protocols::MechanismFor(
      credentials, mechanism_.value_or(facts_.login_mechanism), capabilities_, /*own_first=*/false);
  NewTag();
  if (mechanism && *mechanism != sasl::Mechanism::kProtocol) {
    if (!PrepareAuthenticate(*mechanism, credentials)) {
      return Failed{BackendFailure::kUnencodable, {}};
    }
  } else if (!mechanism || !PrepareLogin(credentials)) {
    return protocols::NoMechanism(credentials);
  }
  SendLoginPart(output);
  return std::nullopt;
}

// SendId introduces the client; the login follows in the same flight, since it does not depend on
// the answer.
void ClientEngine::SendId(Buffer& output) {
  if (!Offers("ID")) {
    trust_ = protocols::Trust::kRefused;
    return;
  }
  NewTag();
  id_tag_ = tag_;
  output << id_tag_ << " ID (";
  AppendIdPairs(protocols::IdFields(*introduction_), output);
  output << ")\r\n";
}

bool ClientEngine::PrepareAuthenticate(sasl::Mechanism mechanism,
                                       const sasl::Credentials& credentials) {
  Buffer part;
  part << tag_ << " AUTHENTICATE " << sasl::Name(mechanism);
  if (Offers("SASL-IR")) {
    part << " ";
  } else {
    part << "\r\n";
    login_parts_.push_back(std::exchange(part, Buffer()));
  }
  if (!exchange_.Begin(mechanism, credentials, part)) return false;
  part << "\r\n";
  login_parts_.push_back(std::move(part));
  return true;
}

bool ClientEngine::PrepareLogin(const sasl::Credentials& credentials) {
  // LOGIN can't say on whose behalf.
  if (Offers("LOGINDISABLED") || !credentials.authorization_identity.empty()) return false;
  Buffer part;
  part << tag_ << " LOGIN";
  const bool literal_plus = Offers("LITERAL+") || Offers("LITERAL-");
  for (const std::string_view text :
       {std::string_view(credentials.authentication_identity), credentials.password.Reveal()}) {
    part << " ";
    if (IsPrintableAscii(text)) {
      AppendQuoted(text, part);
      continue;
    }
    // LITERAL- allows non-synchronising literals of up to 4096 bytes (RFC 7888 §5).
    const bool synchronising = !literal_plus || (!Offers("LITERAL+") && text.size() > 4096);
    part << "{" << std::to_string(text.size()) << (synchronising ? "}\r\n" : "+}\r\n");
    if (synchronising) login_parts_.push_back(std::exchange(part, Buffer()));
    part << text;
  }
  part << "\r\n";
  login_parts_.push_back(std::move(part));
  return true;
}

void ClientEngine::SendLoginPart(Buffer& output) {
  Buffer& part = login_parts_[parts_sent_++];
  output << part.view();
  part.Clear();
}

void ClientEngine::TlsStarted() {
  // RFC 9051 §6.2.1: what was learnt in cleartext must be forgotten.
  capabilities_.clear();
  capabilities_known_ = false;
  framer_.Reset();
  AssumeCapabilities();
  phase_ = capabilities_known_ ? Phase::kLoginDue : Phase::kCapabilityDue;
}

void ClientEngine::AssumeCapabilities() {
  if (!facts_.known_capabilities) return;
  capabilities_ = *facts_.known_capabilities;
  capabilities_known_ = true;
}

void ClientEngine::Send(std::string_view command, Buffer& output) {
  NewTag();
  output << tag_ << " " << command << "\r\n";
}

void ClientEngine::NewTag() {
  tag_ = "G" + std::to_string(++last_tag_);
}

bool ClientEngine::Offers(std::string_view capability) const {
  return std::any_of(capabilities_.begin(), capabilities_.end(), [&](const std::string& offered) {
    return EqualsIgnoreCase(offered, capability);
  });
}

}  // namespace gatepost::imap
