// SPDX-License-Identifier: Apache-2.0
#include "gateway/auth/auth_http.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "config/values.h"
#include "protocols/line_framer.h"
#include "protocols/sasl/base64.h"
#include "tls/client_verifier.h"

namespace gatepost::auth {
namespace {

constexpr uint32_t kMaxWaitSeconds = 600;

bool IsPlain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '.' || c == '~' || c == '-';
}

void AppendEncoded(std::string_view text, protocols::Buffer& output) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  for (const char c : text) {
    if (IsPlain(c)) {
      output << std::string_view(&c, 1);
      continue;
    }
    const auto byte = static_cast<unsigned char>(c);
    const char encoded[] = {'%', kDigits[byte >> 4], kDigits[byte & 15]};
    output << std::string_view(encoded, sizeof(encoded));
  }
}

// AppendText writes a client's own words, any bytes of which come from it.
void AppendText(std::string_view name, std::string_view text, protocols::Buffer& output) {
  std::string clean(text);
  for (char& c : clean) {
    if (protocols::HasControl({&c, 1})) c = '?';
  }
  output << name << ": " << clean << "\r\n";
}

std::string Pem(std::string_view der) {
  constexpr size_t kLine = 64;
  protocols::Buffer text;
  sasl::EncodeBase64(der, text);
  std::string pem = "-----BEGIN CERTIFICATE-----\n";
  for (std::string_view rest = text.view(); !rest.empty();) {
    const std::string_view line = rest.substr(0, kLine);
    pem.append(line).append("\n");
    rest.remove_prefix(line.size());
  }
  return pem + "-----END CERTIFICATE-----\n";
}

std::string_view MethodOf(sasl::Mechanism mechanism) {
  switch (mechanism) {
    case sasl::Mechanism::kExternal:
      return "external";
    case sasl::Mechanism::kCramMd5:
      return "cram-md5";
    case sasl::Mechanism::kApop:
      return "apop";
    case sasl::Mechanism::kPlain:
    case sasl::Mechanism::kLogin:
    case sasl::Mechanism::kXoauth2:
    case sasl::Mechanism::kOauthbearer:
    case sasl::Mechanism::kScramSha1:
    case sasl::Mechanism::kScramSha256:
    case sasl::Mechanism::kProtocol:
    case sasl::Mechanism::kCount:
      break;
  }
  return "plain";
}

void AppendTls(const Request& request, const QuestionOptions& options, protocols::Buffer& output) {
  if (request.tls == nullptr) return;
  output << "Auth-SSL: on\r\nAuth-SSL-Protocol: " << request.tls->version
         << "\r\nAuth-SSL-Cipher: " << request.tls->openssl_cipher << "\r\n";
  if (request.listener.client_certificates == config::ClientCertificates::kOff) return;
  const tls::ClientCertificate* certificate = request.certificate;
  output << "Auth-SSL-Verify: "
         << (certificate == nullptr  ? "NONE"
             : certificate->verified ? "SUCCESS"
                                     : "FAILED:");
  if (certificate == nullptr) {
    output << "\r\n";
    return;
  }
  if (!certificate->verified) output << certificate->problem;
  output << "\r\nAuth-SSL-Subject: " << certificate->subject
         << "\r\nAuth-SSL-Issuer: " << certificate->issuer
         << "\r\nAuth-SSL-Serial: " << certificate->serial
         << "\r\nAuth-SSL-Fingerprint: " << certificate->sha1 << "\r\n";
  if (!options.client_certificate) return;
  output << "Auth-SSL-Cert: ";
  AppendEncoded(Pem(certificate->der), output);
  output << "\r\n";
}

std::optional<uint32_t> ParseNumber(std::string_view text) {
  uint32_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

// "535", or with an enhanced status code of the same class, "535 5.7.8" (RFC 2034).
bool IsErrorCode(std::string_view text) {
  const auto digits = [](std::string_view part) {
    return !part.empty() && part.size() <= 3 &&
           part.find_first_not_of("0123456789") == std::string_view::npos;
  };
  if (text.size() < 3 || !digits(text.substr(0, 3)) || (text[0] != '4' && text[0] != '5')) {
    return false;
  }
  if (text.size() == 3) return true;
  if (text.size() < 9 || text[3] != ' ' || text[4] != text[0] || text[5] != '.') return false;
  const std::string_view rest = text.substr(6);
  const size_t dot = rest.find('.');
  return dot != std::string_view::npos && digits(rest.substr(0, dot)) &&
         digits(rest.substr(dot + 1));
}

std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c | 0x20);
  }
  return lower;
}

bool HasField(const std::vector<std::string>& headers, std::string_view name) {
  return std::any_of(headers.begin(), headers.end(), [&](std::string_view header) {
    return protocols::EqualsIgnoreCase(header.substr(0, header.find(':')), name);
  });
}

}  // namespace

protocols::Buffer NobodyLogsIn() {
  protocols::Buffer who;
  who << "Auth-Method: none\r\nAuth-User: \r\nAuth-Pass: \r\n";
  return who;
}

protocols::Buffer Whose(const sasl::Credentials& credentials, std::string_view challenge) {
  protocols::Buffer who;
  who << "Auth-Method: " << MethodOf(credentials.mechanism) << "\r\nAuth-User: ";
  AppendEncoded(credentials.authentication_identity, who);
  who << "\r\nAuth-Pass: ";
  AppendEncoded(credentials.password.Reveal(), who);
  who << "\r\n";
  if (!challenge.empty()) who << "Auth-Salt: " << challenge << "\r\n";
  return who;
}

