// SPDX-License-Identifier: Apache-2.0
#include "protocols/imap/server_engine.h"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "protocols/line_framer.h"
#include "protocols/relay_scanner.h"

namespace gatepost::imap {
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

constexpr size_t kMaxRefusalBytes = 512;

constexpr std::string_view kPrivacyRequired =
    "[PRIVACYREQUIRED] Cleartext login is not allowed here, use TLS";

// Commands of the authenticated and selected states, for a helpful refusal.
bool NeedsLogin(std::string_view name) {
  static constexpr std::array<std::string_view, 30> kCommands = {
      "APPEND",       "CHECK",  "CLOSE",   "COMPRESS",       "COPY",     "CREATE",
      "DELETE",       "ENABLE", "EXAMINE", "EXPUNGE",        "FETCH",    "GETQUOTA",
      "GETQUOTAROOT", "IDLE",   "LIST",    "LSUB",           "MOVE",     "NAMESPACE",
      "RENAME",       "SEARCH", "SELECT",  "SORT",           "STATUS",   "STORE",
      "SUBSCRIBE",    "THREAD", "UID",     "UNAUTHENTICATE", "UNSELECT", "UNSUBSCRIBE"};
  return std::any_of(kCommands.begin(), kCommands.end(),
                     [&](std::string_view command) { return EqualsIgnoreCase(command, name); });
}

// Offerable says whether a capability of the backend may be shown before login. What we answer for
// ourselves, and what would lead around us, may not.
bool Offerable(std::string_view capability) {
  static constexpr std::array<std::string_view, 10> kOurs = {
      "IMAP4rev1", "STARTTLS", "LOGINDISABLED",   "SASL-IR",        "LITERAL+",
      "LITERAL-",  "ID",       "LOGIN-REFERRALS", "UNAUTHENTICATE", "CAPABILITY"};
  if (!IsAtom(capability, "]")) return false;
  if (capability.find(']') != std::string_view::npos) return false;  // it would end [CAPABILITY …]
  if (EqualsIgnoreCase(capability.substr(0, 5), "AUTH=")) return false;
  return std::none_of(kOurs.begin(), kOurs.end(),
                      [&](std::string_view ours) { return EqualsIgnoreCase(ours, capability); });
}

// AppendOffer appends response lines of a backend, of which those that list capabilities lose
// UNAUTHENTICATE: what a client does behind it, nobody here would see (RFC 8437).
void AppendOffer(std::string_view lines, Buffer& output) {
  while (!lines.empty()) {
    const size_t end = std::min(lines.find('\n'), lines.size() - 1) + 1;
    std::string_view line = lines.substr(0, end);
    lines.remove_prefix(end);
    const std::string_view data = line.substr(line.starts_with("* ") ? 2 : 0);
    const std::string_view list = data.substr(EqualsIgnoreCase(data.substr(0, 4), "OK [") ? 4 : 0);
    const bool lists = EqualsIgnoreCase(list.substr(0, 11), "CAPABILITY ");
    while (lists && !line.empty()) {
      const size_t word_end = std::min(line.find_first_of(" ]\r\n", 1), line.size());
      const std::string_view word = line.substr(0, word_end);
      if (!EqualsIgnoreCase(word, " UNAUTHENTICATE")) output << word;
      line.remove_prefix(word_end);
      if (line.starts_with(']')) break;  // words for people follow
    }
    output << line;
  }
}

bool Lists(const protocols::Capabilities& capabilities, std::string_view wanted) {
  return std::any_of(capabilities.begin(), capabilities.end(), [&](const std::string& capability) {
    return EqualsIgnoreCase(capability, wanted);
  });
}

bool Presentable(std::string_view text) {
  return text.find_first_of(std::string_view("\0\r\n", 3)) == std::string_view::npos;
}

// id-params-list = "(" [string SP nstring *(SP string SP nstring)] ")" / nil (RFC 2971 §4, with
// the erratum that allows an empty list). `take` gets each name and value that is not NIL.
template <typename Take>
bool ReadIdParameters(CommandReader& reader, Take take) {
  if (!reader.Skip('(')) return EqualsIgnoreCase(reader.Atom(), "NIL") && reader.AtEnd();
  for (size_t pairs = 0; !reader.Skip(')'); ++pairs) {
    Buffer key;
    Buffer value;
    if (pairs == protocols::kMaxIdPairs || (pairs > 0 && !reader.Skip(' '))) return false;
    if (!reader.String(key) || key.size() > protocols::kMaxIdKeyBytes || !reader.Skip(' ')) {
      return false;
    }
    if (reader.String(value)) {
      if (value.size() > protocols::kMaxIdValueBytes) return false;
      take(key.view(), value.view());
    } else if (!EqualsIgnoreCase(reader.Atom(), "NIL")) {
      return false;
    }
  }
  return reader.AtEnd();
}

struct Refusal {
  std::string_view code;  // RFC 5530
  std::string_view text;
};

Refusal RefusalOf(LoginFailure reason) {
  switch (reason) {
    case LoginFailure::kBadCredentials:
    case LoginFailure::kPolicy:
      return {"AUTHENTICATIONFAILED", "Authentication failed."};
    case LoginFailure::kAuthorizationDenied:
      return {"AUTHORIZATIONFAILED", "Authorization denied."};
    case LoginFailure::kUnavailable:
      return {"UNAVAILABLE", "Temporary authentication failure."};
    case LoginFailure::kBackendMisconfigured:
      return {"SERVERBUG", "Internal error, please tell the administrator."};
    case LoginFailure::kTooManyConnections:
      return {"LIMIT", "Too many connections."};
    case LoginFailure::kRateLimited:
      return {"LIMIT", "Too many attempts, try again later."};
    case LoginFailure::kAccountDisabled:
      return {"CONTACTADMIN", "This account is disabled."};
    case LoginFailure::kPasswordExpired:
      return {"EXPIRED", "The password has expired."};
    case LoginFailure::kCount:
      break;
  }
  return {"SERVERBUG", "Internal error."};
}

}  // namespace

