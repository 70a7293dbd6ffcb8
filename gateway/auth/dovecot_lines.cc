// SPDX-License-Identifier: Apache-2.0
#include "gateway/auth/dovecot_lines.h"

#include <algorithm>
#include <charconv>

#include "config/values.h"
#include "protocols/line_framer.h"
#include "protocols/sasl/base64.h"
#include "tls/channel.h"
#include "tls/client_verifier.h"

namespace gatepost::auth {
namespace {

using protocols::LoginFailure;
using sasl::Mechanism;

template <typename T>
std::optional<T> ParseNumber(std::string_view text) {
  T number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

// str_tabunescape: \001 and one character stand for another.
void AppendUnescaped(std::string_view text, protocols::Buffer& output) {
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\001' || i + 1 == text.size()) {
      output << text.substr(i, 1);
      continue;
    }
    switch (text[++i]) {
      case '0':
        output << std::string_view("\0", 1);
        break;
      case '1':
        output << "\001";
        break;
      case 't':
        output << "\t";
        break;
      case 'r':
        output << "\r";
        break;
      case 'n':
        output << "\n";
        break;
      default:
        output << text.substr(i, 1);
    }
  }
}

void AppendEscaped(std::string_view text, protocols::Buffer& output) {
  for (size_t i = 0; i < text.size(); ++i) {
    switch (text[i]) {
      case '\0':
        output << "\0010";
        break;
      case '\001':
        output << "\0011";
        break;
      case '\t':
        output << "\001t";
        break;
      case '\r':
        output << "\001r";
        break;
      case '\n':
        output << "\001n";
        break;
      default:
        output << text.substr(i, 1);
    }
  }
}

void AppendField(std::string_view key, std::string_view value, protocols::Buffer& output) {
  output << "\t" << key << "=";
  AppendEscaped(value, output);
}

void AppendEnds(const std::string& prefix, const net::Address& client, const net::Address& local,
                protocols::Buffer& output) {
  AppendField(prefix + "lip", local.Host(), output);
  AppendField(prefix + "rip", client.Host(), output);
  AppendField(prefix + "lport", std::to_string(local.port()), output);
  AppendField(prefix + "rport", std::to_string(client.port()), output);
}

// AppendLine ends `line` and appends it, unless it is too long.
bool AppendLine(protocols::Buffer& line, protocols::Buffer& output) {
  line << "\n";
  if (line.size() > kMaxDovecotLineBytes) return false;
  output << line.view();
  return true;
}

// TakeField cuts the next field off.
std::string_view TakeField(std::string_view& line) {
  const std::string_view field = line.substr(0, line.find('\t'));
  line.remove_prefix(std::min(field.size() + 1, line.size()));
  return field;
}

DovecotFields ParseFields(std::string_view line) {
  DovecotFields fields;
  while (!line.empty()) {
    const std::string_view field = TakeField(line);
    const size_t equals = std::min(field.find('='), field.size());
    protocols::Buffer value;
    AppendUnescaped(field.substr(std::min(equals + 1, field.size())), value);
    fields.Add(field.substr(0, equals), value.view());
  }
  return fields;
}

// What goes on to a backend or a client.
bool IsText(std::string_view text) {
  return !text.empty() && text.size() <= 1024 && !protocols::HasControl(text);
}

// DefaultPort is where Dovecot's login processes connect to: submission for SMTP.
uint16_t DefaultPort(protocols::Protocol protocol, bool implicit_tls) {
  switch (protocol) {
    case protocols::Protocol::kImap:
      return implicit_tls ? 993 : 143;
    case protocols::Protocol::kPop3:
      return implicit_tls ? 995 : 110;
    case protocols::Protocol::kSmtp:
    case protocols::Protocol::kCount:
      break;
  }
  return implicit_tls ? 465 : 587;
}

std::optional<protocols::LoginMechanism> LoginMechanismOf(std::string_view name) {
  const auto mechanism = sasl::FindMechanism(name);
  if (mechanism == Mechanism::kPlain) return protocols::LoginMechanism::kPlain;
  if (mechanism == Mechanism::kLogin) return protocols::LoginMechanism::kLogin;
  if (mechanism == Mechanism::kXoauth2) return protocols::LoginMechanism::kXoauth2;
  if (mechanism == Mechanism::kOauthbearer) return protocols::LoginMechanism::kOauthbearer;
  return std::nullopt;
}

Verdict Misconfigured(std::string detail) {
  Verdict verdict;
  verdict.reason = LoginFailure::kBackendMisconfigured;
  verdict.detail = std::move(detail);
  return verdict;
}

}  // namespace

