// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/protocols/dialogue.h"

#include <array>
#include <fstream>
#include <memory>
#include <optional>
#include <regex>
#include <string_view>
#include <utility>

#include "protocols/line_framer.h"
#include "protocols/relay_scanner.h"

namespace gatepost::test {
namespace {

using protocols::Buffer;
using protocols::LoginFailure;
using protocols::QuitReason;

constexpr auto kFailures = std::to_array<std::string_view>(
    {"kBadCredentials", "kAuthorizationDenied", "kUnavailable", "kBackendMisconfigured",
     "kTooManyConnections", "kRateLimited", "kAccountDisabled", "kPasswordExpired", "kPolicy"});
static_assert(kFailures.size() == static_cast<size_t>(LoginFailure::kCount));
constexpr auto kReasons = std::to_array<std::string_view>(
    {"kLoggedOut", "kTooManyErrors", "kLineTooLong", "kCommandInjection", "kProtocolViolation",
     "kHttp", "kTls", "kSsh"});
static_assert(kReasons.size() == static_cast<size_t>(QuitReason::kCount));

template <typename Enum, size_t kSize>
std::optional<Enum> FindName(const std::array<std::string_view, kSize>& names,
                             std::string_view name) {
  for (size_t i = 0; i < kSize; ++i) {
    if (names[i] == name) return static_cast<Enum>(i);
  }
  return std::nullopt;
}

// Take removes `prefix` from the front of `text`; false when it isn't there.
bool Take(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

// TakeWord removes and returns what stands before the next space, and the spaces behind it.
std::string_view TakeWord(std::string_view& text) {
  const std::string_view word = text.substr(0, text.find(' '));
  text.remove_prefix(word.size());
  while (text.starts_with(' ')) text.remove_prefix(1);
  return word;
}

std::optional<std::string> Unescape(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    if (!Take(text, "\\")) {
      result += text.front();
      text.remove_prefix(1);
    } else if (Take(text, "r")) {
      result += '\r';
    } else if (Take(text, "n")) {
      result += '\n';
    } else if (Take(text, "0")) {
      result += '\0';
    } else if (Take(text, "t")) {
      result += '\t';
    } else if (Take(text, "\\")) {
      result += '\\';
    } else if (Take(text, "x") && text.size() >= 2 &&
               text.substr(0, 2).find_first_not_of("0123456789abcdefABCDEF") ==
                   std::string_view::npos) {
      result += static_cast<char>(std::stoi(std::string(text.substr(0, 2)), nullptr, 16));
      text.remove_prefix(2);
    } else {
      return std::nullopt;
    }
  }
  return result;
}

// TakeQuoted reads `name="value"`, or ` "value"` without a name, with escapes, and the spaces
// behind it.
bool TakeQuoted(std::string_view& text, std::string_view name, std::string& value) {
  if (!Take(text, name) || !Take(text, name.empty() ? " \"" : "=\"")) return false;
  size_t end = 0;
  while (end < text.size() && text[end] != '"') end += text[end] == '\\' ? 2 : 1;
  if (end >= text.size()) return false;
  std::string escaped(text.substr(0, end));
  for (size_t at = 0; (at = escaped.find("\\\"", at)) != std::string::npos;) escaped.erase(at, 1);
  const std::optional<std::string> plain = Unescape(escaped);
  if (!plain) return false;
  value = *plain;
  text.remove_prefix(end + 1);
  while (text.starts_with(' ')) text.remove_prefix(1);
  return true;
}

bool ReadFacts(std::string_view text, protocols::ServerFacts& facts) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  while (!text.empty()) {
    if (Take(text, "capabilities=")) {
      protocols::Capabilities list;
      while (!text.empty()) {
        const std::string_view item = text.substr(0, text.find(','));
        list.emplace_back(item);
        text.remove_prefix(std::min(item.size() + 1, text.size()));
      }
      facts.backend_capabilities = std::make_shared<const protocols::Capabilities>(std::move(list));
      return true;
    }
    const std::string_view fact = TakeWord(text);
    if (fact == "tls=active") {
      facts.tls_active = true;
    } else if (fact.starts_with("external=")) {
      facts.external_identity = fact.substr(9);
    } else if (fact.starts_with("local=")) {
      std::vector<std::string> domains;
      for (std::string_view rest = fact.substr(6); !rest.empty();) {
        const std::string_view domain = rest.substr(0, rest.find(','));
        domains.emplace_back(domain);
        rest.remove_prefix(std::min(domain.size() + 1, rest.size()));
      }
      facts.local_domains = std::make_shared<const std::vector<std::string>>(std::move(domains));
    } else if (fact.starts_with("apop=")) {
      facts.apop_timestamp = fact.substr(5);
    } else if (fact == "recipients=judged") {
      facts.judges_recipients = true;
    } else if (fact == "proxy=trusted") {
      facts.trusted_proxy = true;
    } else if (fact.starts_with("mechanisms=")) {
      facts.mechanisms = {};
      std::string_view names = fact;
      names.remove_prefix(11);
      while (!names.empty()) {
        const std::string_view name = names.substr(0, names.find(','));
        const auto mechanism =
            name == "cleartext" ? sasl::Mechanism::kProtocol : sasl::FindMechanism(name);
        if (!mechanism) return false;
        facts.mechanisms.Add(*mechanism);
        names.remove_prefix(std::min(name.size() + 1, names.size()));
      }
    } else if (fact == "tls=offered") {
      facts.starttls_offered = true;
    } else if (fact == "cleartext=allow") {
      facts.cleartext_login_allowed = true;
    } else if (fact == "bare_newline=normalize") {
      facts.bare_newline = protocols::BareNewline::kNormalize;
    } else if (fact != "tls=none" && fact != "cleartext=deny" && fact != "bare_newline=reject") {
      return false;
    }
  }
  return true;
}

// ReadStep parses one line; nothing when it is none of the above. Client bytes that follow client
// bytes are appended to the last step instead (`joined`).
std::optional<Step> ReadStep(std::string_view text, std::vector<Step>& steps, bool& joined) {
  joined = false;
  const auto flight = [&](std::string bytes) -> std::optional<Step> {
    if (!steps.empty()) {
      if (auto* last = std::get_if<Flight>(&steps.back().what)) {
        last->bytes += bytes;
        joined = true;
      }
    }
    return Step{0, Flight{std::move(bytes)}};
  };
  if (text == "c ->") return flight("\r\n");
  if (Take(text, "c -> ")) return flight(std::string(text) + "\r\n");
  if (Take(text, "c raw> ")) {
    std::optional<std::string> bytes = Unescape(text);
    if (!bytes) return std::nullopt;
    return flight(std::move(*bytes));
  }
  if (Take(text, "c <- ")) return Step{0, ExpectLine{std::string(text), false}};
  if (Take(text, "c <~ ")) return Step{0, ExpectLine{std::string(text), true}};
  if (text == "-> starttls") return Step{0, ExpectStartTls{}};
  if (Take(text, "-> authenticate ")) {
    ExpectAuthenticate expected;
    expected.mechanism = TakeWord(text);
    if (!TakeQuoted(text, "authzid", expected.authorization_identity) ||
        !TakeQuoted(text, "user", expected.authentication_identity) ||
        !TakeQuoted(text, "password", expected.password) || !text.empty()) {
      return std::nullopt;
    }
    return Step{0, std::move(expected)};
  }
  if (Take(text, "then challenge")) {
    ThenChallenge challenge;
    return TakeQuoted(text, "", challenge.text) ? std::optional(Step{0, std::move(challenge)})
                                                : std::nullopt;
  }
  if (Take(text, "-> answer")) {
    ExpectAnswer answer;
    return TakeQuoted(text, "", answer.text) ? std::optional(Step{0, std::move(answer)})
                                             : std::nullopt;
  }
  if (text == "-> cancelled") return Step{0, ExpectCancelled{}};
  if (text == "then ok") return Step{0, ThenOk{}};
  if (Take(text, "then ok ")) return Step{0, ThenOk{std::string(text) + "\r\n"}};
  if (text == "-> inbound") return Step{0, ExpectInbound{}};
  if (text == "then failed inbound") return Step{0, InboundFailed{}};
  if (Take(text, "-> judge ")) return Step{0, ExpectJudge{std::string(text)}};
  if (Take(text, "then judged")) {
    Take(text, " ");
    return Step{0, ThenJudged{std::string(text)}};
  }
  if (Take(text, "b <- ")) return Step{0, ExpectBackendLine{std::string(text)}};
  if (Take(text, "b -> ")) return Step{0, BackendLine{std::string(text) + "\r\n"}};
  if (Take(text, "then failed ")) {
    const auto reason = FindName<LoginFailure>(kFailures, TakeWord(text));
    if (!reason) return std::nullopt;
    return Step{0, ThenFailed{*reason, std::string(text)}};
  }
  if (Take(text, "-> quit ")) {
    const auto reason = FindName<QuitReason>(kReasons, text);
    if (!reason) return std::nullopt;
    return Step{0, ExpectQuit{*reason}};
  }
  return std::nullopt;
}

std::string Describe(const protocols::ServerAction& action) {
  if (std::holds_alternative<protocols::NeedInput>(action)) return "nothing";
  if (std::holds_alternative<protocols::StartTls>(action)) return "starttls";
  if (std::holds_alternative<protocols::Inbound>(action)) return "inbound";
  if (const auto* quit = std::get_if<protocols::Quit>(&action)) {
    return "quit " + std::string(kReasons[static_cast<size_t>(quit->reason)]);
  }
  if (const auto* answer = std::get_if<protocols::Answer>(&action)) {
    return "answer \"" + std::string(answer->message.Reveal()) + "\"";
  }
  if (std::holds_alternative<protocols::Cancelled>(action)) return "cancelled";
  const auto& credentials = std::get<protocols::Authenticate>(action).credentials;
  return "authenticate " + std::string(sasl::Name(credentials.mechanism)) + " authzid=\"" +
         credentials.authorization_identity + "\" user=\"" + credentials.authentication_identity +
         "\" password=\"" + std::string(credentials.password.Reveal()) + "\"";
}

// Run is one pass through a dialogue.
class Run {
 public:
  explicit Run(const Dialogue& dialogue)
      : dialogue_(dialogue),
        engine_(protocols::MakeServerEngine(dialogue.protocol, dialogue.facts)) {}

