// SPDX-License-Identifier: Apache-2.0
#include "protocols/introduction.h"

#include <algorithm>
#include <array>
#include <optional>

#include "protocols/ip_address.h"
#include "protocols/line_framer.h"

namespace gatepost::protocols {
namespace {

constexpr size_t kMaxSessionIdBytes = 64;
constexpr size_t kMaxNameBytes = 255;
constexpr size_t kMaxOwnIdBytes =
    1024;  // of the client's pairs together: login servers read little
constexpr std::string_view kIpv6Prefix = "IPV6:";

bool IsPrintable(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c < 0x7f; });
}

bool IsDnsName(std::string_view text) {
  return text.size() <= kMaxNameBytes && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '.' || c == '-' || c == '_';
         });
}

bool SetHost(std::string_view text, std::string& out) {
  if (EqualsIgnoreCase(text.substr(0, kIpv6Prefix.size()), kIpv6Prefix)) {
    text.remove_prefix(kIpv6Prefix.size());
  }
  out = text;
  return IsIpAddress(text);
}

bool SetPort(std::string_view text, uint16_t& out) {
  const auto port = ParseDecimal(text, 65535);
  out = static_cast<uint16_t>(port.value_or(0));
  return port.has_value();
}

bool SetTtl(std::string_view text, unsigned& out) {
  const auto ttl = ParseDecimal(text, 255);
  out = ttl.value_or(0);
  return out > 0;
}

bool SetText(std::string_view text, size_t most, std::string& out) {
  out = text;
  return !text.empty() && text.size() <= most && IsPrintable(text);
}

bool SetDnsName(std::string_view text, std::string& out) {
  out = text;
  return !text.empty() && IsDnsName(text);
}

bool SetTransport(std::string_view text, std::string& out) {
  out = text;
  return text.size() <= kMaxNameBytes && IsPrintable(text) &&
         (text == "insecure" || text.starts_with("TLS"));
}

std::string PortText(uint16_t port) {
  return port == 0 ? std::string() : std::to_string(port);
}

int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

std::optional<std::string> DecodeXtext(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '+') {
      out += text[i];
      continue;
    }
    if (text.size() - i < 3) return std::nullopt;
    const int high = HexValue(text[i + 1]);
    const int low = HexValue(text[i + 2]);
    if (high < 0 || low < 0) return std::nullopt;
    out += static_cast<char>(high << 4 | low);
    i += 2;
  }
  return out;
}

bool ReadAttribute(std::string_view name, std::string_view value, Introduction& out) {
  const auto is = [&](std::string_view known) { return EqualsIgnoreCase(name, known); };
  // A known attribute without a known value.
  if (EqualsIgnoreCase(value, "[UNAVAILABLE]") || EqualsIgnoreCase(value, "[TEMPUNAVAIL]")) {
    return true;
  }
  if (is("ADDR")) return SetHost(value, out.client_host);
  if (is("PORT")) return SetPort(value, out.client_port);
  if (is("DESTADDR")) return SetHost(value, out.server_host);
  if (is("DESTPORT")) return SetPort(value, out.server_port);
  if (is("SESSION")) return SetText(value, kMaxSessionIdBytes, out.session_id);
  if (is("TTL")) return SetTtl(value, out.ttl);
  if (is("CLIENT-TRANSPORT")) return SetTransport(value, out.transport);
  if (is("DESTNAME")) return SetDnsName(value, out.server_name);
  if (is("HELO")) return SetText(value, kMaxNameBytes, out.helo);
  return true;
}

}  // namespace