std::optional<std::string_view> DovecotFields::Find(std::string_view key) const {
  const auto found = std::find_if(fields_.begin(), fields_.end(),
                                  [&](const auto& field) { return field.first == key; });
  if (found == fields_.end()) return std::nullopt;
  return found->second.Reveal();
}

std::optional<DovecotLine> ParseDovecotLine(std::string_view line) {
  const std::string_view command = TakeField(line);
  if (command == "VERSION") {
    const auto major = ParseNumber<unsigned>(TakeField(line));
    if (!major) return std::nullopt;
    return DovecotVersion{*major};
  }
  if (command == "MECH") return DovecotMechanism{sasl::FindMechanism(TakeField(line))};
  if (command == "DONE") return DovecotDone{};
  if (command != "CONT" && command != "OK" && command != "FAIL") return DovecotOther{};
  const auto id = ParseNumber<uint32_t>(TakeField(line));
  if (!id) return std::nullopt;
  if (command == "OK") return DovecotOk{*id, ParseFields(line)};
  if (command == "FAIL") return DovecotFail{*id, ParseFields(line)};
  protocols::Buffer challenge;
  // "#" would ask for channel binding, which our version of the protocol does not have.
  if (!sasl::DecodeBase64(TakeField(line), challenge)) return std::nullopt;
  return DovecotContinue{*id, sasl::Secret(challenge.view())};
}

void AppendDovecotHandshake(uint32_t process_id, protocols::Buffer& output) {
  output << "VERSION\t1\t2\nCPID\t" << std::to_string(process_id) << "\n";
}

Mechanism DovecotMechanismFor(Mechanism mechanism) {
  return mechanism == Mechanism::kProtocol || mechanism == Mechanism::kLogin ? Mechanism::kPlain
                                                                             : mechanism;
}

bool AppendDovecotAuth(uint32_t id, const Request& request, protocols::Buffer& output) {
  const sasl::Credentials& credentials = request.credentials;
  const Mechanism mechanism = DovecotMechanismFor(credentials.mechanism);
  const std::string_view protocol = protocols::Name(request.protocol);
  protocols::Buffer line;
  // The field's name before 2.4, and since.
  line << "AUTH\t" << std::to_string(id) << "\t" << sasl::Name(mechanism)
       << "\tservice=" << protocol << "\tprotocol=" << protocol;
  if (request.tls != nullptr) {
    line << "\tsecured=tls";
    if (!request.tls->server_name.empty()) {
      AppendField("local_name", request.tls->server_name, line);
    }
  }
  if (request.certificate != nullptr && request.certificate->verified) {
    line << "\tvalid-client-cert";
  }
  if (mechanism == Mechanism::kExternal) {
    AppendField("cert_username", credentials.authentication_identity, line);
  }
  AppendField("session", request.session, line);
  AppendEnds("", request.client, request.local, line);
  if (request.real_client != nullptr && request.real_local != nullptr) {
    AppendEnds("real_", *request.real_client, *request.real_local, line);
  }
  if (mechanism == Mechanism::kExternal) {
    line << "\tresp=";
    sasl::EncodeBase64(credentials.authorization_identity, line);
  } else if (mechanism != Mechanism::kCramMd5) {  // with which the server speaks first
    line << "\tresp=";
    if (!sasl::AppendFirst(mechanism, credentials, line)) return false;
  }
  return AppendLine(line, output);
}

bool AppendDovecotContinue(uint32_t id, std::string_view answer, protocols::Buffer& output) {
  protocols::Buffer line;
  line << "CONT\t" << std::to_string(id) << "\t";
  sasl::EncodeBase64(answer, line);
  return AppendLine(line, output);
}

void AppendDovecotCancel(uint32_t id, protocols::Buffer& output) {
  output << "CANCEL\t" << std::to_string(id) << "\n";
}