  std::string All(Split split) {
    engine_->Greet(output_);
    for (size_t i = 0; i < dialogue_.steps.size(); ++i) {
      const Step& step = dialogue_.steps[i];
      const size_t cut = split.every_byte ? 1 : split.step == i ? split.offset : 0;
      const std::string error =
          std::visit([&](const auto& what) { return Do(what, cut, split.every_byte); }, step.what);
      if (!error.empty()) {
        return dialogue_.file.string() + ":" + std::to_string(step.line) + ": " + error;
      }
    }
    const std::string rest = Unexpected();
    if (!rest.empty()) return dialogue_.file.string() + ": at the end: " + rest;
    return {};
  }

 private:
  std::string Do(const Flight& flight, size_t cut, bool every_byte) {
    std::string unexpected = Unexpected();
    if (!unexpected.empty()) return unexpected;
    std::string_view rest = flight.bytes;
    while (!rest.empty()) {
      const std::string_view piece = rest.substr(0, cut == 0 ? rest.size() : cut);
      input_ << piece;
      Drive();
      rest.remove_prefix(piece.size());
      if (!every_byte) cut = 0;
    }
    return {};
  }

  std::string Do(const ExpectLine& expected, size_t, bool) {
    const std::optional<protocols::Line> line = protocols::FindLine(output_.view());
    if (!line) return "expected the line '" + expected.text + "', got nothing";
    const std::string text(line->text);
    if (line->wire_bytes != text.size() + 2) return "line without CRLF: '" + text + "'";
    const bool matches = expected.is_regex ? std::regex_match(text, std::regex(expected.text))
                                           : text == expected.text;
    if (!matches) return "expected the line '" + expected.text + "', got '" + text + "'";
    output_.Consume(line->wire_bytes);
    return {};
  }

