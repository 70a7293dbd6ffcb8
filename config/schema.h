// The configuration as plain typed structs: what the rest of the program sees of the file.
//
// Knows nothing of TOML, files or sockets. Immutable once loaded and shared by all workers as
// shared_ptr<const Config>. Every default here is the documented one (config/reference.md).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace gatepost::config {

using std::chrono::milliseconds;
using std::chrono::seconds;

// Where a key stands in the file, for errors that are found after loading (a certificate that does
// not match its key). Lines and columns count from 1; 0 means unknown.
struct Place {
  uint32_t line = 0;
  uint32_t column = 0;
  // What moves in the file stays what it is.
  bool operator==(const Place&) const { return true; }
};

enum class Protocol : uint8_t { kImap, kPop3, kSmtp };
enum class ListenerTls : uint8_t { kStartTls, kImplicit };
enum class CleartextLogin : uint8_t { kDeny, kAllow };
enum class TlsProfile : uint8_t { kModern, kIntermediate, kLegacy };
enum class TlsVersion : uint8_t { k10, k11, k12, k13 };
enum class ClientCertificates : uint8_t { kOff, kRequest, kRequire };
// Which versions of the PROXY protocol come before everything else.
enum class ProxyProtocol : uint8_t { kOff, kV1, kV2, kBoth };
// Which name of a client's certificate is the user: none | rfc822Name | commonName | as a file
// says.
enum class CertificateUser : uint8_t { kNone, kEmail, kCommonName, kMap };
enum class BareNewline : uint8_t { kReject, kNormalize };
// What is taken from clients that have not logged in: nothing | mail for local domains.
enum class Relay : uint8_t { kAuthenticated, kLocalDomains };
enum class BackendTls : uint8_t { kNone, kStartTls, kImplicit };
// The client's own credentials | a master user's, on behalf of the client | one account for all |
// no AUTH (SMTP).
enum class BackendLogin : uint8_t { kSame, kMaster, kFixed, kNone };
// What of a user's name is made lower case.
enum class LowerCase : uint8_t { kNone, kDomain, kAll };
// What a client is told that the backend refuses: our own words | the backend's.
enum class RefusalText : uint8_t { kNormalize, kPass };
// How the password or token is presented to a backend; "login" is SASL LOGIN in SMTP, and the
// protocol's own command or commands in IMAP and POP3.
enum class LoginMechanism : uint8_t { kAuto, kPlain, kLogin, kXoauth2, kOauthbearer };
// SASL mechanisms that clients may use.
enum class Mechanism : uint8_t {
  kPlain,
  kLogin,
  kExternal,
  kXoauth2,
  kOauthbearer,
  kScramSha1,
  kScramSha256,
  kCramMd5,
  kApop  // the command of POP3
};
// How a backend learns the client's address: not at all | PROXY protocol | IMAP ID, POP3 XCLIENT,
// SMTP XCLIENT.
enum class ForwardClientAddress : uint8_t { kNone, kProxyV1, kProxyV2, kNative };
// Which member a login goes to: the user's own | the one with the fewest sessions | one after the
// other.
enum class Balance : uint8_t { kUserHash, kLeastSessions, kRoundRobin };
enum class AuthorityKind : uint8_t { kBackend, kPasswords, kHttp, kLogin, kDovecot };
// The permissions of the control socket: who may give orders.
enum class SocketMode : uint8_t { kOwner, kGroup };
enum class LogFormat : uint8_t { kLogfmt, kJson };
enum class LogLevel : uint8_t { kDebug, kInfo, kWarning, kError };

// An address literal and a port; IPv6 without brackets.
struct SocketAddress {
  std::string host;
  uint16_t port = 0;
  bool operator==(const SocketAddress&) const = default;
};

// An IP network: the addresses that begin with the first `bits` bits of `address`. IPv4 stands in
// its v4-mapped form (RFC 4291 §2.5.5.2), with 96 bits or more.
struct Network {
  std::array<uint8_t, 16> address{};
  uint8_t bits = 0;
  bool operator==(const Network&) const = default;
};

