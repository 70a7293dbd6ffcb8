// SPDX-License-Identifier: Apache-2.0
#include "protocols/pop3/client_engine.h"

#include <algorithm>
#include <initializer_list>
#include <string>
#include <utility>

#include "protocols/line_framer.h"

namespace gatepost::pop3 {
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

constexpr size_t kMaxCapabilityBytes = 65536;

// A status indicator, alone or followed by text (RFC 1939 §3).
bool HasStatus(std::string_view line, std::string_view status) {
  return line.starts_with(status) && (line.size() == status.size() || line[status.size()] == ' ');
}
bool IsOk(std::string_view line) {
  return HasStatus(line, "+OK");
}
bool IsErr(std::string_view line) {
  return HasStatus(line, "-ERR");
}
bool IsChallenge(std::string_view line) {
  return line == "+" || line.starts_with("+ ");
}

bool Writable(std::string_view text) {
  return text.find_first_of(std::string_view("\0\r\n", 3)) == std::string_view::npos;
}

Failed ProtocolError(std::string_view what, std::string_view line = {}) {
  return Failed{BackendFailure::kProtocolError, std::string(what) + std::string(line)};
}

// Says looks for words with no letter before or behind them.
bool Says(std::string_view text, std::string_view words) {
  const auto letter = [text](size_t at) {
    return at < text.size() && (text[at] | 0x20) >= 'a' && (text[at] | 0x20) <= 'z';
  };
  for (size_t i = 0; i + words.size() <= text.size(); ++i) {
    if ((i == 0 || !letter(i - 1)) && !letter(i + words.size()) &&
        EqualsIgnoreCase(text.substr(i, words.size()), words)) {
      return true;
    }
  }
  return false;
}

// Servers without response codes say in words alone what is no fault of the password's: a maildrop
// that another session has (RFC 1939 §4: "-ERR maildrop already locked"), or one that was asked for
// too soon (RFC 2449 §8.1.1). An account may be locked, too, and a user's name is in some refusals
// of a wrong password, so one word is not enough.
LoginFailure FailureInWords(std::string_view text) {
  const auto any = [text](std::initializer_list<std::string_view> words) {
    return std::any_of(words.begin(), words.end(),
                       [text](std::string_view word) { return Says(text, word); });
  };
  if (any({"minutes apart"})) return LoginFailure::kRateLimited;
  if (any({"maildrop", "mailbox", "mail lock", "pop lock"}) &&
      any({"lock", "locked", "locking", "in use"})) {
    return LoginFailure::kTooManyConnections;
  }
  return LoginFailure::kBadCredentials;
}

// The backend's "-ERR" to a login: RFC 2449 §8, RFC 3206 §4.
ClientAction RefusalOf(std::string_view line) {
  line.remove_prefix(std::min<size_t>(line.size(), 5));  // "-ERR "
  std::string_view code;
  std::string_view text = line;
  const size_t close = line.find(']');
  if (line.starts_with('[') && close != std::string_view::npos) {
    code = line.substr(1, close - 1);
    text = line.substr(close + 1);
    if (text.starts_with(' ')) text.remove_prefix(1);
  }
  // Codes are levels, of which we know the first ones.
  const auto is = [&](std::string_view known) {
    return EqualsIgnoreCase(code.substr(0, known.size()), known) &&
           (code.size() == known.size() || code[known.size()] == '/');
  };
  if (is("SYS/TEMP")) {
    return Failed{BackendFailure::kUnavailable, std::string(text)};
  }
  if (is("SYS/PERM")) {
    return Failed{BackendFailure::kNoMechanism, std::string(text)};
  }
  LoginFailure reason = code.empty() ? FailureInWords(text) : LoginFailure::kBadCredentials;
  if (is("IN-USE")) reason = LoginFailure::kTooManyConnections;
  if (is("LOGIN-DELAY")) reason = LoginFailure::kRateLimited;
  return Refused{reason, std::string(text)};
}

}  // namespace

ClientEngine::ClientEngine(protocols::ClientFacts facts) : facts_(std::move(facts)) {}

