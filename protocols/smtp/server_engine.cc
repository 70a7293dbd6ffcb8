// SPDX-License-Identifier: Apache-2.0
#include "protocols/smtp/server_engine.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "protocols/line_framer.h"
#include "protocols/smtp/relay_scanner.h"
#include "protocols/smtp/reply.h"

namespace gatepost::smtp {
namespace {

using protocols::Buffer;
using protocols::LoginFailure;
using protocols::NeedInput;
using protocols::Quit;
using protocols::QuitReason;
using protocols::ServerAction;

// RFC 4954 §4: "at most 12288 octets … includes the CRLF".
constexpr size_t kMaxAuthLineBytes = 12288 - 2;
constexpr size_t kMaxClientNameBytes = 255;  // RFC 5321 §4.5.3.1.2
constexpr size_t kMaxFailureTextBytes = 400;

// RFC 5321 §4.2.1: 4yz and 5yz.
bool StartsWithErrorCode(std::string_view text) {
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  return text.size() > 4 && (text[0] == '4' || text[0] == '5') && digit(text[1]) &&
         digit(text[2]) && text[3] == ' ';
}

}  // namespace

ServerEngine::ServerEngine(protocols::ServerFacts facts) : facts_(std::move(facts)) {
  sasl_.Offer(facts_.mechanisms);
  sasl_.SetExternalIdentity(std::move(facts_.external_identity));
}

void ServerEngine::Greet(Buffer& output) {
  output << "220 " << facts_.hostname << " ESMTP\r\n";
}

ServerAction ServerEngine::Next(Buffer& input, Buffer& output) {
  while (!input.empty()) {
    Outcome outcome;
    switch (state_) {
      case State::kFirstBytes:
        outcome = DoFirstBytes(input, output);
        break;
      case State::kCommand:
      case State::kAuthResponse:
        outcome = DoLine(input, output);
        break;
      case State::kSkipLine:
        outcome = DoSkipLine(input, output);
        break;
      case State::kSkipPayload:
        outcome = DoSkipPayload(input, output);
        break;
    }
    if (outcome) return std::move(*outcome);
  }
  return NeedInput{};
}

ServerEngine::Outcome ServerEngine::DoFirstBytes(Buffer& input, Buffer& output) {
  if (const auto foreign = protocols::ForeignProtocol(input.view())) {
    if (*foreign != QuitReason::kTls) output << "421 4.7.0 This is an SMTP server\r\n";
    return Quit{*foreign};
  }
  // Until the first line is whole it could become another protocol's.
  if (!protocols::FindLine(input.view()) && input.size() <= max_line_bytes()) return NeedInput{};
  state_ = State::kCommand;
  return std::nullopt;
}

// DoLine serves one line: a command, or the answer to a challenge.
ServerEngine::Outcome ServerEngine::DoLine(Buffer& input, Buffer& output) {
  const bool is_response = state_ == State::kAuthResponse;
  const auto line = protocols::FindLine(input.view());
  if (!line) {
    if (input.size() <= max_line_bytes() + 1) return NeedInput{};  // one more: its CR
    auth_line_ = is_response;
    state_ = State::kSkipLine;
    return std::nullopt;
  }
  const size_t line_bytes = line->wire_bytes;
  Outcome outcome;
  if (line->text.size() > max_line_bytes()) {
    auth_line_ = is_response;
    outcome = LineTooLong(output);
  } else if (!IsCleanLine(input.view().substr(0, line_bytes))) {
    sasl_.Forget();
    state_ = State::kCommand;
    outcome = Bad("500 5.5.2 Bare CR, bare LF or NUL in a line\r\n", output);
    if (is_response) outcome = sasl_.Ended(std::move(outcome));
  } else if (is_response) {
    state_ = State::kCommand;
    outcome = OnExchange(sasl_.Step(line->text, output), output);
  } else {
    outcome = OnCommand(ParseCommand(line->text), input.size() > line_bytes, output);
    if (outcome && std::holds_alternative<protocols::Inbound>(*outcome)) return outcome;
  }
  input.Consume(line_bytes);
  return outcome;
}

ServerEngine::Outcome ServerEngine::DoSkipLine(Buffer& input, Buffer& output) {
  const size_t end = input.view().find('\n');
  if (end == std::string_view::npos) {
    input.Consume(input.size());
    return NeedInput{};
  }
  input.Consume(end + 1);
  return LineTooLong(output);
}

ServerEngine::Outcome ServerEngine::LineTooLong(Buffer& output) {
  ++counts_.lines_too_long;
  state_ = State::kCommand;
  sasl_.Forget();
  // RFC 4954 §4 for the line of an exchange.
  if (!auth_line_) return Bad("500 5.5.2 Line too long\r\n", output);
  return sasl_.Ended(Bad("500 5.5.6 Authentication exchange line is too long\r\n", output));
}

ServerEngine::Outcome ServerEngine::DoSkipPayload(Buffer& input, Buffer& output) {
  const auto count = static_cast<size_t>(std::min<uint64_t>(payload_left_, input.size()));
  input.Consume(count);
  payload_left_ -= count;
  if (payload_left_ > 0) return NeedInput{};
  state_ = State::kCommand;
  return RequireMail(output);
}

ServerEngine::Outcome ServerEngine::OnCommand(const Command& command, bool more_input,
                                              Buffer& output) {
  switch (command.verb) {
    case Verb::kHelo:
    case Verb::kEhlo:
      return OnHello(command.verb, command.argument, output);
    case Verb::kStartTls:
      return OnStartTls(command.argument, more_input, output);
    case Verb::kAuth:
      return OnAuth(command.argument, output);
    case Verb::kBdat:
      return OnBdat(command.argument, output);
    case Verb::kMail:
      return OnMail(output);
    case Verb::kRcpt:
    case Verb::kData:
      return RequireMail(output);
    case Verb::kVrfy:
    case Verb::kExpn:
    case Verb::kEtrn:
      return RequireLogin(output);
    case Verb::kRset:
    case Verb::kNoop:
      output << "250 2.0.0 OK\r\n";
      return std::nullopt;
    case Verb::kHelp:
      output << "214 2.0.0 EHLO HELO STARTTLS AUTH NOOP RSET HELP QUIT\r\n";
      return std::nullopt;
    case Verb::kQuit:
      output << "221 2.0.0 " << facts_.hostname << " closing connection\r\n";
      return Quit{QuitReason::kLoggedOut};
    case Verb::kXclient:
      if (facts_.trusted_proxy) return OnXclient(command.argument, output);
      break;
    case Verb::kXforward:
    case Verb::kUnknown:
    case Verb::kCount:
      break;
  }
  return Bad("500 5.5.2 Command not recognized\r\n", output);
}

ServerEngine::Outcome ServerEngine::OnHello(Verb verb, std::string_view argument, Buffer& output) {
  // Old clients send computer names with blanks and 8-bit letters: they stay, for display only.
  if (argument.empty() || protocols::HasControl(argument)) {
    return Bad("501 5.5.4 Syntax: EHLO hostname\r\n", output);
  }
  client_name_ = protocols::Printable(argument, kMaxClientNameBytes);
  extended_ = verb == Verb::kEhlo;
  if (!extended_) {
    output << "250 " << facts_.hostname << "\r\n";
    return std::nullopt;
  }
  std::vector<std::string_view> lines = {facts_.hostname};
  if (facts_.backend_capabilities) {
    const bool chunking = facts_.bare_newline == protocols::BareNewline::kReject;
    for (const std::string& keyword_line : *facts_.backend_capabilities) {
      if (MayOffer(keyword_line, chunking)) lines.emplace_back(keyword_line);
    }
  }
  if (facts_.starttls_offered && !facts_.tls_active) lines.emplace_back("STARTTLS");
  std::string auth = "AUTH";
  for (const std::string_view name : sasl_.Mechanisms()) auth.append(" ").append(name);
  if (!tls_required()) lines.emplace_back(auth);
  if (facts_.trusted_proxy) lines.emplace_back(protocols::kXclientKeyword);
  for (size_t i = 0; i < lines.size(); ++i) {
    output << (i + 1 == lines.size() ? "250 " : "250-") << lines[i] << "\r\n";
  }
  return std::nullopt;
}

// Postfix's XCLIENT_README: the dialogue begins anew, but for TLS.
ServerEngine::Outcome ServerEngine::OnXclient(std::string_view argument, Buffer& output) {
  protocols::Introduction told;
  if (introduction_) told = *introduction_;  // it may come in several commands
  if (!protocols::ReadXclient(argument, true, told)) {
    return Bad("501 5.5.4 Bad XCLIENT attribute\r\n", output);
  }
  introduction_ = std::make_unique<protocols::Introduction>(std::move(told));
  extended_ = false;
  client_name_.clear();
  Greet(output);
  return std::nullopt;
}

ServerEngine::Outcome ServerEngine::OnStartTls(std::string_view argument, bool more_input,
                                               Buffer& output) {
  if (!argument.empty()) {  // RFC 3207 §4
    ++counts_.starttls_refused;
    return Bad("501 5.5.4 Syntax: STARTTLS\r\n", output);
  }
  if (facts_.tls_active) {
    ++counts_.starttls_refused;
    return Bad("503 5.5.1 TLS is already active\r\n", output);
  }
  if (!facts_.starttls_offered) {
    ++counts_.starttls_refused;
    return Bad("454 4.7.0 TLS not available\r\n", output);
  }
  if (more_input) {
    // Whoever put them there, they would be read as if they had come through TLS.
    output << "554 5.5.1 Commands behind STARTTLS; closing connection\r\n";
    return Quit{QuitReason::kCommandInjection};
  }
  output << "220 2.0.0 Ready to start TLS\r\n";
  return protocols::StartTls{};
}

ServerEngine::Outcome ServerEngine::OnAuth(std::string_view argument, Buffer& output) {
  if (tls_required()) return RequireLogin(output);
  if (!extended_) return Bad("503 5.5.1 Send EHLO first\r\n", output);
  const size_t name_bytes = std::min(argument.find(' '), argument.size());
  const std::string_view name = argument.substr(0, name_bytes);
  std::optional<std::string_view> initial_response;
  if (name_bytes < argument.size()) initial_response = argument.substr(name_bytes + 1);
  if (name.empty() ||
      (initial_response &&
       (initial_response->empty() || initial_response->find(' ') != initial_response->npos))) {
    return Bad("501 5.5.4 Syntax: AUTH mechanism [initial-response]\r\n", output);
  }
  const auto mechanism = sasl_.Find(name);
  if (!mechanism) return Bad("504 5.5.4 Mechanism not supported\r\n", output);
  return OnExchange(sasl_.Begin(*mechanism, initial_response, output), output);
}

ServerEngine::Outcome ServerEngine::OnExchange(protocols::SaslLogin::Status status,
                                               Buffer& output) {
  using Status = protocols::SaslLogin::Status;
  switch (status) {
    case Status::kChallenge:
      state_ = State::kAuthResponse;
      return std::nullopt;
    case Status::kDone: {
      if (Outcome action = sasl_.TakeAction()) return action;
      const protocols::SaslLogin::Refusal refusal = sasl_.TakeRefusal();
      RefuseLogin(refusal.reason, refusal.text, output);
      return std::nullopt;
    }
    case Status::kBadBase64:
      return sasl_.Ended(Bad("501 5.5.2 Invalid base64\r\n", output));
    case Status::kMalformed:
      return Bad("501 5.5.2 Malformed authentication message\r\n", output);
    case Status::kAborted:
      output << "501 5.7.0 Authentication cancelled\r\n";
      return sasl_.Ended(std::nullopt);
  }
  return std::nullopt;
}

// RFC 3030 §2: the payload stands behind the command whether it is welcome or not.
ServerEngine::Outcome ServerEngine::OnBdat(std::string_view argument, Buffer& output) {
  const auto chunk = ParseChunk(argument);
  if (!chunk) {
    output << "501 5.5.4 Syntax: BDAT size [LAST]; closing connection\r\n";
    return Quit{QuitReason::kLineTooLong};
  }
  if (chunk->bytes == 0) return RequireMail(output);
  payload_left_ = chunk->bytes;
  state_ = State::kSkipPayload;
  return std::nullopt;
}

// RFC 5321 §3.3. Everything that follows is the relay scanner's, with this command.
ServerEngine::Outcome ServerEngine::OnMail(Buffer& output) {
  if (!facts_.local_domains) return RequireLogin(output);
  if (client_name_.empty()) return Bad("503 5.5.1 Send EHLO first\r\n", output);
  if (inbound_failed_) {
    inbound_failed_ = false;
    output << "451 4.3.0 Temporarily unavailable, try again later\r\n";
    return std::nullopt;
  }
  inbound_ = true;
  return protocols::Inbound{};
}

void ServerEngine::InboundFailed() {
  inbound_ = false;
  inbound_failed_ = true;
}

ServerEngine::Outcome ServerEngine::RequireMail(Buffer& output) {
  if (!facts_.local_domains) return RequireLogin(output);
  output << "503 5.5.1 Send MAIL first\r\n";
  return std::nullopt;
}

ServerEngine::Outcome ServerEngine::RequireLogin(Buffer& output) {
  if (tls_required()) {
    ++counts_.tls_required;
    output << "530 5.7.0 Must issue a STARTTLS command first\r\n";
  } else {
    ++counts_.auth_required;
    output << "530 5.7.0 Authentication required\r\n";
  }
  return std::nullopt;
}

ServerEngine::Outcome ServerEngine::Bad(std::string_view reply, Buffer& output) {
  output << reply;
  if (++counts_.bad_commands < facts_.limits.max_bad_commands) return std::nullopt;
  output << "421 4.7.0 Too many bad commands\r\n";
  return Quit{QuitReason::kTooManyErrors};
}

void ServerEngine::TlsStarted(std::string external_identity) {
  facts_.tls_active = true;
  state_ = State::kFirstBytes;  // HTTP inside TLS is as foreign
  extended_ = false;
  sasl_.Forget();
  sasl_.SetExternalIdentity(std::move(external_identity));
  client_name_.clear();
  introduction_.reset();
}

void ServerEngine::LoginSucceeded(const protocols::LoginReply& reply, Buffer& output) {
  if (reply.status.empty()) {
    output << "235 2.7.0 Authentication successful\r\n";
  } else {
    output << reply.status;
  }
}

void ServerEngine::Challenge(std::string_view message, Buffer& output) {
  sasl_.Challenge(message, output);
  state_ = State::kAuthResponse;
}

void ServerEngine::LoginFailed(LoginFailure reason, std::string_view text, Buffer& output) {
  if (sasl_.HoldBack(reason, text, output)) {
    state_ = State::kAuthResponse;
  } else {
    RefuseLogin(reason, text, output);
  }
}

void ServerEngine::RefuseLogin(LoginFailure reason, std::string_view text, Buffer& output) {
  struct Words {
    std::string_view code;
    std::string_view text;
  };
  static constexpr std::array<Words, static_cast<size_t>(LoginFailure::kCount)> kWords = {{
      {"535 5.7.8 ", "Authentication credentials invalid"},
      {"535 5.7.8 ", "Authorization denied"},
      {"454 4.7.0 ", "Temporary authentication failure"},
      {"454 4.7.0 ", "Temporary authentication failure"},
      {"454 4.7.0 ", "Too many connections"},
      {"454 4.7.0 ", "Too many login attempts, try again later"},
      {"525 5.7.13 ", "User account disabled"},
      {"535 5.7.8 ", "Password expired"},
      {"535 5.7.8 ", "Authentication credentials invalid"},
  }};
  const Words& words = kWords[static_cast<size_t>(reason)];
  // The enhanced code is ours, in a text without a reply code as well.
  const size_t code_bytes = EnhancedCode(text).size();
  if (code_bytes > 0) text.remove_prefix(std::min(text.size(), code_bytes + 1));
  const std::string shown = protocols::Printable(text, kMaxFailureTextBytes);
  if (!StartsWithErrorCode(shown)) output << words.code;
  output << (shown.empty() ? words.text : shown) << "\r\n";
}

void ServerEngine::Say(protocols::Notice notice, Buffer& output) {
  AppendNotice(notice, facts_.hostname, output);
}

std::unique_ptr<protocols::RelayScanner> ServerEngine::MakeScanner() {
  auto scanner = std::make_unique<RelayScanner>(facts_.bare_newline, facts_.limits, facts_.hostname,
                                                facts_.backend_capabilities.get());
  if (inbound_) {
    scanner->TakeInbound(facts_.local_domains, client_name_, facts_.judges_recipients);
  }
  return scanner;
}

size_t ServerEngine::max_line_bytes() const {
  if (state_ != State::kAuthResponse) return facts_.limits.max_line_bytes;
  return std::max(facts_.limits.max_line_bytes, kMaxAuthLineBytes);
}

}  // namespace gatepost::smtp