// One command, split into tag, name and what follows.
struct ServerEngine::Request {
  CommandReader& arguments;  // stands behind the command's name
  bool flight_goes_on;       // there are bytes behind the command
  Buffer& output;
};

ServerEngine::ServerEngine(protocols::ServerFacts facts)
    : facts_(std::move(facts)),
      framer_(facts_.limits.max_line_bytes, facts_.limits.max_literal_bytes) {
  sasl_.Offer(facts_.mechanisms);
  sasl_.SetExternalIdentity(std::move(facts_.external_identity));
}

void ServerEngine::Greet(Buffer& output) {
  output << "* OK [CAPABILITY " << CapabilityList() << "] " << facts_.hostname << " ready\r\n";
}

ServerAction ServerEngine::Next(Buffer& input, Buffer& output) {
  if (first_bytes_) {
    // No farewell: whoever speaks another protocol here shall get nothing to work with (ALPACA).
    if (const auto foreign = protocols::ForeignProtocol(input.view())) return Quit{*foreign};
  }
  while (true) {
    Outcome outcome =
        sasl_.under_way() ? NextExchangeLine(input, output) : NextCommand(input, output);
    if (outcome) return std::move(*outcome);
  }
}

ServerEngine::Outcome ServerEngine::NextCommand(Buffer& input, Buffer& output) {
  const CommandFramer::Result result = framer_.Scan(input.view());
  const std::string_view command = input.view().substr(0, framer_.command_bytes());
  if (result == CommandFramer::Result::kNeedInput) return NeedInput{};
  if (result == CommandFramer::Result::kLineTooLong) {
    return LineTooLong("Command line too long", output);
  }
  if (result == CommandFramer::Result::kUnrefusableLiteral) {
    return LineTooLong("[TOOBIG] Literal too large", output);
  }
  if (result == CommandFramer::Result::kSynchronisingLiteral && WantsLiteral(command)) {
    output << "+ OK\r\n";
    return std::nullopt;
  }
  first_bytes_ = false;
  Outcome outcome;
  if (result == CommandFramer::Result::kLiteralTooLarge) {
    CommandReader reader(command);
    const std::string_view tag = reader.Tag();
    tag_ = tag.empty() ? "*" : tag;
    outcome = Bad("[TOOBIG] Literal too large", output);
  } else {
    outcome = Run(command, input.size() > command.size(), output);
  }
  input.Consume(framer_.command_bytes());
  framer_.Reset();
  return outcome;
}

