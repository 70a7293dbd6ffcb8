// SPDX-License-Identifier: Apache-2.0
#include "protocols/line_framer.h"

#include <algorithm>
#include <array>

namespace gatepost::protocols {

std::optional<Line> FindLine(std::string_view input) {
  const size_t end = input.find('\n');
  if (end == std::string_view::npos) return std::nullopt;
  std::string_view text = input.substr(0, end);
  if (text.ends_with('\r')) text.remove_suffix(1);
  return Line{text, end + 1};
}

std::optional<QuitReason> ForeignProtocol(std::string_view first_bytes) {
  static constexpr std::array<std::string_view, 9> kHttpMethods = {
      "GET ", "POST ", "HEAD ", "PUT ", "OPTIONS ", "CONNECT ", "DELETE ", "PATCH ", "PRI * HTTP"};
  // A TLS handshake record: type 22, major version 3 (RFC 8446 §5.1).
  if (first_bytes.starts_with("\x16\x03")) return QuitReason::kTls;
  if (first_bytes.starts_with("SSH-")) return QuitReason::kSsh;
  for (const std::string_view method : kHttpMethods) {
    if (first_bytes.starts_with(method)) return QuitReason::kHttp;
  }
  return std::nullopt;
}

std::string Printable(std::string_view text, size_t max_bytes) {
  std::string result(text.substr(0, max_bytes));
  std::replace_if(
      result.begin(), result.end(), [](char c) { return c < 0x20 || c > 0x7E; }, '?');
  return result;
}

namespace {
char Lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}
}  // namespace

bool EqualsIgnoreCase(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return Lower(x) == Lower(y); });
}

bool HasControl(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 0x20 || byte == 0x7F;
  });
}

}  // namespace gatepost::protocols
