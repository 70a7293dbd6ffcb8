// SPDX-License-Identifier: Apache-2.0
#include "protocols/pop3/server_engine.h"

#include <algorithm>
#include <array>
#include <utility>

#include "protocols/line_framer.h"
#include "protocols/relay_scanner.h"
#include "protocols/sasl/digest.h"

namespace gatepost::pop3 {
namespace {

using protocols::Authenticate;
using protocols::Buffer;
using protocols::EqualsIgnoreCase;
using protocols::LoginFailure;
using protocols::NeedInput;
using protocols::Notice;
using protocols::Quit;
using protocols::QuitReason;
using protocols::ServerAction;

// RFC 2449 §4: a response line has at most 512 bytes.
constexpr size_t kMaxRefusalBytes = 400;

// Commands of the TRANSACTION state, for a helpful refusal.
bool NeedsLogin(std::string_view name) {
  static constexpr std::array<std::string_view, 7> kCommands = {"STAT", "LIST", "RETR", "DELE",
                                                                "RSET", "TOP",  "UIDL"};
  return std::any_of(kCommands.begin(), kCommands.end(),
                     [&](std::string_view command) { return EqualsIgnoreCase(command, name); });
}

// Offerable says whether a CAPA line of the backend may be shown before login. What we answer for
// ourselves may not, nor commands of the AUTHORIZATION state that end with us (UTF8 and LANG of
// RFC 6856, XCLIENT).
bool Offerable(std::string_view line) {
  static constexpr std::array<std::string_view, 10> kNotTheirs = {
      "USER", "SASL",    "STLS",           "APOP",       "UTF8",
      "LANG", "XCLIENT", "IMPLEMENTATION", "RESP-CODES", "AUTH-RESP-CODE"};
  const std::string_view keyword = line.substr(0, line.find(' '));
  const bool printable =
      std::all_of(line.begin(), line.end(), [](char c) { return c >= 0x20 && c < 0x7F; });
  if (keyword.empty() || keyword.front() == '.' || !printable) return false;
  return std::none_of(kNotTheirs.begin(), kNotTheirs.end(),
                      [&](std::string_view name) { return EqualsIgnoreCase(name, keyword); });
}

bool Presentable(std::string_view text) {
  return text.find_first_of(std::string_view("\0\r\n", 3)) == std::string_view::npos;
}

struct Refusal {
  std::string_view code;  // RFC 2449 §8, RFC 3206
  std::string_view text;
};

Refusal RefusalOf(LoginFailure reason) {
  switch (reason) {
    case LoginFailure::kBadCredentials:
    case LoginFailure::kPolicy:
      return {"AUTH", "Authentication failed."};
    case LoginFailure::kAuthorizationDenied:
      return {"AUTH", "Authorization denied."};
    case LoginFailure::kUnavailable:
      return {"SYS/TEMP", "Temporary authentication failure."};
    case LoginFailure::kBackendMisconfigured:
      return {"SYS/PERM", "Internal error, please tell the administrator."};
    case LoginFailure::kTooManyConnections:
      return {"IN-USE", "Too many connections."};
    case LoginFailure::kRateLimited:
      return {"LOGIN-DELAY", "Too many attempts, try again later."};
    case LoginFailure::kAccountDisabled:
      return {"AUTH", "This account is disabled."};
    case LoginFailure::kPasswordExpired:
      return {"AUTH", "The password has expired."};
    case LoginFailure::kCount:
      break;
  }
  return {"SYS/PERM", "Internal error."};
}

}  // namespace

struct ServerEngine::Request {
  std::optional<std::string_view> argument;  // all behind the first space, as it is
  bool flight_goes_on;                       // there are bytes behind the command
  Buffer& output;
};

ServerEngine::ServerEngine(protocols::ServerFacts facts) : facts_(std::move(facts)) {
  sasl_.Offer(facts_.mechanisms);
  sasl_.SetExternalIdentity(std::move(facts_.external_identity));
}

void ServerEngine::Greet(Buffer& output) {
  output << "+OK " << (facts_.trusted_proxy ? "[XCLIENT] " : "") << facts_.hostname << " ready";
  if (!facts_.apop_timestamp.empty()) output << " " << facts_.apop_timestamp;
  output << "\r\n";
}

ServerAction ServerEngine::Next(Buffer& input, Buffer& output) {
  if (first_bytes_) {
    // No farewell: whoever speaks another protocol here shall get nothing to work with (ALPACA).
    if (const auto foreign = protocols::ForeignProtocol(input.view())) return Quit{*foreign};
  }
  while (true) {
    const std::optional<protocols::Line> line = protocols::FindLine(input.view());
    const size_t max = facts_.limits.max_line_bytes;
    if (line ? line->text.size() > max : input.size() > max + 1) {
      ++counts_.lines_too_long;
      output << "-ERR Line too long\r\n";
      return Quit{QuitReason::kLineTooLong};
    }
    if (!line) return NeedInput{};
    first_bytes_ = false;
    Outcome outcome = sasl_.under_way() ? Continue(sasl_.Step(line->text, output), output)
                                        : Run(line->text, input.size() > line->wire_bytes, output);
    input.Consume(line->wire_bytes);
    if (outcome) return std::move(*outcome);
  }
}

ServerEngine::Outcome ServerEngine::Run(std::string_view line, bool flight_goes_on,
                                        Buffer& output) {
  static constexpr struct {
    std::string_view name;
    Outcome (ServerEngine::*handle)(Request&);
  } kCommands[] = {
      {"CAPA", &ServerEngine::DoCapa}, {"STLS", &ServerEngine::DoStls},
      {"USER", &ServerEngine::DoUser}, {"PASS", &ServerEngine::DoPass},
      {"AUTH", &ServerEngine::DoAuth}, {"NOOP", &ServerEngine::DoNoop},
      {"QUIT", &ServerEngine::DoQuit}, {"XCLIENT", &ServerEngine::DoXclient},
      {"APOP", &ServerEngine::DoApop},
  };

  const size_t space = line.find(' ');
  const std::string_view name = line.substr(0, space);
  Request request{std::nullopt, flight_goes_on, output};
  if (space != std::string_view::npos) request.argument = line.substr(space + 1);
  for (const auto& known : kCommands) {
    if (EqualsIgnoreCase(known.name, name)) return (this->*known.handle)(request);
  }
  return Bad(NeedsLogin(name) ? "Please log in first" : "Unknown command", output);
}

ServerEngine::Outcome ServerEngine::DoCapa(Request& request) {
  if (request.argument) return Bad("CAPA takes no argument", request.output);
  request.output << "+OK Capability list follows\r\n";
  if (facts_.backend_capabilities) {
    const protocols::Capabilities& lines = *facts_.backend_capabilities;
    for (auto line = lines.begin(); line != lines.end(); ++line) {
      const bool repeated = std::any_of(lines.begin(), line, [&](const std::string& before) {
        return EqualsIgnoreCase(before, *line);
      });
      if (Offerable(*line) && !repeated) request.output << *line << "\r\n";
    }
  }
  request.output << "RESP-CODES\r\nAUTH-RESP-CODE\r\n";
  if (facts_.starttls_offered && !facts_.tls_active) request.output << "STLS\r\n";
  if (LoginAllowed()) {
    if (facts_.mechanisms.Has(sasl::Mechanism::kProtocol)) request.output << "USER\r\n";
    request.output << "SASL";
    for (const std::string_view name : sasl_.Mechanisms()) request.output << " " << name;
    request.output << "\r\n";
  }
  request.output << ".\r\n";
  return std::nullopt;
}

ServerEngine::Outcome ServerEngine::DoStls(Request& request) {
  const bool refused = request.argument || facts_.tls_active || !facts_.starttls_offered;
  if (refused) ++counts_.starttls_refused;
  if (request.argument) return Bad("STLS takes no argument", request.output);
  if (facts_.tls_active) return Bad("TLS is already active", request.output);
  if (!facts_.starttls_offered) return Bad("TLS is not available", request.output);
  if (request.flight_goes_on) {
    // RFC 2595 §4: whoever can write into the cleartext stream could have put it there.
    request.output << "-ERR Nothing may follow STLS\r\n";
    return Quit{QuitReason::kCommandInjection};
  }
  request.output << "+OK Begin TLS negotiation now\r\n";
  return protocols::StartTls{};
}

ServerEngine::Outcome ServerEngine::DoUser(Request& request) {
  if (!LoginAllowed()) return RequireTls(request.output);
  if (!facts_.mechanisms.Has(sasl::Mechanism::kProtocol)) {
    request.output << "-ERR [AUTH] USER is disabled, use AUTH\r\n";
    return std::nullopt;
  }
  if (!request.argument || request.argument->empty()) {
    return Bad("USER takes a name", request.output);
  }
  if (!Presentable(*request.argument)) return Bad("Invalid user name", request.output);
  user_ = *request.argument;
  // The same answer for every name: who exists is nobody's business before the password.
  request.output << "+OK\r\n";
  return std::nullopt;
}

ServerEngine::Outcome ServerEngine::DoPass(Request& request) {
  if (!LoginAllowed()) return RequireTls(request.output);
  if (user_.empty()) return Bad("USER comes first", request.output);
  // RFC 1939 §7: the password is all that follows the space, other spaces included.
  if (!request.argument || !Presentable(*request.argument)) {
    return Bad("PASS takes a password", request.output);
  }
  return Authenticate{{.mechanism = sasl::Mechanism::kProtocol,
                       .authorization_identity = {},
                       .authentication_identity = std::exchange(user_, {}),
                       .password = sasl::Secret(*request.argument)}};
}

// RFC 1939 §7. CAPA has no word for it (RFC 2449 §5): the greeting's timestamp says that it is
// there, also for a login after STLS, which has no greeting of its own.
ServerEngine::Outcome ServerEngine::DoApop(Request& request) {
  if (facts_.apop_timestamp.empty()) return Bad("Unknown command", request.output);
  if (!LoginAllowed()) return RequireTls(request.output);
  user_.clear();
  auto credentials =
      sasl::ParseDigest(sasl::Mechanism::kApop, request.argument.value_or(std::string_view()));
  if (!credentials) return Bad("APOP takes a name and a digest", request.output);
  return Authenticate{*std::move(credentials)};
}

ServerEngine::Outcome ServerEngine::DoAuth(Request& request) {
  if (!LoginAllowed()) return RequireTls(request.output);
  user_.clear();
  if (!request.argument) {  // no RFC has it, but clients that know no CAPA ask this way
    request.output << "+OK\r\n";
    for (const std::string_view name : sasl_.Mechanisms()) request.output << name << "\r\n";
    request.output << ".\r\n";
    return std::nullopt;
  }
  const size_t space = request.argument->find(' ');
  const std::optional<sasl::Mechanism> mechanism = sasl_.Find(request.argument->substr(0, space));
  if (!mechanism) {
    request.output << "-ERR [AUTH] Unsupported authentication mechanism\r\n";
    return std::nullopt;
  }
  std::optional<std::string_view> initial_response;
  if (space != std::string_view::npos) initial_response = request.argument->substr(space + 1);
  if (initial_response && initial_response->empty()) {  // RFC 5034 §4: an empty one is "="
    return Bad("Empty initial response", request.output);
  }
  return Continue(sasl_.Begin(*mechanism, initial_response, request.output), request.output);
}

ServerEngine::Outcome ServerEngine::DoNoop(Request& request) {
  if (request.argument) return Bad("NOOP takes no argument", request.output);
  request.output << "+OK\r\n";
  return std::nullopt;
}

ServerEngine::Outcome ServerEngine::DoQuit(Request& request) {
  if (request.argument) return Bad("QUIT takes no argument", request.output);
  request.output << "+OK Logging out\r\n";
  return Quit{QuitReason::kLoggedOut};
}

// Dovecot's: a proxy tells who its client is.
ServerEngine::Outcome ServerEngine::DoXclient(Request& request) {
  if (!facts_.trusted_proxy) return Bad("Unknown command", request.output);
  auto told = std::make_unique<protocols::Introduction>();
  if (!request.argument || !protocols::ReadXclient(*request.argument, false, *told)) {
    return Bad("Invalid parameters", request.output);
  }
  introduction_ = std::move(told);
  request.output << "+OK Updated\r\n";
  return std::nullopt;
}

ServerEngine::Outcome ServerEngine::Continue(protocols::SaslLogin::Status status, Buffer& output) {
  using Status = protocols::SaslLogin::Status;
  switch (status) {
    case Status::kChallenge:
      break;
    case Status::kDone: {
      if (Outcome action = sasl_.TakeAction()) return action;
      const protocols::SaslLogin::Refusal refusal = sasl_.TakeRefusal();
      RefuseLogin(refusal.reason, refusal.text, output);
      return std::nullopt;
    }
    case Status::kBadBase64:
      return sasl_.Ended(Bad("[AUTH] Invalid base64", output));
    case Status::kMalformed:
      return Bad("[AUTH] Invalid authentication message", output);
    case Status::kAborted:
      output << "-ERR Authentication cancelled\r\n";
      return sasl_.Ended(std::nullopt);
  }
  return std::nullopt;
}

void ServerEngine::TlsStarted(std::string external_identity) {
  // RFC 2595 §4: what was learnt in cleartext is forgotten; bad commands still count.
  facts_.tls_active = true;
  first_bytes_ = true;
  user_.clear();
  introduction_.reset();
  sasl_.Forget();
  sasl_.SetExternalIdentity(std::move(external_identity));
}

void ServerEngine::LoginSucceeded(const protocols::LoginReply& reply, Buffer& output) {
  output << (reply.status.empty() ? std::string_view("+OK Logged in\r\n") : reply.status);
}

void ServerEngine::LoginFailed(LoginFailure reason, std::string_view text, Buffer& output) {
  if (!sasl_.HoldBack(reason, text, output)) RefuseLogin(reason, text, output);
}

void ServerEngine::RefuseLogin(LoginFailure reason, std::string_view text, Buffer& output) {
  const std::string shown = protocols::Printable(text, kMaxRefusalBytes);
  const Refusal refusal = RefusalOf(reason);
  // The code stays ours whatever the text says: clients act on it.
  output << "-ERR [" << refusal.code << "] " << (shown.empty() ? refusal.text : shown) << "\r\n";
}

void ServerEngine::Say(Notice notice, Buffer& output) {
  const auto text = [&]() -> std::string_view {
    switch (notice) {
      case Notice::kServerFull:
        return "[SYS/TEMP] Too many connections";
      case Notice::kTooManyConnections:
        return "[SYS/TEMP] Too many connections from your address";
      case Notice::kShuttingDown:
        return "[SYS/TEMP] Server shutting down";
      case Notice::kIdleTimeout:
        return "Disconnected for inactivity.";
      case Notice::kBackendSilent:
        return "[SYS/TEMP] The mail store does not answer";
      case Notice::kLoginTimeout:
        return "No login in time.";
      case Notice::kTooManyFailures:
        return "[AUTH] Too many failed logins.";
      case Notice::kBackendLost:
        return "[SYS/TEMP] Connection to the mail store lost";
      case Notice::kKicked:
        return "[SYS/TEMP] Session ended by the administrator";
      case Notice::kCount:
        break;
    }
    return {};
  };
  output << "-ERR " << text() << "\r\n";
}

std::unique_ptr<protocols::RelayScanner> ServerEngine::MakeScanner() {
  return nullptr;
}

ServerEngine::Outcome ServerEngine::Bad(std::string_view text, Buffer& output) {
  output << "-ERR " << text << "\r\n";
  if (++counts_.bad_commands < facts_.limits.max_bad_commands) return std::nullopt;
  return Quit{QuitReason::kTooManyErrors};
}

ServerEngine::Outcome ServerEngine::RequireTls(Buffer& output) {
  ++counts_.tls_required;
  output << "-ERR [AUTH] Cleartext login is not allowed here, use TLS\r\n";
  return std::nullopt;
}

bool ServerEngine::LoginAllowed() const {
  return facts_.tls_active || facts_.cleartext_login_allowed;
}

}  // namespace gatepost::pop3