bool ServerEngine::WantsLiteral(std::string_view so_far) const {
  CommandReader reader(so_far);
  if (reader.Tag().empty() || !reader.Skip(' ')) return false;
  const std::string_view name = reader.Atom();
  return EqualsIgnoreCase(name, "ID") || (EqualsIgnoreCase(name, "LOGIN") && LoginAllowed() &&
                                          facts_.mechanisms.Has(sasl::Mechanism::kProtocol));
}

ServerEngine::Outcome ServerEngine::Run(std::string_view command, bool flight_goes_on,
                                        Buffer& output) {
  static constexpr struct {
    std::string_view name;
    Outcome (ServerEngine::*handle)(Request&);
  } kCommands[] = {
      {"CAPABILITY", &ServerEngine::DoCapability},
      {"ID", &ServerEngine::DoId},
      {"NOOP", &ServerEngine::DoNoop},
      {"LOGOUT", &ServerEngine::DoLogout},
      {"STARTTLS", &ServerEngine::DoStartTls},
      {"LOGIN", &ServerEngine::DoLogin},
      {"AUTHENTICATE", &ServerEngine::DoAuthenticate},
  };

  CommandReader reader(command);
  tag_ = reader.Tag();
  if (tag_.empty()) {
    tag_ = "*";
    return Bad("Invalid tag", output);
  }
  if (!reader.Skip(' ')) return Bad("Missing command", output);
  const std::string_view name = reader.Atom();
  Request request{reader, flight_goes_on, output};
  for (const auto& known : kCommands) {
    if (EqualsIgnoreCase(known.name, name)) return (this->*known.handle)(request);
  }
  return Bad(NeedsLogin(name) ? "Please log in first" : "Unknown command", output);
}

ServerEngine::Outcome ServerEngine::DoCapability(Request& request) {
  if (!request.arguments.AtEnd()) return Bad("CAPABILITY takes no arguments", request.output);
  request.output << "* CAPABILITY " << CapabilityList() << "\r\n";
  return Ok("Capability completed", request.output);
}

ServerEngine::Outcome ServerEngine::DoId(Request& request) {
  protocols::Introduction told;
  if (introduction_) told = *introduction_;
  told.id.clear();
  // As Dovecot has it, the first word about the client counts.
  const bool believed = facts_.trusted_proxy && told.client_host.empty();
  bool good = true;
  const auto take = [&](std::string_view name, std::string_view value) {
    if (protocols::IsProxyField(name)) {
      if (believed && !protocols::ReadIdField(name, value, told)) good = false;
    } else if (facts_.keep_id) {
      told.id.emplace_back(name, value);
    }
  };
  if (!request.arguments.Skip(' ') || !ReadIdParameters(request.arguments, take)) {
    return Bad("Invalid ID parameters", request.output);
  }
  if (!good) return Refuse("Invalid ID parameters", request.output);
  if (facts_.trusted_proxy || facts_.keep_id) {
    introduction_ = std::make_unique<protocols::Introduction>(std::move(told));
  }
  request.output << "* ID (\"name\" \"Gatepost\")\r\n";
  return Ok(facts_.trusted_proxy ? "Trusted ID completed" : "ID completed", request.output);
}

ServerEngine::Outcome ServerEngine::DoNoop(Request& request) {
  if (!request.arguments.AtEnd()) return Bad("NOOP takes no arguments", request.output);
  return Ok("NOOP completed", request.output);
}

ServerEngine::Outcome ServerEngine::DoLogout(Request& request) {
  if (!request.arguments.AtEnd()) return Bad("LOGOUT takes no arguments", request.output);
  request.output << "* BYE Logging out\r\n";
  Ok("Logout completed", request.output);
  return Quit{QuitReason::kLoggedOut};
}