Verdict VerdictOf(const DovecotOk& ok, protocols::Protocol protocol) {
  const auto has = [&](std::string_view key) { return ok.fields.Find(key).has_value(); };
  const auto text = [&](std::string_view key) {
    const auto value = ok.fields.Find(key);
    return value && IsText(*value) ? std::string(*value) : std::string();
  };
  Verdict verdict;
  verdict.user = text("user");
  if (verdict.user.empty()) return Misconfigured("Dovecot does not say who the user is");
  // As Dovecot's own login processes have it, who is passed on need not be let in there.
  if (has("nologin") && !has("proxy") && !has("proxy_maybe")) {
    verdict.reason = LoginFailure::kAuthorizationDenied;
    verdict.message = text("reason");
    verdict.detail = "nologin";
    return verdict;
  }
  if (has("ssl")) {
    verdict.backend_tls = config::BackendTls::kImplicit;
  } else if (has("starttls")) {
    verdict.backend_tls = config::BackendTls::kStartTls;
  }
  if (const auto name = ok.fields.Find("proxy_mech")) {
    verdict.backend_mechanism = LoginMechanismOf(*name);
    if (!verdict.backend_mechanism) {
      return Misconfigured("the passdb's proxy_mech is none that a backend is logged in with here");
    }
  }
  for (const char* key : {"hostip", "host", "destuser", "master"}) {
    if (has(key) && text(key).empty()) {
      return Misconfigured("the passdb's " + std::string(key) + " makes no sense");
    }
  }
  std::string host = text("hostip");
  if (host.empty()) host = text("host");
  if (!host.empty()) {
    if (!config::IsHostName(host) && !config::IsAddressLiteral(host)) {
      return Misconfigured("the passdb's host makes no sense");
    }
    uint16_t port = DefaultPort(protocol, has("ssl"));
    if (const auto given = ok.fields.Find("port")) {
      port = ParseNumber<uint16_t>(*given).value_or(0);
      if (port == 0) return Misconfigured("the passdb's port makes no sense");
    }
    verdict.backend = config::Member{host, port};
  }
  verdict.backend_user = text("destuser");
  const std::string master = text("master");
  const auto password = ok.fields.Find("pass");
  if (password && password->find_first_of(std::string_view("\0\r\n", 3)) != password->npos) {
    return Misconfigured("the passdb's pass can't be sent to a backend");
  }
  if (!master.empty()) {
    if (!password) return Misconfigured("the passdb's master needs its pass");
    verdict.backend_credentials = sasl::Credentials{
        Mechanism::kPlain, verdict.backend_user.empty() ? verdict.user : verdict.backend_user,
        master, sasl::Secret(*password)};
  } else if (password) {
    verdict.backend_password = sasl::Secret(*password);
  }
  verdict.accepted = true;
  return verdict;
}

std::optional<sasl::Secret> FinalMessageOf(const DovecotOk& ok) {
  protocols::Buffer message;
  if (!sasl::DecodeBase64(ok.fields.Find("resp").value_or(""), message)) return std::nullopt;
  return sasl::Secret(message.view());
}

Verdict VerdictOf(const DovecotFail& fail) {
  Verdict verdict;
  const std::string_view code = fail.fields.Find("code").value_or("");
  if (const auto user = fail.fields.Find("user"); user && IsText(*user)) verdict.user = *user;
  if (const auto reason = fail.fields.Find("reason"); reason && IsText(*reason)) {
    verdict.message = *reason;
  }
  // Flags are what the codes were before 2.3.
  if (code == "temp_fail" || fail.fields.Find("temp")) {
    verdict.reason = LoginFailure::kUnavailable;
  } else if (code == "authz_fail" || fail.fields.Find("authz")) {
    verdict.reason = LoginFailure::kAuthorizationDenied;
  } else if (code == "user_disabled" || fail.fields.Find("user_disabled")) {
    verdict.reason = LoginFailure::kAccountDisabled;
  } else if (code == "pass_expired" || fail.fields.Find("pass_expired")) {
    verdict.reason = LoginFailure::kPasswordExpired;
  }
  verdict.detail = "Dovecot says no";
  if (!code.empty()) verdict.detail.append(": ").append(code);
  return verdict;
}

}  // namespace gatepost::auth