  std::string Do(const ExpectStartTls&, size_t, bool) {
    if (!std::holds_alternative<protocols::StartTls>(action_)) {
      return "expected starttls, got " + Describe(action_);
    }
    if (!output_.empty()) return Unexpected();
    if (!input_.empty()) return "bytes are left behind STARTTLS";
    action_ = protocols::NeedInput{};
    engine_->TlsStarted(dialogue_.external_identity);
    return {};
  }

  std::string Do(const ExpectAuthenticate& expected, size_t, bool) {
    auto* authenticate = std::get_if<protocols::Authenticate>(&action_);
    if (!authenticate || sasl::Name(authenticate->credentials.mechanism) != expected.mechanism ||
        authenticate->credentials.authorization_identity != expected.authorization_identity ||
        authenticate->credentials.authentication_identity != expected.authentication_identity ||
        authenticate->credentials.password.Reveal() != expected.password) {
      return "got " + Describe(action_);
    }
    authenticating_ = true;
    action_ = protocols::NeedInput{};
    return output_.empty() ? std::string() : Unexpected();
  }

  std::string Do(const ThenChallenge& then, size_t, bool) {
    if (!authenticating_) return "nobody is logging in";
    authenticating_ = false;
    engine_->Challenge(then.text, output_);
    Drive();
    return {};
  }