// A name that another folder knows, and where it stands.
struct PlacedName {
  std::string name;
  Place place;
};

// One pair, or all that are in a directory.
struct Certificate {
  std::string name;  // for Listener::certificates; unique; empty: it has none
  std::optional<std::filesystem::path> chain;
  std::optional<std::filesystem::path> key;
  std::optional<std::filesystem::path> directory;  // instead of both
  Place place;
};

struct Listener {
  std::string name;  // `name`, default "<protocol>-<port of the first address>"; unique
  Protocol protocol = Protocol::kImap;
  std::vector<SocketAddress> addresses;
  ListenerTls tls = ListenerTls::kStartTls;
  CleartextLogin cleartext_login = CleartextLogin::kDeny;
  ProxyProtocol proxy_protocol = ProxyProtocol::kOff;
  std::vector<Network> proxy_networks;    // whose headers are believed; where it is not off
  std::vector<Network> trusted_networks;  // whose word for their clients (ID, XCLIENT) is believed
  std::vector<Mechanism> mechanisms;      // empty: all that are possible
  std::vector<PlacedName> certificates;   // names of Certificates; empty: all, in their order
  bool strict_sni = false;
  TlsProfile profile = TlsProfile::kIntermediate;
  // Instead of the profile's; nothing or empty: as the profile has it.
  std::optional<TlsVersion> tls_minimum_version;
  std::vector<PlacedName> tls_groups;
  std::vector<PlacedName> tls_ciphers;  // of TLS 1.2 and below
  std::vector<PlacedName> tls_signature_algorithms;
  ClientCertificates client_certificates = ClientCertificates::kOff;
  std::optional<std::filesystem::path> client_ca_file;   // where they are not off
  std::optional<std::filesystem::path> client_crl_file;  // default: no revocation
  CertificateUser client_certificate_user = CertificateUser::kNone;
  std::optional<std::filesystem::path> client_certificate_map;  // kMap
  BareNewline bare_newline = BareNewline::kReject;              // SMTP only
  Relay relay = Relay::kAuthenticated;                          // SMTP only
  std::vector<std::string> local_domains;                       // kLocalDomains; in lower case
  std::optional<std::string> inbound_pool;                      // the same: where their mail goes
  std::optional<std::string> inbound_authority;  // the same: the Authority that judges recipients
  std::string pool;
  Place place;
};

// A host name or address literal and a port.
struct Member {
  std::string host;
  uint16_t port = 0;
  bool operator==(const Member&) const = default;
};

// Where a service listens: a Unix socket, or a host and port.
struct ServiceSocket {
  std::filesystem::path path;  // empty: `address` is meant
  Member address;
  bool operator==(const ServiceSocket&) const = default;
};

// A host | all addresses of a name | the targets of SRV records.
enum class MemberKind : uint8_t { kHost, kDns, kSrv };

// A member of a pool, or a name that stands for several, and the part of the logins that it gets
// beside the others.
struct PoolMember {
  Member address;  // kSrv: the name of the records, port 0
  MemberKind kind = MemberKind::kHost;
  uint32_t weight = 1;
  bool operator==(const PoolMember&) const = default;
};

// The SHA-256 of a public key (SubjectPublicKeyInfo).
using KeyPin = std::array<uint8_t, 32>;

