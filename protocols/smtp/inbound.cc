// SPDX-License-Identifier: Apache-2.0
#include "protocols/smtp/inbound.h"

#include <algorithm>

#include "protocols/line_framer.h"

namespace gatepost::smtp {
namespace {

using protocols::EqualsIgnoreCase;

constexpr size_t kMaxLocalPartBytes = 64;        // RFC 5321 §4.5.3.1.1
constexpr size_t kMaxDomainBytes = 255;          // §4.5.3.1.2
constexpr std::string_view kBlanks = " \t\v\f";  // those of lenient backends, too

bool IsAlphanumeric(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool IsUtf8(char c) {
  return static_cast<unsigned char>(c) >= 0x80;
}

// atext of RFC 5322 §3.2.3 and what RFC 6531 adds, without the two that are routes: '%' and '!'.
bool IsPlainAtext(char c) {
  constexpr std::string_view kSpecial = "#$&'*+-/=?^_`{|}~";
  return IsAlphanumeric(c) || IsUtf8(c) || kSpecial.find(c) != std::string_view::npos;
}

// IsValidUtf8 knows RFC 3629's shortest forms only: an overlong '%' is one to a careless decoder.
bool IsValidUtf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto first = static_cast<unsigned char>(text[i]);
    const size_t length = first < 0x80                     ? 1
                          : first >= 0xC2 && first <= 0xDF ? 2
                          : first >= 0xE0 && first <= 0xEF ? 3
                          : first >= 0xF0 && first <= 0xF4 ? 4
                                                           : 0;
    if (length == 0 || i + length > text.size()) return false;
    for (size_t k = 1; k < length; ++k) {
      if ((static_cast<unsigned char>(text[i + k]) & 0xC0) != 0x80) return false;
    }
    const unsigned char second = length > 1 ? static_cast<unsigned char>(text[i + 1]) : 0;
    if ((first == 0xE0 && second < 0xA0) || (first == 0xF0 && second < 0x90) ||
        (first == 0xED && second > 0x9F) || (first == 0xF4 && second > 0x8F)) {
      return false;
    }
    i += length;
  }
  return true;
}

// The full-width and small forms of '@', '%' and '!' are in U+FE50 to U+FE6F and U+FF00 to U+FFEF:
// a server that normalises them (NFKC) would see the real ones.
bool HasCompatibilityForms(std::string_view text) {
  for (const std::string_view form : {"\xEF\xB9", "\xEF\xBC", "\xEF\xBD", "\xEF\xBE", "\xEF\xBF"}) {
    if (text.find(form) != std::string_view::npos) return true;
  }
  return false;
}

// Dot-string: atoms with single dots between.
bool IsDotString(std::string_view text) {
  char before = '.';
  for (const char c : text) {
    if (c == '.' ? before == '.' : !IsPlainAtext(c)) return false;
    before = c;
  }
  return before != '.';
}

// A Quoted-string whose content is an address's local part in every reading: what could be an
// address or a route in it is refused, and so is every backslash.
bool IsPlainQuotedString(std::string_view text) {
  if (text.size() < 3 || text.front() != '"' || text.back() != '"') return false;
  text = text.substr(1, text.size() - 2);
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return IsPlainAtext(c) || c == '.' || c == ' '; });
}

bool IsPlainLocalPart(std::string_view text) {
  return text.size() <= kMaxLocalPartBytes && IsValidUtf8(text) && !HasCompatibilityForms(text) &&
         (IsDotString(text) || IsPlainQuotedString(text));
}

std::string_view TakeBlanks(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(kBlanks), text.size()));
  return text;
}

// esmtp-param of RFC 5321 §4.1.2: keyword ["=" value].
bool IsParameter(std::string_view text) {
  const std::string_view keyword = text.substr(0, text.find('='));
  if (keyword.empty() || !IsAlphanumeric(keyword.front()) ||
      !std::all_of(keyword.begin(), keyword.end(),
                   [](char c) { return IsAlphanumeric(c) || c == '-'; })) {
    return false;
  }
  if (keyword.size() == text.size()) return true;
  const std::string_view value = text.substr(keyword.size() + 1);
  return !value.empty() && std::all_of(value.begin(), value.end(), [](char c) {
    return IsUtf8(c) || (c > ' ' && c != '=' && c != 0x7f);
  });
}

// Each word of `text` is a parameter.
bool AreParameters(std::string_view text) {
  while (!(text = TakeBlanks(text)).empty()) {
    const std::string_view word = text.substr(0, text.find_first_of(kBlanks));
    if (!IsParameter(word)) return false;
    text.remove_prefix(word.size());
  }
  return true;
}

