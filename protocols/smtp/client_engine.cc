// SPDX-License-Identifier: Apache-2.0
#include "protocols/smtp/client_engine.h"

#include <algorithm>
#include <utility>

#include "protocols/line_framer.h"
#include "protocols/sasl/base64.h"
#include "protocols/smtp/command.h"

namespace gatepost::smtp {
namespace {

using protocols::BackendFailure;
using protocols::BackendTls;
using protocols::Buffer;
using protocols::ClientAction;
using protocols::EqualsIgnoreCase;
using protocols::Failed;
using protocols::LoggedIn;
using protocols::LoginFailure;
using protocols::NeedInput;
using protocols::Refused;

constexpr size_t kMaxCommandBytes = 512;     // RFC 5321 §4.5.3.1.4, with CRLF
constexpr size_t kMaxAuthLineBytes = 12288;  // RFC 4954 §4, with CRLF
constexpr size_t kMaxStatusTextBytes = 400;  // 512 with code and CRLF, RFC 5321 §4.5.3.1.5

constexpr std::string_view kXclient = "XCLIENT";

// Clients give odd names; what is not one word is not repeated.
bool IsHelloName(std::string_view name) {
  return !name.empty() && name.size() <= 255 &&
         std::all_of(name.begin(), name.end(), [](char c) { return c > 0x20 && c < 0x7f; });
}

bool HasNul(std::string_view text) {
  return text.find('\0') != std::string_view::npos;
}

}  // namespace

ClientEngine::ClientEngine(protocols::ClientFacts facts)
    : facts_(std::move(facts)), reply_(facts_.max_line_bytes) {}

ClientAction ClientEngine::Next(Buffer& input, Buffer& output) {
  if (exchange_.TakeAnswer(output)) {
    output << "\r\n";
    if (!input.empty()) return Failed{BackendFailure::kProtocolError, "a reply before its command"};
  }
  if (expect_ == Expect::kStartTls && tls_started_) {
    if (input.empty()) return SendHello(output);  // RFC 3207 §4.2
    return Failed{BackendFailure::kProtocolError, "a reply before its command"};
  }
  if (expect_ == Expect::kReady && input.empty()) return BeginLogin(output);
  switch (reply_.Next(input)) {
    case ReplyParser::Status::kNeedInput:
      return NeedInput{};
    case ReplyParser::Status::kMalformed:
      return Failed{BackendFailure::kProtocolError, "not an SMTP reply"};
    case ReplyParser::Status::kComplete:
      break;
  }
  ClientAction action = OnReply(output);
  if (input.empty()) return action;
  // Something came before we asked for it.
  if (std::holds_alternative<protocols::StartTls>(action)) {
    return Failed{BackendFailure::kInjection, "bytes behind the reply to STARTTLS"};
  }
  if (std::holds_alternative<NeedInput>(action) ||
      std::holds_alternative<protocols::Challenged>(action) ||
      std::holds_alternative<protocols::Ready>(action)) {
    return Failed{BackendFailure::kProtocolError, "a reply before its command"};
  }
  return action;
}

ClientAction ClientEngine::OnReply(Buffer& output) {
  const unsigned code = reply_.code();
  switch (expect_) {
    case Expect::kGreeting:
      if (code == 220) return SendHello(output);
      return Fail(code >= 400 ? BackendFailure::kRefusedService : BackendFailure::kProtocolError);
    case Expect::kEhlo:
      return OnEhlo(output);
    case Expect::kHelo:
      if (code == 250) return BeginLogin(output);
      return Fail(code >= 400 ? BackendFailure::kRefusedService : BackendFailure::kProtocolError);
    case Expect::kStartTls:
      if (code == 220) return protocols::StartTls{};
      return Fail(BackendFailure::kNoStartTls);
    case Expect::kReady:  // unasked: a server that gives us up
      return Fail(code == 421 ? BackendFailure::kRefusedService : BackendFailure::kProtocolError);
    case Expect::kXclient:
      return OnXclient(output);
    case Expect::kAskedFirst:
    case Expect::kLoginUser:
    case Expect::kLoginPassword:
      return code == 334 ? OnPrompt(output) : OnVerdict();
    case Expect::kVerdict:
      return code == 334 ? OnChallenge(output) : OnVerdict();
  }
  return Fail(BackendFailure::kProtocolError);
}

ClientAction ClientEngine::OnEhlo(Buffer& output) {
  const bool wants_tls = facts_.tls == BackendTls::kStartTls && !tls_started_;
  if (reply_.code() != 250) {
    if (reply_.code() / 100 == 4) return Fail(BackendFailure::kUnavailable);
    if (reply_.code() / 100 != 5) return Fail(BackendFailure::kProtocolError);
    if (wants_tls) return Fail(BackendFailure::kNoStartTls);
    // RFC 5321 §3.2: an old server may know HELO only; what needs no extension is possible there.
    if (facts_.authenticate) return Fail(BackendFailure::kNoMechanism);
    return Ask(Expect::kHelo, "HELO " + facts_.hostname, output);
  }
  capabilities_.assign(reply_.lines().begin() + 1, reply_.lines().end());
  if (wants_tls) {
    if (!Offers("STARTTLS")) return Fail(BackendFailure::kNoStartTls);
    return Ask(Expect::kStartTls, "STARTTLS", output);
  }
  return BeginLogin(output);
}

ClientAction ClientEngine::BeginLogin(Buffer& output) {
  expect_ = Expect::kReady;
  if (facts_.credentials == nullptr) return protocols::Ready{};
  if (introduction_ && trust_ == protocols::Trust::kUnknown) return BeginXclient(output);
  if (!facts_.authenticate) {
    if (introduction_ && !introduction_->login.empty() && !login_told_) {
      return Failed{BackendFailure::kNoMechanism, "the backend takes no XCLIENT LOGIN from us"};
    }
    return LoggedIn{};
  }
  return BeginAuth(output);
}

// BeginXclient introduces the client with those attributes that the backend wants: Postfix's
// XCLIENT_README. The name and the address come last: behind them, the client's own rights may be
// all that is left.
ClientAction ClientEngine::BeginXclient(Buffer& output) {
  const auto offer = std::find_if(
      capabilities_.begin(), capabilities_.end(),
      [](const std::string& line) { return EqualsIgnoreCase(KeywordName(line), "XCLIENT"); });
  if (offer != capabilities_.end()) {
    const std::string wanted = *offer + " ";
    const auto wants = [&](std::string_view name) {
      return wanted.find(" " + std::string(name) + " ") != std::string::npos;
    };
    std::string command;
    const auto add = [&](std::string_view name, std::string_view value) {
      if (!wants(name)) return;
      std::string attribute = " " + std::string(name) + "=";
      protocols::AppendXtext(value, attribute);
      if (kXclient.size() + attribute.size() + 2 > kMaxCommandBytes) return;
      if (!command.empty() && command.size() + attribute.size() + 2 > kMaxCommandBytes) {
        xclient_.push_back(std::exchange(command, {}));
      }
      if (command.empty()) command = kXclient;
      if (name == "LOGIN") login_told_ = true;
      command += attribute;
    };
    const auto attributes = protocols::XclientAttributes(*introduction_);
    for (const auto& [name, value] : attributes) {
      const bool ipv6 = name.ends_with("ADDR") && value.find(':') != std::string::npos;
      if (name == "ADDR") {
        add("PROTO", "ESMTP");
        add("NAME", "[UNAVAILABLE]");
      }
      add(name, ipv6 ? "IPV6:" + value : value);
    }
    if (!command.empty()) xclient_.push_back(std::move(command));
  }
  if (xclient_.empty()) {
    trust_ = protocols::Trust::kRefused;
    return BeginLogin(output);
  }
  return Ask(Expect::kXclient, xclient_[xclient_sent_++], output);
}

ClientAction ClientEngine::OnXclient(Buffer& output) {
  const unsigned code = reply_.code();
  if (code == 220) {
    if (xclient_sent_ < xclient_.size()) {
      return Ask(Expect::kXclient, xclient_[xclient_sent_++], output);
    }
    trust_ = protocols::Trust::kGiven;
    return SendHello(output);
  }
  switch (code) {
    case 500:  // it does not know the command after all
    case 501:
    case 502:
    case 503:
    case 550:  // not from us
      trust_ = protocols::Trust::kRefused;
      login_told_ = false;
      return SendHello(output);
    case 421:
      return Fail(BackendFailure::kRefusedService);
    default:
      break;
  }
  // Whatever else it says is about the client: the answer to its connection.
  trust_ = protocols::Trust::kGiven;
  if (code / 100 == 5) return Refused{LoginFailure::kAuthorizationDenied, reply_.lines().back()};
  return Fail(code / 100 == 4 ? BackendFailure::kUnavailable : BackendFailure::kProtocolError);
}

ClientAction ClientEngine::BeginAuth(Buffer& output) {
  const sasl::Credentials& credentials = *facts_.credentials;
  if (HasNul(credentials.authorization_identity) || HasNul(credentials.authentication_identity) ||
      HasNul(credentials.password.Reveal())) {
    return Failed{BackendFailure::kUnencodable, "NUL in the credentials"};
  }
  const std::optional<sasl::Mechanism> mechanism = protocols::MechanismFor(
      credentials, mechanism_.value_or(facts_.login_mechanism), capabilities_, /*own_first=*/false);
  if (!mechanism) return protocols::NoMechanism(credentials);
  if (mechanism == sasl::Mechanism::kProtocol) {
    if (!credentials.authorization_identity.empty()) return protocols::NoMechanism(credentials);
    if (!protocols::OffersMechanism(capabilities_, sasl::Mechanism::kLogin)) {
      return Failed{BackendFailure::kNoMechanism, "neither PLAIN nor LOGIN is offered"};
    }
    return Ask(Expect::kLoginUser, "AUTH LOGIN", output);
  }
  const std::string command = "AUTH " + std::string(sasl::Name(*mechanism));
  if (!exchange_.Begin(*mechanism, credentials, first_message_)) {
    return Failed{BackendFailure::kUnencodable, "credentials that the mechanism can't carry"};
  }
  if (first_message_.size() + 2 > kMaxAuthLineBytes) {
    return Failed{BackendFailure::kUnencodable, "credentials too long for SMTP"};
  }
  if (command.size() + 1 + first_message_.size() + 2 > kMaxCommandBytes) {
    return Ask(Expect::kAskedFirst, command, output);
  }
  output << command << " " << first_message_.view() << "\r\n";
  first_message_.Clear();
  expect_ = Expect::kVerdict;
  return NeedInput{};
}

// OnPrompt answers what only asks for the next part of the credentials.
ClientAction ClientEngine::OnPrompt(Buffer& output) {
  const sasl::Credentials& credentials = *facts_.credentials;
  Buffer line;
  Expect next = Expect::kVerdict;
  if (expect_ == Expect::kAskedFirst) {
    line = std::move(first_message_);
  } else if (expect_ == Expect::kLoginUser) {
    sasl::EncodeBase64(credentials.authentication_identity, line);
    next = Expect::kLoginPassword;
  } else {
    sasl::EncodeBase64(credentials.password.Reveal(), line);
  }
  if (line.size() + 2 > kMaxAuthLineBytes) {
    return Failed{BackendFailure::kUnencodable, "credentials too long for SMTP"};
  }
  return Ask(next, line.view(), output);
}

ClientAction ClientEngine::OnChallenge(Buffer& output) {
  if (auto action = exchange_.OnChallenge(reply_.lines().back())) return *std::move(action);
  if (exchange_.TakeAnswer(output)) output << "\r\n";
  return NeedInput{};
}

ClientAction ClientEngine::OnVerdict() {
  if (reply_.code() != 235) return AuthRefused();
  const std::string text = protocols::Printable(reply_.lines().back(), kMaxStatusTextBytes);
  return LoggedIn{{.untagged = {}, .status = "235 " + text + "\r\n"}};
}

// RFC 4954 §4 and §6, RFC 5248.
ClientAction ClientEngine::AuthRefused() {
  const unsigned code = reply_.code();
  const std::string_view enhanced = EnhancedCode(reply_.lines().back());
  // Whatever the first digit says, the password was not judged.
  if (code / 100 == 5 && enhanced.starts_with('4')) return Fail(BackendFailure::kUnavailable);
  if (enhanced == "5.7.13") return Refused{LoginFailure::kAccountDisabled, reply_.lines().back()};
  switch (code) {
    case 432:  // RFC 4954 §6: a password transition is needed
      return Refused{LoginFailure::kPasswordExpired, reply_.lines().back()};
    case 525:
      return Refused{LoginFailure::kAccountDisabled, reply_.lines().back()};
    case 504:  // mechanism unknown after all
    case 530:  // TLS wanted
    case 534:  // mechanism too weak
    case 538:  // encryption required
      return Fail(BackendFailure::kNoMechanism);
    case 500:  // a server that doesn't understand us says nothing about the password
    case 501:
    case 502:
    case 503:
      return Fail(BackendFailure::kProtocolError);
    default:
      break;
  }
  if (code / 100 == 5) return Refused{LoginFailure::kBadCredentials, reply_.lines().back()};
  return Fail(code / 100 == 4 ? BackendFailure::kUnavailable : BackendFailure::kProtocolError);
}

ClientAction ClientEngine::SendHello(Buffer& output) {
  // Once it knows who the client is, the backend hears the client's own name, too.
  const bool as_client = trust_ == protocols::Trust::kGiven && IsHelloName(introduction_->helo);
  return Ask(Expect::kEhlo, "EHLO " + (as_client ? introduction_->helo : facts_.hostname), output);
}

ClientAction ClientEngine::Ask(Expect expect, std::string_view command, Buffer& output) {
  expect_ = expect;
  output << command << "\r\n";
  return NeedInput{};
}

ClientAction ClientEngine::Fail(BackendFailure reason) const {
  // RFC 3463 §3.4: "system not accepting network messages"; with 421, it closes for everybody.
  if (reply_.code() == 421 && reply_.lines().back().starts_with("4.3.2")) {
    reason = BackendFailure::kShuttingDown;
  }
  return Failed{reason, std::to_string(reply_.code()) + " " + reply_.lines().back()};
}

void ClientEngine::TlsStarted() {
  tls_started_ = true;
  capabilities_.clear();
}

bool ClientEngine::Offers(std::string_view keyword) const {
  return std::any_of(capabilities_.begin(), capabilities_.end(), [keyword](const auto& line) {
    return EqualsIgnoreCase(KeywordName(line), keyword);
  });
}

}  // namespace gatepost::smtp
