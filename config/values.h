// The words of the configuration: enumerators, durations, addresses, names, both ways.
//
// Knows nothing of TOML, files or errors: a parser returns nullopt and its caller says what is
// allowed. All functions are pure.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "config/schema.h"

namespace gatepost::config {

// Names(E{}) lists an enumeration's words in the order of its enumerators.
constexpr auto Names(Protocol) {
  return std::to_array<std::string_view>({"imap", "pop3", "smtp"});
}
constexpr auto Names(ListenerTls) {
  return std::to_array<std::string_view>({"starttls", "implicit"});
}
constexpr auto Names(CleartextLogin) {
  return std::to_array<std::string_view>({"deny", "allow"});
}
constexpr auto Names(TlsProfile) {
  return std::to_array<std::string_view>({"modern", "intermediate", "legacy"});
}
constexpr auto Names(TlsVersion) {
  return std::to_array<std::string_view>({"1.0", "1.1", "1.2", "1.3"});
}
constexpr auto Names(ClientCertificates) {
  return std::to_array<std::string_view>({"off", "request", "require"});
}
constexpr auto Names(ProxyProtocol) {
  return std::to_array<std::string_view>({"off", "v1", "v2", "both"});
}
constexpr auto Names(CertificateUser) {
  return std::to_array<std::string_view>({"none", "email", "cn", "map"});
}
constexpr auto Names(BareNewline) {
  return std::to_array<std::string_view>({"reject", "normalize"});
}
constexpr auto Names(Relay) {
  return std::to_array<std::string_view>({"authenticated", "local-domains"});
}
constexpr auto Names(BackendTls) {
  return std::to_array<std::string_view>({"none", "starttls", "implicit"});
}
constexpr auto Names(BackendLogin) {
  return std::to_array<std::string_view>({"same", "master", "fixed", "none"});
}
constexpr auto Names(LowerCase) {
  return std::to_array<std::string_view>({"none", "domain", "all"});
}
constexpr auto Names(RefusalText) {
  return std::to_array<std::string_view>({"normalize", "pass"});
}
constexpr auto Names(LoginMechanism) {
  return std::to_array<std::string_view>({"auto", "plain", "login", "xoauth2", "oauthbearer"});
}
constexpr auto Names(Mechanism) {
  return std::to_array<std::string_view>({"PLAIN", "LOGIN", "EXTERNAL", "XOAUTH2", "OAUTHBEARER",
                                          "SCRAM-SHA-1", "SCRAM-SHA-256", "CRAM-MD5", "APOP"});
}
constexpr auto Names(ForwardClientAddress) {
  return std::to_array<std::string_view>({"none", "proxy-v1", "proxy-v2", "native"});
}
constexpr auto Names(Balance) {
  return std::to_array<std::string_view>({"user-hash", "least-sessions", "round-robin"});
}
constexpr auto Names(AuthorityKind) {
  return std::to_array<std::string_view>({"backend", "passwords", "http", "login", "dovecot"});
}
constexpr auto Names(SocketMode) {
  return std::to_array<std::string_view>({"0600", "0660"});
}
constexpr auto Names(LogFormat) {
  return std::to_array<std::string_view>({"logfmt", "json"});
}
constexpr auto Names(LogLevel) {
  return std::to_array<std::string_view>({"debug", "info", "warning", "error"});
}

template <typename E>
concept NamedEnum = requires {
  Names(E{});
};

// Name returns the word that stands for `value` in a configuration file.
template <NamedEnum E>
constexpr std::string_view Name(E value) {
  return Names(E{})[static_cast<size_t>(value)];
}

// The last enumerator of each has the last name.
static_assert(Name(Protocol::kSmtp) == "smtp" && Names(Protocol{}).size() == 3);
static_assert(Name(ListenerTls::kImplicit) == "implicit" && Names(ListenerTls{}).size() == 2);
static_assert(Name(CleartextLogin::kAllow) == "allow" && Names(CleartextLogin{}).size() == 2);
static_assert(Name(TlsProfile::kLegacy) == "legacy" && Names(TlsProfile{}).size() == 3);
static_assert(Name(TlsVersion::k13) == "1.3" && Names(TlsVersion{}).size() == 4);
static_assert(Name(ClientCertificates::kRequire) == "require" &&
              Names(ClientCertificates{}).size() == 3);
static_assert(Name(ProxyProtocol::kBoth) == "both" && Names(ProxyProtocol{}).size() == 4);
static_assert(Name(CertificateUser::kMap) == "map" && Names(CertificateUser{}).size() == 4);
static_assert(Name(BareNewline::kNormalize) == "normalize" && Names(BareNewline{}).size() == 2);
static_assert(Name(Relay::kLocalDomains) == "local-domains" && Names(Relay{}).size() == 2);
static_assert(Name(BackendTls::kImplicit) == "implicit" && Names(BackendTls{}).size() == 3);
static_assert(Name(BackendLogin::kNone) == "none" && Names(BackendLogin{}).size() == 4);
static_assert(Name(LoginMechanism::kOauthbearer) == "oauthbearer" &&
              Names(LoginMechanism{}).size() == 5);
static_assert(Name(Mechanism::kApop) == "APOP" && Names(Mechanism{}).size() == 9);
static_assert(Name(LowerCase::kAll) == "all" && Names(LowerCase{}).size() == 3);
static_assert(Name(RefusalText::kPass) == "pass" && Names(RefusalText{}).size() == 2);
static_assert(Name(ForwardClientAddress::kNative) == "native" &&
              Names(ForwardClientAddress{}).size() == 4);
static_assert(Name(Balance::kRoundRobin) == "round-robin" && Names(Balance{}).size() == 3);
static_assert(Name(AuthorityKind::kDovecot) == "dovecot" && Names(AuthorityKind{}).size() == 5);
static_assert(Name(SocketMode::kGroup) == "0660" && Names(SocketMode{}).size() == 2);
static_assert(Name(LogFormat::kJson) == "json" && Names(LogFormat{}).size() == 2);
static_assert(Name(LogLevel::kError) == "error" && Names(LogLevel{}).size() == 4);

// ParseDuration reads a whole number and one unit: "500ms", "30s", "5m", "1h".
[[nodiscard]] std::optional<milliseconds> ParseDuration(std::string_view text);
// FormatDuration writes it with the largest unit that loses nothing.
[[nodiscard]] std::string FormatDuration(milliseconds duration);

// ParseSocketAddress reads "192.0.2.1:143" or "[2001:db8::1]:143"; the host comes back in its
// canonical form, so that equal addresses compare equal. Port 0: the kernel picks one.
[[nodiscard]] std::optional<SocketAddress> ParseSocketAddress(std::string_view text);
// Text is the reverse of ParseSocketAddress, for logs and messages.
[[nodiscard]] std::string Text(const SocketAddress& address);

// ParseMember reads "host:port": a host name or an address literal (IPv6 in brackets), ports
// from 1.
[[nodiscard]] std::optional<Member> ParseMember(std::string_view text);

// ParseNetwork reads "192.0.2.0/24", "2001:db8::/32" or an address alone; nothing where bits are
// set behind the prefix, since that is a typing error most of the time.
[[nodiscard]] std::optional<Network> ParseNetwork(std::string_view text);

// ParseHttpUrl reads "http://host[:port][/path]" or the same with https; without user information
// and fragment. The reverse is Text, without the path, which may hold a secret.
[[nodiscard]] std::optional<HttpUrl> ParseHttpUrl(std::string_view text);
[[nodiscard]] std::string Text(const HttpUrl& url);

// ParseServiceSocket reads an absolute path that fits a Unix socket's address, or "host:port".
[[nodiscard]] std::optional<ServiceSocket> ParseServiceSocket(std::string_view text);
[[nodiscard]] std::string Text(const ServiceSocket& socket);
inline constexpr std::string_view kServiceSocket =
    "an absolute path of at most 107 bytes, or HOST:PORT (IPv6 in brackets)";

// SplitHttpHeader reads "Name: value" (RFC 9110 §5.1 and §5.5), and copies nothing.
struct HttpHeader {
  std::string_view name, value;
};
[[nodiscard]] std::optional<HttpHeader> SplitHttpHeader(std::string_view text);
// ParseHttpHeader does the same, and returns it with one blank.
[[nodiscard]] std::optional<std::string> ParseHttpHeader(std::string_view text);

// ParseMailDomain reads the domain of a mail address, and returns it in lower case. Other letters
// than those of ASCII are taken as they stand (RFC 6531).
[[nodiscard]] std::optional<std::string> ParseMailDomain(std::string_view text);

// ParseMechanism reads a SASL mechanism's name, in capitals.
[[nodiscard]] std::optional<Mechanism> ParseMechanism(std::string_view text);
// ParseDigestMechanism takes those alone for which somebody must know the password in cleartext.
[[nodiscard]] std::optional<Mechanism> ParseDigestMechanism(std::string_view text);

// IsUserPattern: text with "%u" (a whole name), "%n" (what stands before its domain) or "%d" (its
// domain) in it, and no other "%" but "%%".
[[nodiscard]] bool IsUserPattern(std::string_view text);
// IsSeparator: one printable character that no name is likely to have.
[[nodiscard]] bool IsSeparator(std::string_view text);

// ParsePoolMember reads a member, "dns:" and one, or "srv:" and the name of SRV records, and behind
// a blank its weight, which SRV records have themselves: "store1.internal:143 weight=2".
[[nodiscard]] std::optional<PoolMember> ParsePoolMember(std::string_view text);
inline constexpr uint32_t kMaxWeight = 100;

// ParseRouteDomain reads a host name or, for all names below one, "*." and that; in lower case.
[[nodiscard]] std::optional<std::string> ParseRouteDomain(std::string_view text);

// ParseReferralHost reads the same, or an address literal.
[[nodiscard]] std::optional<std::string> ParseReferralHost(std::string_view text);
inline constexpr std::string_view kReferralHosts =
    "host names, \"*.\" and one for all below it, or IP addresses";
// IsReferralHost tells whether `host`, in lower case, is meant by one of `allowed`.
[[nodiscard]] bool IsReferralHost(std::string_view host, const std::vector<std::string>& allowed);

// ParseKeyPin reads a SHA-256 in base64, in its one canonical form.
[[nodiscard]] std::optional<KeyPin> ParseKeyPin(std::string_view text);

// IsHostName: dot-separated labels of letters, digits, "-" and "_", at most 63 and 253 characters,
// the last label not all digits (RFC 1123 §2.1; "_" since container networks use it).
[[nodiscard]] bool IsHostName(std::string_view text);
// IsAddressLiteral: an IPv4 or IPv6 address without port or brackets.
[[nodiscard]] bool IsAddressLiteral(std::string_view text);
// IsLoopback: one of those that lead to this machine alone.
[[nodiscard]] bool IsLoopback(std::string_view address);
// IsLabel: a name that is safe in logs and metric labels: 1 to 64 of A-Z a-z 0-9 _ -
[[nodiscard]] bool IsLabel(std::string_view text);

}  // namespace gatepost::config