  std::string Do(const ExpectAnswer& expected, size_t, bool) {
    const auto* answer = std::get_if<protocols::Answer>(&action_);
    if (!answer || answer->message.Reveal() != expected.text) return "got " + Describe(action_);
    authenticating_ = true;
    action_ = protocols::NeedInput{};
    return output_.empty() ? std::string() : Unexpected();
  }

  std::string Do(const ExpectCancelled&, size_t, bool) {
    if (!std::holds_alternative<protocols::Cancelled>(action_)) return "got " + Describe(action_);
    action_ = protocols::NeedInput{};
    Drive();
    return {};
  }

  std::string Do(const ThenOk& then, size_t, bool) {
    if (!authenticating_) return "nobody is logging in";
    authenticating_ = false;
    engine_->LoginSucceeded({{}, then.status}, output_);
    relaying_ = true;
    return {};
  }

  std::string Do(const ThenFailed& then, size_t, bool) {
    if (!authenticating_) return "nobody is logging in";
    authenticating_ = false;
    engine_->LoginFailed(then.reason, then.text, output_);
    Drive();
    return {};
  }

  std::string Do(const ExpectInbound&, size_t, bool) {
    if (!std::holds_alternative<protocols::Inbound>(action_)) {
      return "expected inbound, got " + Describe(action_);
    }
    action_ = protocols::NeedInput{};
    scanner_ = engine_->MakeScanner();
    DriveScanner();
    return {};
  }

  std::string Do(const InboundFailed&, size_t, bool) {
    if (!scanner_) return "nothing is inbound";
    scanner_ = nullptr;
    backend_output_.Clear();
    engine_->InboundFailed();
    Drive();
    return {};
  }

  std::string Do(const ExpectBackendLine& expected, size_t, bool) {
    const std::optional<protocols::Line> line = protocols::FindLine(backend_output_.view());
    if (!line) return "expected '" + expected.text + "' for the backend, got nothing";
    if (line->text != expected.text) {
      return "expected '" + expected.text + "' for the backend, got '" + std::string(line->text) +
             "'";
    }
    backend_output_.Consume(line->wire_bytes);
    return {};
  }

  std::string Do(const BackendLine& line, size_t, bool) {
    if (!scanner_) return "there is no backend";
    backend_input_ << line.text;
    while (!backend_input_.empty()) {
      const auto step = scanner_->FromBackend(backend_input_.view(), output_);
      if (!Follow(step, backend_input_, output_)) break;
    }
    DriveScanner();
    return {};
  }

  std::string Do(const ExpectJudge& expected, size_t, bool) {
    if (!asks_) return "nobody is to be judged";
    const protocols::RelayScanner::Recipient recipient = scanner_->recipient();
    std::string text(recipient.hello);
    text.append(" | ").append(recipient.mail).append(" | ").append(recipient.rcpt);
    return text == expected.text ? "" : "expected judge " + expected.text + ", got " + text;
  }

  std::string Do(const ThenJudged& then, size_t, bool) {
    if (!asks_) return "nobody is to be judged";
    scanner_->Judge(then.refusal);
    DriveScanner();
    return {};
  }

  std::string Do(const ExpectQuit& expected, size_t, bool) {
    const auto* quit = std::get_if<protocols::Quit>(&action_);
    if (!quit || quit->reason != expected.reason) {
      return "expected quit " + std::string(kReasons[static_cast<size_t>(expected.reason)]) +
             ", got " + Describe(action_);
    }
    if (!output_.empty()) return Unexpected();
    action_ = protocols::NeedInput{};
    relaying_ = true;  // the engine is not called again
    return {};
  }