Question MakeQuestion(const Request& request, const QuestionOptions& options) {
  Question question;
  question.before << "Auth-Protocol: " << protocols::Name(request.protocol)
                  << "\r\nAuth-Login-Attempt: " << std::to_string(request.attempt)
                  << "\r\nClient-IP: " << request.client.Host() << "\r\n";
  if (request.proxied) {
    question.after << "Proxy-Protocol-Addr: " << request.client.Host()
                   << "\r\nProxy-Protocol-Port: " << std::to_string(request.client.port())
                   << "\r\nProxy-Protocol-Server-Addr: " << request.local.Host()
                   << "\r\nProxy-Protocol-Server-Port: " << std::to_string(request.local.port())
                   << "\r\n";
  }
  if (request.recipient != nullptr) {
    AppendText("Auth-SMTP-Helo", request.recipient->hello, question.after);
    AppendText("Auth-SMTP-From", request.recipient->mail, question.after);
    AppendText("Auth-SMTP-To", request.recipient->rcpt, question.after);
  }
  AppendTls(request, options, question.after);
  // Not of nginx, but what people add to it, by these names.
  const std::pair<std::string_view, uint16_t> ports[] = {{"Client-Port", request.client.port()},
                                                         {"Auth-Port", request.local.port()}};
  for (const auto& [name, port] : ports) {
    if (HasField(options.headers, name)) continue;
    question.after << name << ": " << std::to_string(port) << "\r\n";
  }
  for (const std::string& header : options.headers) question.after << header << "\r\n";
  return question;
}

void HttpAnswer::Set(std::optional<std::string>& field, std::string_view name,
                     std::string_view value) {
  if (field && *field != value && problem_.empty()) {
    problem_ = "two different fields " + std::string(name);
  }
  field = value;
}

void HttpAnswer::Take(std::string_view name, std::string_view value) {
  const std::string field = Lower(name);
  if (!field.starts_with("auth-")) return;
  if (protocols::HasControl(value) && problem_.empty()) {
    problem_ = "a control character in " + std::string(name);
  }
  if (field == "auth-status") return Set(status_, name, value);
  if (field == "auth-server") return Set(server_, name, value);
  if (field == "auth-port") return Set(port_, name, value);
  if (field == "auth-user") return Set(user_, name, value);
  if (field == "auth-wait") return Set(wait_, name, value);
  if (field == "auth-error-code") return Set(code_, name, value);
  if (field == "auth-pass") {
    if (password_ && password_->Reveal() != value && problem_.empty()) {
      problem_ = "two different fields Auth-Pass";
    }
    password_ = sasl::Secret(value);
  }
}

tl::expected<HttpAnswer::Meaning, std::string> HttpAnswer::Finish(const Matter& matter) {
  if (!problem_.empty()) return tl::unexpected(std::move(problem_));
  if (!status_) return tl::unexpected(std::string("there is no Auth-Status"));
  uint32_t wait = 0;
  if (wait_) {
    const auto seconds = ParseNumber(*wait_);
    if (!seconds) return tl::unexpected(std::string("Auth-Wait is no number"));
    wait = std::min(*seconds, kMaxWaitSeconds);
  }
  Meaning meaning;
  Verdict& verdict = meaning.verdict;
  if (*status_ == "WAIT") {
    meaning.wait = Wait{std::chrono::seconds(wait)};
    return meaning;
  }
  if (*status_ != "OK") {
    verdict.wait = std::chrono::seconds(wait);
    verdict.end_session = wait == 0;
    Refuse(matter, verdict);
    return meaning;
  }
  verdict.accepted = true;
  if (server_.has_value() != port_.has_value()) {
    return tl::unexpected(std::string("of Auth-Server and Auth-Port there is but one"));
  }
  if (server_) {
    std::string_view host = *server_;
    if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
    const auto port = ParseNumber(*port_);
    if (!port || *port == 0 || *port > UINT16_MAX) {
      return tl::unexpected(std::string("Auth-Port is no port"));
    }
    if (!config::IsAddressLiteral(host) && !config::IsHostName(host)) {
      return tl::unexpected(std::string("Auth-Server is neither an address nor a host name"));
    }
    verdict.backend = config::Member{std::string(host), static_cast<uint16_t>(*port)};
  }
  if (user_ && user_->empty()) return tl::unexpected(std::string("Auth-User is empty"));
  if (user_) verdict.backend_user = std::move(*user_);
  if (password_) verdict.backend_password = std::move(*password_);
  if (matter.needs_password && (!password_ || verdict.backend_password->empty())) {
    return tl::unexpected(std::string("did not send password: there is no Auth-Pass"));
  }
  return meaning;
}

void HttpAnswer::Refuse(const Matter& matter, Verdict& verdict) const {
  using protocols::LoginFailure;
  const bool coded = code_ && IsErrorCode(*code_);
  const bool temporary = coded && code_->front() == '4';
  verdict.reason = temporary ? LoginFailure::kUnavailable : LoginFailure::kBadCredentials;
  verdict.detail = "the authority said: " + *status_;
  verdict.message = *status_;
  if (matter.protocol != protocols::Protocol::kSmtp) return;
  const std::string standard = matter.recipient ? "550 5.7.1" : "535 5.7.8";
  verdict.message.insert(0, (coded ? *code_ : standard) + " ");
}

}  // namespace gatepost::auth
