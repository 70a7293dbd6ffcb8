// SPDX-License-Identifier: Apache-2.0
#include "config/values.h"

#include <arpa/inet.h>
#include <sys/un.h>

#include <algorithm>
#include <charconv>
#include <system_error>
#include <utility>

namespace gatepost::config {
namespace {

struct Unit {
  std::string_view name;
  int64_t milliseconds;
};
// Largest first, as FormatDuration tries them.
constexpr std::array kUnits{Unit{"h", 3'600'000}, Unit{"m", 60'000}, Unit{"s", 1'000},
                            Unit{"ms", 1}};

bool IsDigit(char c) {
  return c >= '0' && c <= '9';
}

bool IsAlphanumeric(char c) {
  return IsDigit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// ParseNumber reads decimal digits only: no sign, no blanks.
template <typename T>
std::optional<T> ParseNumber(std::string_view text) {
  T number{};
  if (text.empty() || !std::all_of(text.begin(), text.end(), IsDigit)) return std::nullopt;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{}) return std::nullopt;
  return number;
}

// Canonical returns an address literal in the one form that inet_ntop writes.
std::optional<std::string> Canonical(int family, std::string_view literal) {
  std::array<unsigned char, sizeof(in6_addr)> binary{};
  std::array<char, INET6_ADDRSTRLEN> text{};
  // c_str() would end at a NUL inside, and accept what follows it.
  if (literal.find('\0') != std::string_view::npos) return std::nullopt;
  if (inet_pton(family, std::string(literal).c_str(), binary.data()) != 1) return std::nullopt;
  if (inet_ntop(family, binary.data(), text.data(), text.size()) == nullptr) return std::nullopt;
  return std::string(text.data());
}

struct HostAndPort {
  std::string_view host;
  uint16_t port;
  bool bracketed;
};

std::optional<HostAndPort> Split(std::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  const auto port = ParseNumber<uint16_t>(text.substr(colon + 1));
  if (!port) return std::nullopt;
  std::string_view host = text.substr(0, colon);
  const bool bracketed = host.size() >= 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  return HostAndPort{host, *port, bracketed};
}

}  // namespace

std::optional<milliseconds> ParseDuration(std::string_view text) {
  const auto digits =
      static_cast<size_t>(std::find_if_not(text.begin(), text.end(), IsDigit) - text.begin());
  const auto number = ParseNumber<uint32_t>(text.substr(0, digits));
  if (!number) return std::nullopt;
  for (const Unit& unit : kUnits) {
    if (text.substr(digits) == unit.name) return milliseconds{*number * unit.milliseconds};
  }
  return std::nullopt;
}

std::string FormatDuration(milliseconds duration) {
  if (duration == duration.zero()) return "0s";
  for (const Unit& unit : kUnits) {
    if (duration.count() % unit.milliseconds == 0) {
      return std::to_string(duration.count() / unit.milliseconds).append(unit.name);
    }
  }
  return {};  // not reached: every count divides by one millisecond
}

std::optional<SocketAddress> ParseSocketAddress(std::string_view text) {
  const auto parts = Split(text);
  if (!parts) return std::nullopt;
  auto host = Canonical(parts->bracketed ? AF_INET6 : AF_INET, parts->host);
  if (!host) return std::nullopt;
  return SocketAddress{*std::move(host), parts->port};
}

std::string Text(const SocketAddress& address) {
  const bool brackets = address.host.find(':') != std::string::npos;
  return (brackets ? "[" + address.host + "]" : address.host) + ":" + std::to_string(address.port);
}

std::optional<Member> ParseMember(std::string_view text) {
  const auto parts = Split(text);
  if (!parts || parts->port == 0) return std::nullopt;
  if (parts->bracketed) {
    auto host = Canonical(AF_INET6, parts->host);
    if (!host) return std::nullopt;
    return Member{*std::move(host), parts->port};
  }
  if (!Canonical(AF_INET, parts->host) && !IsHostName(parts->host)) return std::nullopt;
  return Member{std::string(parts->host), parts->port};
}

std::optional<Network> ParseNetwork(std::string_view text) {
  const size_t slash = text.find('/');
  const std::string host(text.substr(0, slash));
  if (host.find('\0') != std::string::npos) return std::nullopt;
  Network network;
  uint8_t most = 128;
  if (inet_pton(AF_INET, host.c_str(), network.address.data() + 12) == 1) {
    network.address[10] = network.address[11] = 0xff;
    most = 32;
  } else if (inet_pton(AF_INET6, host.c_str(), network.address.data()) != 1) {
    return std::nullopt;
  }
  network.bits = most;
  if (slash != std::string_view::npos) {
    const auto bits = ParseNumber<uint8_t>(text.substr(slash + 1));
    if (!bits || *bits > most) return std::nullopt;
    network.bits = *bits;
  }
  if (most == 32) network.bits = static_cast<uint8_t>(network.bits + 96);
  for (size_t bit = network.bits; bit < 128; ++bit) {
    if ((network.address[bit / 8] >> (7 - bit % 8) & 1) != 0) return std::nullopt;
  }
  return network;
}

std::optional<HttpUrl> ParseHttpUrl(std::string_view text) {
  HttpUrl url;
  url.https = text.starts_with("https://");
  if (!url.https && !text.starts_with("http://")) return std::nullopt;
  text.remove_prefix(url.https ? 8 : 7);
  const size_t slash = std::min(text.find('/'), text.size());
  std::string authority(text.substr(0, slash));
  url.path = slash < text.size() ? std::string(text.substr(slash)) : "/";
  const bool plain = std::all_of(url.path.begin(), url.path.end(),
                                 [](char c) { return c > 0x20 && c < 0x7f && c != '#'; });
  const size_t bracket = authority.rfind(']');
  if (authority.find(':', bracket == std::string::npos ? 0 : bracket) == std::string::npos) {
    authority += url.https ? ":443" : ":80";
  }
  const auto member = ParseMember(authority);
  if (!plain || !member) return std::nullopt;
  url.address = *member;
  return url;
}

std::string Text(const HttpUrl& url) {
  return (url.https ? "https://" : "http://") +
         Text(SocketAddress{url.address.host, url.address.port});
}

std::optional<ServiceSocket> ParseServiceSocket(std::string_view text) {
  ServiceSocket socket;
  if (text.starts_with('/')) {
    constexpr size_t kMaxPathBytes = sizeof(sockaddr_un::sun_path) - 1;
    if (text.size() > kMaxPathBytes || text.find('\0') != std::string_view::npos) {
      return std::nullopt;
    }
    socket.path = text;
    return socket;
  }
  auto address = ParseMember(text);
  if (!address) return std::nullopt;
  socket.address = *std::move(address);
  return socket;
}

std::string Text(const ServiceSocket& socket) {
  if (!socket.path.empty()) return socket.path.string();
  return Text(SocketAddress{socket.address.host, socket.address.port});
}

std::optional<HttpHeader> SplitHttpHeader(std::string_view text) {
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos || colon == 0) return std::nullopt;
  const std::string_view name = text.substr(0, colon);
  const bool token = std::all_of(name.begin(), name.end(), [](char c) {
    return IsAlphanumeric(c) ||
           std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
  });
  std::string_view value = text.substr(colon + 1);
  while (value.starts_with(' ')) value.remove_prefix(1);
  const bool line = std::all_of(value.begin(), value.end(), [](char c) {
    return static_cast<unsigned char>(c) >= 0x20 && c != 0x7f;
  });
  if (!token || !line || value.empty() || value.ends_with(' ')) return std::nullopt;
  return HttpHeader{name, value};
}