// PathEnd returns where the '>' of a path is that begins with '<': behind a quoted string, which
// may contain others.
size_t PathEnd(std::string_view path) {
  bool quoted = false;
  for (size_t i = 1; i < path.size(); ++i) {
    if (quoted && path[i] == '\\') {
      ++i;
    } else if (path[i] == '"') {
      quoted = !quoted;
    } else if (path[i] == '>' && !quoted) {
      return i;
    }
  }
  return std::string_view::npos;
}

bool IsOneOf(std::string_view domain, const std::vector<std::string>& domains) {
  return std::any_of(domains.begin(), domains.end(),
                     [&](const std::string& one) { return EqualsIgnoreCase(domain, one); });
}

}  // namespace

bool NeedsNoLogin(Verb verb) {
  switch (verb) {
    case Verb::kHelo:
    case Verb::kEhlo:
    case Verb::kData:
    case Verb::kBdat:
    case Verb::kRset:
    case Verb::kNoop:
    case Verb::kQuit:
    case Verb::kHelp:
      return true;
    case Verb::kMail:
    case Verb::kRcpt:
    case Verb::kVrfy:
    case Verb::kExpn:
    case Verb::kEtrn:
    case Verb::kStartTls:
    case Verb::kAuth:
    case Verb::kXclient:
    case Verb::kXforward:
    case Verb::kUnknown:
    case Verb::kCount:
      break;
  }
  return false;
}

std::string Recipient::Command() const {
  std::string command = "RCPT TO:<";
  command.append(local_part);
  if (!domain.empty()) command.append("@").append(domain);
  command.append(">");
  if (!parameters.empty()) command.append(" ").append(parameters);
  return command.append("\r\n");
}

Recipient ParseRecipient(std::string_view argument, const std::vector<std::string>& local_domains) {
  Recipient recipient;
  if (!EqualsIgnoreCase(argument.substr(0, 3), "TO:")) return recipient;
  // Blanks behind the colon are an error that many senders make.
  const std::string_view path = TakeBlanks(argument.substr(3));
  if (!path.starts_with('<')) return recipient;
  const size_t end = PathEnd(path);
  if (end == std::string_view::npos || end == 1) return recipient;  // RCPT TO:<> is for nobody
  const std::string_view rest = path.substr(end + 1);
  if (!rest.empty() && kBlanks.find(rest.front()) == std::string_view::npos) return recipient;
  recipient.parameters = TakeBlanks(rest);
  if (!AreParameters(recipient.parameters)) return recipient;

  recipient.kind = Recipient::Kind::kForeign;
  const std::string_view address = path.substr(1, end - 1);
  const size_t at = address.rfind('@');
  recipient.local_part = address.substr(0, at);
  if (at == std::string_view::npos) {
    if (EqualsIgnoreCase(address, "postmaster")) recipient.kind = Recipient::Kind::kLocal;
    return recipient;
  }
  recipient.domain = address.substr(at + 1);
  if (recipient.domain.size() <= kMaxDomainBytes && IsOneOf(recipient.domain, local_domains) &&
      IsPlainLocalPart(recipient.local_part)) {
    recipient.kind = Recipient::Kind::kLocal;
  }
  return recipient;
}

bool NamesSubmitter(std::string_view mail_argument) {
  while (!mail_argument.empty()) {
    const size_t end = std::min(mail_argument.find_first_of(" \t\v\f>"), mail_argument.size());
    const std::string_view word = mail_argument.substr(0, end);
    if (EqualsIgnoreCase(word.substr(0, word.find('=')), "AUTH")) return true;
    mail_argument.remove_prefix(std::min(end + 1, mail_argument.size()));
  }
  return false;
}

std::optional<std::string> WithoutAuthParameter(std::string_view mail_argument) {
  if (!EqualsIgnoreCase(mail_argument.substr(0, 5), "FROM:")) return std::nullopt;
  const std::string_view path = TakeBlanks(mail_argument.substr(5));
  size_t end = 0;  // of the path
  if (path.starts_with('<')) {
    end = PathEnd(path);
    if (end == std::string_view::npos) return std::nullopt;
    ++end;
    if (end < path.size() && kBlanks.find(path[end]) == std::string_view::npos) return std::nullopt;
  } else {
    end = std::min(path.find_first_of(kBlanks), path.size());
    if (end == 0) return std::nullopt;
  }
  std::string kept = "FROM:";
  kept.append(path.substr(0, end));
  for (std::string_view rest = path.substr(end); !(rest = TakeBlanks(rest)).empty();) {
    const std::string_view word = rest.substr(0, rest.find_first_of(kBlanks));
    rest.remove_prefix(word.size());
    if (EqualsIgnoreCase(word.substr(0, word.find('=')), "AUTH")) continue;
    kept.append(" ").append(word);
  }
  return kept;
}

std::string_view HelloName(std::string_view client_name) {
  return client_name.substr(0, client_name.find_first_of(kBlanks));
}

}  // namespace gatepost::smtp