ClientAction ClientEngine::Next(Buffer& input, Buffer& output) {
  if (exchange_.TakeAnswer(output)) {
    output << "\r\n";
    if (!input.empty()) return ProtocolError("response without a command");
  }
  if (phase_ == Phase::kTlsStarted || phase_ == Phase::kReady) {
    if (!input.empty()) return ProtocolError("response without a command");
    if (phase_ == Phase::kTlsStarted) AskCapabilities(output);
    if (phase_ == Phase::kReady) {
      if (Outcome outcome = Login(output)) return std::move(*outcome);
    }
  }
  while (true) {
    const std::optional<protocols::Line> line = protocols::FindLine(input.view());
    const size_t max = facts_.max_line_bytes;
    if (line ? line->text.size() > max : input.size() > max + 1) {
      return ProtocolError("line too long");
    }
    if (!line) return NeedInput{};
    const size_t unsent = output.size();
    const bool more_input = input.size() > line->wire_bytes;
    Outcome outcome = OnLine(line->text, more_input, output);
    input.Consume(line->wire_bytes);
    if (outcome && more_input &&
        (std::holds_alternative<protocols::Ready>(*outcome) ||
         std::holds_alternative<protocols::Challenged>(*outcome))) {
      return ProtocolError("response without a command");
    }
    if (outcome) return std::move(*outcome);
    // A server speaks when asked: what is already there can't answer the command just written.
    if (more_input && output.size() > unsent) return ProtocolError("response without a command");
  }
}

ClientEngine::Outcome ClientEngine::OnLine(std::string_view line, bool more_input, Buffer& output) {
  switch (phase_) {
    case Phase::kGreeting:
      return OnGreeting(line, output);
    case Phase::kStls:
      if (!IsOk(line)) return Failed{BackendFailure::kNoStartTls, std::string(line)};
      // RFC 2595 §4: what stands behind this line came in cleartext, from anybody.
      if (more_input) return Failed{BackendFailure::kInjection, {}};
      phase_ = Phase::kTlsStarted;
      return protocols::StartTls{};
    case Phase::kTlsStarted:
    case Phase::kReady:
      return ProtocolError("response without a command");
    case Phase::kCapa:
      if (IsErr(line)) return Login(output);  // a server from before RFC 2449
      if (!IsOk(line)) return ProtocolError("not a response: ", line);
      has_capa_ = true;
      phase_ = Phase::kCapaList;
      return std::nullopt;
    case Phase::kCapaList:
      return OnCapability(line, output);
    case Phase::kXclient:
      if (!IsOk(line) && !IsErr(line)) return ProtocolError("not a response: ", line);
      trust_ = IsOk(line) && line.find("not from trusted") == std::string_view::npos
                   ? protocols::Trust::kGiven
                   : protocols::Trust::kRefused;
      return Login(output);
    case Phase::kUser:
      if (IsErr(line)) return RefusalOf(line);
      if (!IsOk(line)) return ProtocolError("not a response: ", line);
      phase_ = Phase::kPass;
      if (Offers("PIPELINING")) return std::nullopt;  // it went with USER
      output << "PASS " << facts_.credentials->password.Reveal() << "\r\n";
      return std::nullopt;
    case Phase::kAuth:
      if (IsErr(line)) return RefusalOf(line);
      if (!IsChallenge(line)) return ProtocolError("not a challenge: ", line);
      phase_ = Phase::kAuthResponse;
      output << first_message_.view() << "\r\n";
      first_message_.Clear();
      return std::nullopt;
    case Phase::kAuthResponse:
      if (IsChallenge(line)) {
        line.remove_prefix(std::min<size_t>(line.size(), 2));
        if (Outcome outcome = exchange_.OnChallenge(line)) return outcome;
        if (exchange_.TakeAnswer(output)) output << "\r\n";
        return std::nullopt;
      }
      [[fallthrough]];
    case Phase::kPass:
      if (IsErr(line)) return RefusalOf(line);
      if (!IsOk(line)) return ProtocolError("not a response: ", line);
      return protocols::LoggedIn{{{}, std::string(line).append("\r\n")}};
  }
  return std::nullopt;
}

ClientEngine::Outcome ClientEngine::OnGreeting(std::string_view line, Buffer& output) {
  if (IsErr(line)) {
    constexpr std::string_view kTemporary = "-ERR [SYS/TEMP]";  // RFC 3206 §4
    return Failed{EqualsIgnoreCase(line.substr(0, kTemporary.size()), kTemporary)
                      ? BackendFailure::kShuttingDown
                      : BackendFailure::kRefusedService,
                  std::string(line)};
  }
  if (!IsOk(line)) return ProtocolError("unexpected greeting: ", line);
  takes_xclient_ = line.find("[XCLIENT]") != std::string_view::npos;
  if (facts_.tls == BackendTls::kStartTls) {
    output << "STLS\r\n";
    phase_ = Phase::kStls;
    return std::nullopt;
  }
  AskCapabilities(output);
  if (phase_ == Phase::kReady) return Login(output);
  return std::nullopt;
}

