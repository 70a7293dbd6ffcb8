// SPDX-License-Identifier: Apache-2.0
#include "gateway/auth/certificate_users.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <set>
#include <utility>

#include "protocols/line_framer.h"

namespace gatepost::auth {
namespace {

using Answer = tl::expected<std::string, std::string>;

constexpr std::string_view kExample =
    "; a line is USER KIND:VALUE, for example: alice@example.org email:alice@example.org";
constexpr size_t kDigestDigits = 64;

bool IsAscii(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

// Normalise makes of VALUE what is compared, or returns what is wrong with it.
std::string Normalise(std::string_view kind, std::string& value) {
  if (value.empty()) return "there is nothing behind \"" + std::string(kind) + ":\"";
  if (kind == "email") {
    if (value.find('@') != std::string::npos && IsAscii(value)) return {};
    return "\"" + value + "\" is not an e-mail address";
  }
  if (kind == "cn") return {};
  if (kind == "subject") {
    if (value.find('=') != std::string::npos && IsAscii(value)) return {};
    return "\"" + value +
           "\" is not a subject as RFC 4514 writes it; the log line event=client_certificate has "
           "it, for example: alice subject:CN=Alice,O=Example";
  }
  if (kind == "spki-sha256") {
    std::transform(value.begin(), value.end(), value.begin(),
                   [](char c) { return c >= 'A' && c <= 'F' ? static_cast<char>(c | 0x20) : c; });
    if (value.size() == kDigestDigits &&
        value.find_first_not_of("0123456789abcdef") == std::string::npos) {
      return {};
    }
    return "spki-sha256 takes 64 hexadecimal digits; the log line event=client_certificate has "
           "them as key_sha256";
  }
  return "there is no kind \"" + std::string(kind) +
         "\"; allowed are email, cn, subject, spki-sha256";
}

}  // namespace

tl::expected<std::shared_ptr<const CertificateMap>, std::vector<std::string>> CertificateMap::Load(
    const std::filesystem::path& file) {
  std::vector<std::string> errors;
  std::ifstream input(file);
  if (!input) {
    return tl::unexpected(
        std::vector<std::string>{file.string() + ": can't be read: " + std::strerror(errno)});
  }
  auto loaded = std::make_shared<CertificateMap>();
  loaded->file_ = file;
  std::unordered_map<std::string, size_t> lines;
  std::string line;
  for (size_t number = 1; std::getline(input, line); ++number) {
    if (line.ends_with('\r')) line.pop_back();
    const std::string_view text = line;
    if (text.empty() || text.starts_with('#')) continue;
    const auto wrong = [&](const std::string& what) {
      errors.push_back(file.string() + ":" + std::to_string(number) + ": " + what);
    };
    if (protocols::HasControl(text)) {
      wrong("there is a tab or another control character");
      continue;
    }
    const size_t blank = text.find(' ');
    const size_t kind_at = text.find_first_not_of(' ', blank);
    const size_t colon = kind_at == std::string_view::npos ? kind_at : text.find(':', kind_at);
    if (blank == 0 || colon == std::string_view::npos) {
      wrong("expected a user and what its certificate has" + std::string(kExample));
      continue;
    }
    if (text.ends_with(' ') && !text.ends_with("\\ ")) {
      wrong("there is a blank at the end, which would belong to the value");
      continue;
    }
    const std::string user(text.substr(0, blank));
    const std::string_view kind = text.substr(kind_at, colon - kind_at);
    std::string value(text.substr(colon + 1));
    const std::string problem = Normalise(kind, value);
    if (!problem.empty()) {
      wrong(problem);
      continue;
    }
    std::string key = std::string(kind) + ":" + value;
    const auto [first, fresh] = lines.emplace(key, number);
    if (!fresh) {
      wrong("\"" + key + "\" stands in line " + std::to_string(first->second) +
            " already; each names one user");
      continue;
    }
    loaded->users_.emplace(std::move(key), user);
  }
  if (!errors.empty()) return tl::unexpected(std::move(errors));
  return loaded;
}

Answer CertificateMap::UserOf(const tls::ClientCertificate& certificate) const {
  std::set<std::string> users;
  const auto look = [&](std::string_view kind, const std::string& value) {
    const auto found = users_.find(std::string(kind) + ":" + value);
    if (!value.empty() && found != users_.end()) users.insert(found->second);
  };
  for (const std::string& email : certificate.emails) look("email", email);
  look("cn", certificate.common_name);
  look("subject", certificate.subject);
  look("spki-sha256", certificate.spki_sha256);
  if (users.size() == 1) return *users.begin();
  std::string why = users.empty() ? "no line is for this certificate"
                                  : "lines for this certificate name different users";
  return tl::unexpected(std::move(why) + " in " + file_.string());
}

Answer CertificateUsers::UserOf(const tls::ClientCertificate& certificate) const {
  switch (rule_) {
    case config::CertificateUser::kNone:
      return tl::unexpected(std::string("certificates log nobody in here"));
    case config::CertificateUser::kEmail:
      if (certificate.emails.size() == 1) return certificate.emails.front();
      return tl::unexpected(certificate.emails.empty()
                                ? std::string("the certificate has no usable e-mail address")
                                : std::string("the certificate has several e-mail addresses"));
    case config::CertificateUser::kCommonName:
      if (!certificate.common_name.empty()) return certificate.common_name;
      return tl::unexpected(
          std::string("the certificate has no usable common name, or more than one"));
    case config::CertificateUser::kMap:
      break;
  }
  return map()->UserOf(certificate);
}

void CertificateUsers::Renew(std::shared_ptr<const CertificateMap> map) {
  const std::lock_guard lock(mutex_);
  map_.swap(map);
}

std::shared_ptr<const CertificateMap> CertificateUsers::map() const {
  const std::lock_guard lock(mutex_);
  return map_;
}

}  // namespace gatepost::auth