std::optional<std::string> ParseHttpHeader(std::string_view text) {
  const auto header = SplitHttpHeader(text);
  if (!header) return std::nullopt;
  return std::string(header->name) + ": " + std::string(header->value);
}

std::optional<std::string> ParseMailDomain(std::string_view text) {
  std::string domain(text);
  std::transform(domain.begin(), domain.end(), domain.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  std::string ascii = domain;
  std::replace_if(
      ascii.begin(), ascii.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x80; },
      'x');
  return IsHostName(ascii) ? std::optional(std::move(domain)) : std::nullopt;
}

std::optional<Mechanism> ParseMechanism(std::string_view text) {
  constexpr auto kNames = Names(Mechanism{});
  const auto* const found = std::find(kNames.begin(), kNames.end(), text);
  if (found == kNames.end()) return std::nullopt;
  return static_cast<Mechanism>(found - kNames.begin());
}

std::optional<Mechanism> ParseDigestMechanism(std::string_view text) {
  const std::optional<Mechanism> mechanism = ParseMechanism(text);
  if (mechanism != Mechanism::kCramMd5 && mechanism != Mechanism::kApop) return std::nullopt;
  return mechanism;
}

bool IsUserPattern(std::string_view text) {
  bool names = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (static_cast<unsigned char>(text[i]) < 0x20 || text[i] == 0x7f) return false;
    if (text[i] != '%') continue;
    if (++i == text.size()) return false;
    if (text[i] == 'u' || text[i] == 'n') {
      names = true;
    } else if (text[i] != 'd' && text[i] != '%') {
      return false;
    }
  }
  return names && text.size() <= 255;
}