// AskCapabilities sends CAPA, unless the answer is known.
void ClientEngine::AskCapabilities(Buffer& output) {
  if (facts_.known_capabilities) {
    capabilities_ = *facts_.known_capabilities;
    has_capa_ = !capabilities_.empty();
    phase_ = Phase::kReady;
    return;
  }
  output << "CAPA\r\n";
  phase_ = Phase::kCapa;
}

ClientEngine::Outcome ClientEngine::OnCapability(std::string_view line, Buffer& output) {
  if (line == ".") return Login(output);
  if (line.starts_with('.')) line.remove_prefix(1);  // RFC 1939 §3: byte-stuffed
  capability_bytes_ += line.size() + 2;
  if (capability_bytes_ > kMaxCapabilityBytes) return ProtocolError("CAPA has no end");
  capabilities_.emplace_back(line);
  return std::nullopt;
}

ClientEngine::Outcome ClientEngine::Login(Buffer& output) {
  phase_ = Phase::kReady;
  if (facts_.credentials == nullptr) return protocols::Ready{};
  const sasl::Credentials& credentials = *facts_.credentials;
  const std::string_view user = credentials.authentication_identity;
  const std::string_view password = credentials.password.Reveal();
  if (!Writable(user) || !Writable(password) || !Writable(credentials.authorization_identity)) {
    return Failed{BackendFailure::kUnencodable, {}};
  }
  if (introduction_ && trust_ == protocols::Trust::kUnknown) {
    if (takes_xclient_) {
      SendXclient(output);
      return std::nullopt;
    }
    trust_ = protocols::Trust::kRefused;
  }
  const bool offers_user = !has_capa_ || Offers("USER");
  // USER and PASS carry no control characters, and servers disagree on spaces at the ends of what
  // they carry: PLAIN is exact.
  const bool encodable =
      !user.empty() && !protocols::HasControl(user) && !protocols::HasControl(password);
  const bool exact = user.find(' ') == std::string_view::npos && !password.starts_with(' ') &&
                     !password.ends_with(' ') && !password.empty();
  const bool needs_plain = !credentials.authorization_identity.empty() || !offers_user;
  const std::optional<sasl::Mechanism> mechanism = protocols::MechanismFor(
      credentials, mechanism_.value_or(facts_.login_mechanism), capabilities_,
      /*own_first=*/!needs_plain && encodable && exact);
  if (!mechanism || (mechanism == sasl::Mechanism::kProtocol && needs_plain)) {
    return protocols::NoMechanism(credentials);
  }
  if (mechanism != sasl::Mechanism::kProtocol) {
    phase_ = Phase::kAuth;
    if (!exchange_.Begin(*mechanism, credentials, first_message_)) {
      return Failed{BackendFailure::kUnencodable, {}};
    }
    // RFC 5034 §4: an initial response must fit a command of 255 octets; a challenge asks for any.
    output << "AUTH " << sasl::Name(*mechanism) << "\r\n";
    return std::nullopt;
  }
  if (!encodable) return Failed{BackendFailure::kUnencodable, {}};
  phase_ = Phase::kUser;
  output << "USER " << user << "\r\n";
  if (Offers("PIPELINING")) output << "PASS " << password << "\r\n";  // RFC 2449 §6.6
  return std::nullopt;
}

// SendXclient introduces the client as Dovecot has it: values as they are, in one line.
void ClientEngine::SendXclient(Buffer& output) {
  phase_ = Phase::kXclient;
  output << "XCLIENT";
  for (const auto& [name, value] : protocols::XclientAttributes(*introduction_)) {
    if (value.find(' ') == std::string::npos) output << " " << name << "=" << value;
  }
  output << "\r\n";
}

void ClientEngine::TlsStarted() {
  // What was learnt in cleartext is forgotten; nothing was, since CAPA comes only now.
  phase_ = Phase::kTlsStarted;
}

bool ClientEngine::Offers(std::string_view capability) const {
  return std::any_of(capabilities_.begin(), capabilities_.end(), [&](const std::string& line) {
    return EqualsIgnoreCase(std::string_view(line).substr(0, line.find(' ')), capability);
  });
}

}  // namespace gatepost::pop3