struct Pool {
  std::string name;
  std::vector<PoolMember> members;
  Balance balance = Balance::kUserHash;
  BackendTls tls = BackendTls::kNone;
  bool verify = true;                            // the certificate, where tls is not "none"
  std::optional<std::filesystem::path> ca_file;  // default: the system's certificates
  std::optional<std::string> server_name;        // default: the member's host
  std::vector<KeyPin> pins;                      // `pin_sha256`; empty: any key
  std::optional<std::filesystem::path> client_certificate;  // ours, for backends that ask for one
  std::optional<std::filesystem::path> client_key;
  TlsVersion tls_minimum_version = TlsVersion::k12;
  BackendLogin login = BackendLogin::kSame;
  LoginMechanism login_mechanism = LoginMechanism::kAuto;
  // Whose account speaks for users without a password of their own; both or neither.
  std::optional<std::string> master_user;
  std::optional<std::filesystem::path> master_password_file;
  std::optional<std::string> master_user_separator;  // "user*master"; default: SASL PLAIN says it
  // The one account of BackendLogin::kFixed; both or neither.
  std::optional<std::string> account;
  std::optional<std::filesystem::path> account_password_file;
  std::string backend_user = "%u";  // how the backend writes a user's name
  RefusalText refusal_text = RefusalText::kNormalize;
  ForwardClientAddress forward_client_address = ForwardClientAddress::kNone;
  bool xclient_login = false;     // with login = "none": the backend hears who has logged in here
  uint32_t follow_referrals = 0;  // of one login; IMAP only
  std::vector<std::string> referral_hosts;  // where they may lead, besides the members; lower case
  bool connect_early = false;      // while the client authenticates; pools of one member only
  uint32_t ready_connections = 0;  // kept open, ready for a login; of each member and worker
  milliseconds connect_timeout{5'000};
  milliseconds login_timeout{30'000};  // greeting, TLS and login together
  milliseconds health_interval{10'000};
  milliseconds health_timeout{5'000};
  uint32_t health_rise = 2;  // checks in a row
  uint32_t health_fall = 3;
  milliseconds dns_interval{30'000};
  std::optional<SocketAddress> dns_server;  // default: the system's
  milliseconds slow_start{0};               // 0: a member that comes back has all its users at once
  Place place;
  bool operator==(const Pool&) const = default;
};

// Where users go instead of their listener's pool; either by domain or by a file of users.
struct Route {
  Protocol protocol = Protocol::kImap;
  std::vector<std::string> domains;  // lower case; "*.example.org" for all below it
  std::string pool;                  // of the domains
  std::optional<std::filesystem::path> users_file;
  Place place;
};

// Where an HTTP authority is asked: "https://auth.internal/mail".
struct HttpUrl {
  bool https = false;
  Member address;
  std::string path;  // with its query; begins with a slash
  bool operator==(const HttpUrl&) const = default;
};

// Who decides about the clients of some listeners or of some domains.
struct Authority {
  std::string name;  // default: the kind; unique
  AuthorityKind kind = AuthorityKind::kBackend;
  std::vector<PlacedName> listeners;  // names of Listeners; empty: all
  std::vector<std::string> domains;   // of users, in lower case; empty: all, and none
  std::filesystem::path file;         // kPasswords
  // kLogin: where the credentials are tried.
  std::string pool;
  Protocol protocol = Protocol::kImap;
  // kLogin, kHttp and kDovecot, for which it is 1000: questions at a time of each worker.
  uint32_t max_concurrent = 32;
  // kHttp:
  std::vector<HttpUrl> urls;                     // the first that works is asked
  std::optional<std::filesystem::path> ca_file;  // default: the system's certificates
  std::vector<std::string> headers;              // "Name: value", added to each question
  bool pass_client_certificate = false;
  bool resolve_client_host = false;
  std::vector<Mechanism> digest_mechanisms;  // kCramMd5, kApop: those that the service checks
  milliseconds positive_cache{0};            // 0: none
  // kHttp, of one URL, and kDovecot:
  milliseconds connect_timeout{2'000};
  milliseconds timeout{5'000};  // kHttp: with the connecting; kDovecot: 30 s
  // kDovecot:
  ServiceSocket socket;
  bool returns_pass = false;  // its passdb says what to log in with at the backend
  Place place;
};

// How users' names are written here, whatever the client writes.
struct Users {
  LowerCase lower_case = LowerCase::kNone;
  std::optional<std::string> default_domain;  // of names without one
};

struct Tls {
  std::optional<std::filesystem::path> ticket_key_file;  // default: keys of this process
  milliseconds ticket_lifetime{12 * 3'600'000};
};

struct Limits {
  uint32_t max_connections = 0;  // 0: what the descriptor limit allows
  uint32_t max_connections_per_address = 100;
  uint32_t max_sessions_per_user = 0;   // logged in, over all protocols; 0: no limit
  milliseconds login_timeout{120'000};  // absolute, from accept to a successful login
  milliseconds proxy_header_timeout{5'000};
  milliseconds tls_handshake_timeout{15'000};
  uint32_t max_failed_logins = 5;          // of one connection
  milliseconds failed_login_delay{1'000};  // before the first refusal; doubles, at most 15 s
  uint32_t max_bad_commands = 10;
  uint32_t max_line_bytes = 8192;
  uint32_t max_literal_bytes = 65536;
};

// Failed logins by client network (an IPv4 address or an IPv6 /64), by user and by both; 0: no
// limit.
struct Throttle {
  uint32_t max_failures_per_address = 50;
  uint32_t max_failures_per_user = 100;
  uint32_t max_failures_per_user_and_address = 10;
  milliseconds half_life{30 * 60'000};
  std::vector<Network> exempt_networks;
  // Where failures are shared with other gateways; nothing: they are not.
  std::optional<ServiceSocket> redis;
  std::optional<std::string> redis_user;  // default: that of requirepass
  std::optional<std::filesystem::path> redis_password_file;
  std::optional<std::filesystem::path> shared_key_file;  // needed with it
  bool operator==(const Throttle&) const = default;
};

// A policy service that is asked about each login, and told what became of it (weakforced).
struct Policy {
  std::vector<HttpUrl> urls;                         // the first that works; empty: there is none
  std::optional<std::filesystem::path> ca_file;      // default: the system's certificates
  std::optional<std::filesystem::path> header_file;  // "Name: value", added to each question
  std::filesystem::path nonce_file;                  // what passwords are hashed with
  uint32_t hash_bits = 12;
  milliseconds timeout{2'000};  // of one URL, with the connecting
  milliseconds max_delay{15'000};
  uint32_t max_concurrent = 32;  // questions, and reports, at a time of each worker
  bool report = true;
  bool reject_on_failure = false;
  bool log_only = false;
};

struct IdleTimeouts {
  milliseconds imap{31 * 60'000};  // RFC 9051 §5.4: at least 30 minutes
  milliseconds pop3{10 * 60'000};  // RFC 1939 §3: at least 10 minutes
  milliseconds smtp{5 * 60'000};   // RFC 5321 §4.5.3.2: at least 5 minutes
};

struct Log {
  LogFormat format = LogFormat::kLogfmt;
  LogLevel level = LogLevel::kInfo;
  std::optional<std::filesystem::path> file;       // default: standard error
  milliseconds failed_handshake_interval{60'000};  // 0: a line for each
  bool operator==(const Log&) const = default;
};

struct Admin {
  std::optional<SocketAddress> address = SocketAddress{"127.0.0.1", 9143};  // "off": none
  std::optional<std::filesystem::path> socket;                              // default: none
  SocketMode socket_mode = SocketMode::kOwner;
};

struct Process {
  uint32_t workers = 0;             // 0: one per core
  std::optional<std::string> user;  // to become after binding, when started as root
  milliseconds drain_grace{0};      // from the wish to stop to the end of new clients
  milliseconds drain_timeout{30'000};
  milliseconds old_sessions_timeout{0};     // after a reload or an upgrade; 0: none
  milliseconds file_poll_interval{60'000};  // of TLS files, beside the file system's events
};

// MayDecide tells whether the authority may be asked about a client of the listener.
[[nodiscard]] bool MayDecide(const Authority& authority, const Listener& listener);

struct Config {
  std::string hostname;  // default: the machine's
  std::vector<Certificate> certificates;
  std::vector<Listener> listeners;
  std::vector<Pool> pools;
  std::vector<Route> routes;
  std::vector<Authority> authorities;  // the first that is for a client decides; never empty
  Users users;
  Tls tls;
  Limits limits;
  Throttle throttle;
  Policy policy;
  IdleTimeouts idle_timeouts;
  Log log;
  Admin admin;
  Process process;
};

}  // namespace gatepost::config