  // Follow does with the front of `input` what the scanner says; false: it is to stay there.
  bool Follow(const protocols::RelayScanner::Step& step, Buffer& input, Buffer& other_side) {
    switch (step.what) {
      case protocols::RelayScanner::Do::kForward:
        other_side << input.view().substr(0, step.bytes);
        [[fallthrough]];
      case protocols::RelayScanner::Do::kSwallow:
        input.Consume(step.bytes);
        return true;
      case protocols::RelayScanner::Do::kResetBackend:
        backend_output_.Clear();
        scanner_->BackendReset();
        return true;
      case protocols::RelayScanner::Do::kClose:
        action_ = protocols::Quit{step.reason};
        return false;
      case protocols::RelayScanner::Do::kAsk:
        asks_ = true;
        break;
      case protocols::RelayScanner::Do::kNeedInput:
      case protocols::RelayScanner::Do::kWaitForBackend:
        break;
    }
    return false;
  }

  void DriveScanner() {
    asks_ = false;
    while (!input_.empty() && std::holds_alternative<protocols::NeedInput>(action_)) {
      const auto step = scanner_->FromClient(input_.view(), output_, backend_output_);
      if (!Follow(step, input_, backend_output_)) return;
    }
  }

  // Drive calls the engine as the session does: not while an action waits for its answer.
  void Drive() {
    if (scanner_) return DriveScanner();
    const bool waiting = !std::holds_alternative<protocols::NeedInput>(action_);
    if (waiting || authenticating_ || relaying_) return;
    action_ = engine_->Next(input_, output_);
  }

  std::string Unexpected() {
    if (!output_.empty()) return "unexpected output '" + std::string(output_.view()) + "'";
    if (!backend_output_.empty()) {
      return "unexpected bytes for the backend: '" + std::string(backend_output_.view()) + "'";
    }
    if (!std::holds_alternative<protocols::NeedInput>(action_)) {
      return "unexpected " + Describe(action_);
    }
    if (authenticating_) return "the dialogue doesn't say how the login ends";
    return {};
  }

  const Dialogue& dialogue_;
  std::unique_ptr<protocols::ServerEngine> engine_;
  std::unique_ptr<protocols::RelayScanner> scanner_;  // behind Inbound
  Buffer input_;
  Buffer output_;
  Buffer backend_input_;
  Buffer backend_output_;
  protocols::ServerAction action_ = protocols::NeedInput{};
  bool authenticating_ = false;
  bool relaying_ = false;
  bool asks_ = false;  // the scanner, about a recipient
};

}  // namespace

Dialogue ReadDialogue(const std::filesystem::path& file, std::string& error) {
  Dialogue dialogue;
  dialogue.file = file;
  dialogue.facts.hostname = "mail.example.org";
  const std::string folder = file.parent_path().filename().string();
  if (folder == "pop3") dialogue.protocol = protocols::Protocol::kPop3;
  if (folder == "smtp") dialogue.protocol = protocols::Protocol::kSmtp;
  std::ifstream stream(file);
  std::string text;
  bool has_facts = false;
  for (int number = 1; std::getline(stream, text); ++number) {
    if (text == "# no-split") dialogue.may_split = false;
    if (text.empty() || text.starts_with('#')) continue;
    std::string_view rest = text;
    bool valid = true;
    if (Take(rest, "facts:")) {
      has_facts = true;
      valid = ReadFacts(rest, dialogue.facts);
      dialogue.external_identity = dialogue.facts.external_identity;
      if (!dialogue.facts.tls_active) dialogue.facts.external_identity.clear();
    } else {
      bool joined = false;
      std::optional<Step> step = ReadStep(rest, dialogue.steps, joined);
      valid = has_facts && step.has_value();
      if (valid && !joined) {
        step->line = number;
        dialogue.steps.push_back(std::move(*step));
      }
    }
    if (!valid) {
      error = file.string() + ":" + std::to_string(number) + ": not understood: " + text;
      return dialogue;
    }
  }
  if (dialogue.steps.empty()) error = file.string() + ": no steps";
  return dialogue;
}

std::string RunDialogue(const Dialogue& dialogue, Split split) {
  return Run(dialogue).All(split);
}

}  // namespace gatepost::test