ServerEngine::Outcome ServerEngine::DoStartTls(Request& request) {
  const bool refused = !request.arguments.AtEnd() || facts_.tls_active || !facts_.starttls_offered;
  if (refused) ++counts_.starttls_refused;
  if (!request.arguments.AtEnd()) return Bad("STARTTLS takes no arguments", request.output);
  if (facts_.tls_active) return Bad("TLS is already active", request.output);
  if (!facts_.starttls_offered) return Bad("TLS is not available", request.output);
  if (request.flight_goes_on) {
    // RFC 9051 §6.2.1: whoever can write into the cleartext stream could have put it there.
    request.output << "* BYE Nothing may follow STARTTLS\r\n";
    return Quit{QuitReason::kCommandInjection};
  }
  Ok("Begin TLS negotiation now", request.output);
  return protocols::StartTls{};
}

ServerEngine::Outcome ServerEngine::DoLogin(Request& request) {
  if (!LoginAllowed()) {
    ++counts_.tls_required;
    return Refuse(kPrivacyRequired, request.output);
  }
  if (!facts_.mechanisms.Has(sasl::Mechanism::kProtocol)) {
    return Refuse("LOGIN is disabled, use AUTHENTICATE", request.output);
  }
  CommandReader& reader = request.arguments;
  Buffer user;
  Buffer password;
  if (!reader.Skip(' ') || !reader.AString(user) || !reader.Skip(' ') ||
      !reader.AString(password) || !reader.AtEnd()) {
    return Bad("LOGIN takes a user name and a password", request.output);
  }
  if (user.empty() || !Presentable(user.view()) || !Presentable(password.view())) {
    return Bad("Invalid user name or password", request.output);
  }
  return Authenticate{{.mechanism = sasl::Mechanism::kProtocol,
                       .authorization_identity = {},
                       .authentication_identity = std::string(user.view()),
                       .password = sasl::Secret(password.view())}};
}

ServerEngine::Outcome ServerEngine::DoAuthenticate(Request& request) {
  CommandReader& reader = request.arguments;
  const std::string_view name = reader.Skip(' ') ? reader.Atom() : std::string_view();
  std::optional<std::string_view> initial_response;
  if (!name.empty() && reader.Skip(' ')) initial_response = reader.Word();
  if (name.empty() || !reader.AtEnd() || (initial_response && initial_response->empty())) {
    return Bad("AUTHENTICATE takes a mechanism and maybe an initial response", request.output);
  }
  if (!LoginAllowed()) {
    ++counts_.tls_required;
    return Refuse(kPrivacyRequired, request.output);
  }
  const std::optional<sasl::Mechanism> mechanism = sasl_.Find(name);
  if (!mechanism) return Refuse("Unsupported authentication mechanism", request.output);
  return Continue(sasl_.Begin(*mechanism, initial_response, request.output), request.output);
}

ServerEngine::Outcome ServerEngine::NextExchangeLine(Buffer& input, Buffer& output) {
  const std::optional<protocols::Line> line = protocols::FindLine(input.view());
  const size_t max = facts_.limits.max_line_bytes;
  if (line ? line->text.size() > max : input.size() > max + 1) {
    return LineTooLong("Response line too long", output);
  }
  if (!line) return NeedInput{};
  Outcome outcome = Continue(sasl_.Step(line->text, output), output);
  input.Consume(line->wire_bytes);
  return outcome;
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
      return sasl_.Ended(Bad("Invalid base64", output));
    case Status::kMalformed:
      return Bad("Invalid authentication message", output);
    case Status::kAborted:
      output << tag_ << " BAD Authentication cancelled\r\n";
      return sasl_.Ended(std::nullopt);
  }
  return std::nullopt;
}

void ServerEngine::TlsStarted(std::string external_identity) {
  // What was learnt in cleartext is worth nothing now; bad commands still count.
  facts_.tls_active = true;
  first_bytes_ = true;
  tag_.clear();
  introduction_.reset();
  sasl_.Forget();
  sasl_.SetExternalIdentity(std::move(external_identity));
  framer_.Reset();
}

void ServerEngine::LoginSucceeded(const protocols::LoginReply& reply, Buffer& output) {
  // In lines with literals nothing is changed: their sizes are told.
  if (reply.untagged.find("}\r\n") == std::string::npos) {
    AppendOffer(reply.untagged, output);
  } else {
    output << reply.untagged;
  }
  output << tag_ << " ";
  AppendOffer(reply.status.empty() ? std::string_view("OK Logged in\r\n") : reply.status, output);
}