IdPairs IdFields(const Introduction& introduction) {
  IdPairs fields;
  const auto add = [&](std::string_view name, std::string value) {
    if (!value.empty()) fields.emplace_back(name, std::move(value));
  };
  add("x-session-id", introduction.session_id);
  add("x-originating-ip", introduction.client_host);
  add("x-originating-port", PortText(introduction.client_port));
  add("x-connected-ip", introduction.server_host);
  add("x-connected-port", PortText(introduction.server_port));
  if (introduction.ttl > 0) add("x-proxy-ttl", std::to_string(introduction.ttl));
  add("x-client-transport", introduction.transport);
  if (IsDnsName(introduction.server_name)) add("x-connected-name", introduction.server_name);
  size_t room = kMaxOwnIdBytes;
  for (const auto& [name, value] : introduction.id) {
    const size_t bytes = name.size() + value.size();
    if (fields.size() == kMaxIdPairs || bytes > room) break;
    if (!IsPrintable(name) || !IsPrintable(value)) continue;
    room -= bytes;
    fields.emplace_back(name, value);
  }
  return fields;
}

bool IsProxyField(std::string_view name) {
  static constexpr std::array<std::string_view, 7> kBeginnings = {
      "x-originating-",     "x-connected-", "x-proxy-ttl", "x-session-",
      "x-client-transport", "x-forward-",   "x-multiplex"};
  return std::any_of(kBeginnings.begin(), kBeginnings.end(), [&](std::string_view beginning) {
    return EqualsIgnoreCase(name.substr(0, beginning.size()), beginning);
  });
}

bool ReadIdField(std::string_view name, std::string_view value, Introduction& out) {
  const auto is = [&](std::string_view known) { return EqualsIgnoreCase(name, known); };
  if (is("x-originating-ip")) return SetHost(value, out.client_host);
  if (is("x-originating-port")) return SetPort(value, out.client_port);
  if (is("x-connected-ip")) return SetHost(value, out.server_host);
  if (is("x-connected-port")) return SetPort(value, out.server_port);
  if (is("x-session-id") || is("x-session-ext-id")) {
    return SetText(value, kMaxSessionIdBytes, out.session_id);
  }
  if (is("x-proxy-ttl")) return SetTtl(value, out.ttl);
  if (is("x-client-transport")) return SetTransport(value, out.transport);
  if (is("x-connected-name")) return SetDnsName(value, out.server_name);
  return true;
}

std::vector<XclientAttribute> XclientAttributes(const Introduction& introduction) {
  std::vector<XclientAttribute> attributes;
  const auto add = [&](std::string_view name, std::string value) {
    if (!value.empty()) attributes.emplace_back(name, std::move(value));
  };
  add("SESSION", introduction.session_id);
  if (introduction.ttl > 0) add("TTL", std::to_string(introduction.ttl));
  add("CLIENT-TRANSPORT", introduction.transport);
  if (IsDnsName(introduction.server_name)) add("DESTNAME", introduction.server_name);
  add("DESTADDR", introduction.server_host);
  add("DESTPORT", PortText(introduction.server_port));
  add("HELO", introduction.helo.substr(0, kMaxNameBytes));
  add("LOGIN", introduction.login);
  add("PORT", PortText(introduction.client_port));
  add("ADDR", introduction.client_host);
  return attributes;
}

bool ReadXclient(std::string_view arguments, bool xtext, Introduction& out) {
  bool any = false;
  while (!arguments.empty()) {
    const std::string_view word = arguments.substr(0, arguments.find(' '));
    arguments.remove_prefix(std::min(word.size() + 1, arguments.size()));
    if (word.empty()) continue;
    const size_t equals = word.find('=');
    if (equals == std::string_view::npos) return false;
    const std::string_view encoded = word.substr(equals + 1);
    const auto value = xtext ? DecodeXtext(encoded) : std::optional(std::string(encoded));
    if (!value || !ReadAttribute(word.substr(0, equals), *value, out)) return false;
    any = true;
  }
  return any;
}

void AppendXtext(std::string_view text, std::string& out) {
  for (const char c : text) {
    if (c > 32 && c < 127 && c != '+' && c != '=') {
      out += c;
      continue;
    }
    constexpr std::string_view kDigits = "0123456789ABCDEF";
    out += '+';
    out += kDigits[static_cast<uint8_t>(c) >> 4];
    out += kDigits[static_cast<uint8_t>(c) & 15];
  }
}

}  // namespace gatepost::protocols