bool IsSeparator(std::string_view text) {
  constexpr std::string_view kInNames = "@.-_";
  return text.size() == 1 && text.front() > 0x20 && text.front() < 0x7f &&
         !IsAlphanumeric(text.front()) && kInNames.find(text.front()) == std::string_view::npos;
}

std::optional<PoolMember> ParsePoolMember(std::string_view text) {
  PoolMember member;
  const size_t blank = text.find(' ');
  if (blank != std::string_view::npos) {
    constexpr std::string_view kWeight = "weight=";
    std::string_view option = text.substr(blank + 1);
    if (!option.starts_with(kWeight)) return std::nullopt;
    option.remove_prefix(kWeight.size());
    const auto weight = ParseNumber<uint32_t>(option);
    if (!weight || *weight < 1 || *weight > kMaxWeight) return std::nullopt;
    member.weight = *weight;
  }
  text = text.substr(0, blank);
  if (text.starts_with("srv:")) {
    text.remove_prefix(4);
    if (!IsHostName(text) || blank != std::string_view::npos) return std::nullopt;
    member.kind = MemberKind::kSrv;
    member.address.host = text;
    return member;
  }
  if (text.starts_with("dns:")) {
    text.remove_prefix(4);
    member.kind = MemberKind::kDns;
  }
  auto address = ParseMember(text);
  if (address && member.kind == MemberKind::kDns && IsAddressLiteral(address->host)) {
    return std::nullopt;
  }
  if (!address) return std::nullopt;
  member.address = *std::move(address);
  return member;
}

std::optional<std::string> ParseRouteDomain(std::string_view text) {
  if (!IsHostName(text.starts_with("*.") ? text.substr(2) : text)) return std::nullopt;
  std::string domain(text);
  std::transform(domain.begin(), domain.end(), domain.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; });
  return domain;
}

std::optional<std::string> ParseReferralHost(std::string_view text) {
  return IsAddressLiteral(text) ? std::string(text) : ParseRouteDomain(text);
}

bool IsReferralHost(std::string_view host, const std::vector<std::string>& allowed) {
  return std::any_of(allowed.begin(), allowed.end(), [&](const std::string& one) {
    if (!one.starts_with("*.")) return host == one;
    const std::string_view suffix = std::string_view(one).substr(1);
    return host.size() > suffix.size() && host.ends_with(suffix) && IsHostName(host) &&
           !IsAddressLiteral(host);
  });
}

std::optional<KeyPin> ParseKeyPin(std::string_view text) {
  constexpr std::string_view kAlphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  constexpr size_t kCharacters = 43;  // and one '=': RFC 4648 §4
  if (text.size() != kCharacters + 1 || text.back() != '=') return std::nullopt;
  KeyPin pin;
  size_t bytes = 0;
  uint32_t bits = 0;
  size_t bit_count = 0;
  for (const char c : text.substr(0, kCharacters)) {
    const size_t value = kAlphabet.find(c);
    if (value == std::string_view::npos) return std::nullopt;
    bits = bits << 6 | static_cast<uint32_t>(value);
    bit_count += 6;
    if (bit_count < 8) continue;
    bit_count -= 8;
    pin[bytes++] = static_cast<uint8_t>(bits >> bit_count);
    bits &= (1U << bit_count) - 1;
  }
  return bits == 0 ? std::optional(pin) : std::nullopt;
}

bool IsHostName(std::string_view text) {
  if (text.empty() || text.size() > 253) return false;
  while (true) {
    const size_t dot = text.find('.');
    const std::string_view label = text.substr(0, dot);
    if (label.empty() || label.size() > 63 || label.front() == '-' || label.back() == '-') {
      return false;
    }
    for (const char c : label) {
      if (!IsAlphanumeric(c) && c != '-' && c != '_') return false;
    }
    // An address with a typing error must not pass for a name.
    if (dot == std::string_view::npos) return !std::all_of(label.begin(), label.end(), IsDigit);
    text.remove_prefix(dot + 1);
  }
}

bool IsLoopback(std::string_view address) {
  return address == "::1" || (address.starts_with("127.") && IsAddressLiteral(address));
}

bool IsAddressLiteral(std::string_view text) {
  return Canonical(AF_INET, text) || Canonical(AF_INET6, text);
}

bool IsLabel(std::string_view text) {
  return !text.empty() && text.size() <= 64 && std::all_of(text.begin(), text.end(), [](char c) {
    return IsAlphanumeric(c) || c == '_' || c == '-';
  });
}

}  // namespace gatepost::config