void ServerEngine::LoginFailed(LoginFailure reason, std::string_view text, Buffer& output) {
  if (!sasl_.HoldBack(reason, text, output)) RefuseLogin(reason, text, output);
}

void ServerEngine::RefuseLogin(LoginFailure reason, std::string_view text, Buffer& output) const {
  const std::string shown = protocols::Printable(text, kMaxRefusalBytes);
  const Refusal refusal = RefusalOf(reason);
  // The code stays ours whatever the text says: clients act on it.
  output << tag_ << " NO [" << refusal.code << "] " << (shown.empty() ? refusal.text : shown)
         << "\r\n";
}

void ServerEngine::Say(Notice notice, Buffer& output) {
  const auto text = [&]() -> std::string_view {
    switch (notice) {
      case Notice::kServerFull:
        return "[UNAVAILABLE] Too many connections";
      case Notice::kTooManyConnections:
        return "[UNAVAILABLE] Too many connections from your address";
      case Notice::kShuttingDown:
        return "[UNAVAILABLE] Server shutting down";
      case Notice::kIdleTimeout:
        return "Disconnected for inactivity.";
      case Notice::kBackendSilent:
        return "[UNAVAILABLE] The mail store does not answer";
      case Notice::kLoginTimeout:
        return "No login in time.";
      case Notice::kTooManyFailures:
        return "Too many failed logins.";
      case Notice::kBackendLost:
        return "[UNAVAILABLE] Connection to the mail store lost";
      case Notice::kKicked:
        return "Session ended by the administrator.";
      case Notice::kCount:
        break;
    }
    return {};
  };
  output << "* BYE " << text() << "\r\n";
}

std::unique_ptr<protocols::RelayScanner> ServerEngine::MakeScanner() {
  return nullptr;
}

ServerEngine::Outcome ServerEngine::Ok(std::string_view text, Buffer& output) {
  output << tag_ << " OK " << text << "\r\n";
  return std::nullopt;
}

ServerEngine::Outcome ServerEngine::Refuse(std::string_view text, Buffer& output) {
  output << tag_ << " NO " << text << "\r\n";
  return std::nullopt;
}

ServerEngine::Outcome ServerEngine::Bad(std::string_view text, Buffer& output) {
  output << tag_ << " BAD " << text << "\r\n";
  if (++counts_.bad_commands < facts_.limits.max_bad_commands) return std::nullopt;
  output << "* BYE Too many invalid IMAP commands.\r\n";
  return Quit{QuitReason::kTooManyErrors};
}

ServerEngine::Outcome ServerEngine::LineTooLong(std::string_view text, Buffer& output) {
  ++counts_.lines_too_long;
  output << "* BYE " << text << "\r\n";
  return Quit{QuitReason::kLineTooLong};
}

bool ServerEngine::LoginAllowed() const {
  return facts_.tls_active || facts_.cleartext_login_allowed;
}

std::string ServerEngine::CapabilityList() const {
  protocols::Capabilities list = {"IMAP4rev1"};
  if (facts_.backend_capabilities) {
    for (const std::string& capability : *facts_.backend_capabilities) {
      if (Offerable(capability) && !Lists(list, capability)) list.push_back(capability);
    }
  }
  // We take both kinds of literals; but a client may not ask again after login, so that we promise
  // only what the backend takes, too (where that is known).
  const protocols::Capabilities* backend = facts_.backend_capabilities.get();
  if (!backend || Lists(*backend, "LITERAL+")) {
    list.emplace_back("LITERAL+");
  } else if (Lists(*backend, "LITERAL-")) {
    list.emplace_back("LITERAL-");
  }
  list.insert(list.end(), {"SASL-IR", "ID"});
  if (facts_.starttls_offered && !facts_.tls_active) list.emplace_back("STARTTLS");
  if (LoginAllowed()) {
    for (const std::string_view name : sasl_.Mechanisms()) {
      list.push_back(std::string("AUTH=").append(name));
    }
  }
  if (!LoginAllowed() || !facts_.mechanisms.Has(sasl::Mechanism::kProtocol)) {
    list.emplace_back("LOGINDISABLED");
  }
  std::string result;
  for (const std::string& capability : list) {
    if (!result.empty()) result += ' ';
    result += capability;
  }
  return result;
}

}  // namespace gatepost::imap
