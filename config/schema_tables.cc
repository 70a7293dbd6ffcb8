// SPDX-License-Identifier: Apache-2.0
#include "config/schema_tables.h"

#include <algorithm>

namespace gatepost::config {
namespace {

using std::chrono::hours;
using std::chrono::minutes;

constexpr milliseconds kNone{0};
constexpr milliseconds kShort{100};

constexpr std::string_view kLabel = "1 to 64 of A-Z a-z 0-9 _ -";
constexpr std::string_view kHostName = "a host name";
constexpr std::string_view kAddresses =
    "IP addresses with ports, IPv6 in brackets (port 0: any free one)";
constexpr std::string_view kPins =
    "SHA-256 digests of public keys (SubjectPublicKeyInfo) in base64, of 44 characters each";
constexpr std::string_view kDomains = "domain names of mail addresses, no final dot, no wildcard";
constexpr std::string_view kMechanisms =
    "any of \"PLAIN\", \"LOGIN\", \"EXTERNAL\", \"XOAUTH2\", \"OAUTHBEARER\", \"SCRAM-SHA-1\", "
    "\"SCRAM-SHA-256\", \"CRAM-MD5\" and \"APOP\"";
constexpr std::string_view kMembers =
    "\"HOST:PORT\" (IPv6 in brackets), \"dns:NAME:PORT\" for all addresses of a name, each with a "
    "weight from 1 to 100 where it is not 1 (\"HOST:PORT weight=N\"), or \"srv:NAME\"";

bool IsServerName(std::string_view text) {
  return IsHostName(text) || IsAddressLiteral(text);
}

Field<Admin> AdminAddressField() {
  return {
      {"address", "string", Quote(Text(*Admin{}.address)), "an IP address with a port, or \"off\"",
       "Where metrics and health are served over plain HTTP; keep it away from the public.",
       "\"127.0.0.1:9143\""},
      [](const Value& value, Admin& admin) {
        const auto text = value.String();
        if (!text) return;
        if (*text == "off") {
          admin.address = std::nullopt;
        } else if (auto address = ParseSocketAddress(*text)) {
          admin.address = std::move(address);
        } else {
          value.Refuse(Quote(*text));
        }
      }};
}

Field<Pool> DnsServerField() {
  return {{"dns_server", "string", "the system's", "an IP address with a port",
           "Name server that is asked for dns: and srv:.", "\"127.0.0.1:8600\""},
          [](const Value& value, Pool& pool) {
            const auto text = value.String();
            if (!text) return;
            pool.dns_server = ParseSocketAddress(*text);
            if (!pool.dns_server) value.Refuse(Quote(*text));
          }};
}

Table<Listener> ListenerTable() {
  return {
      "[[listener]]",
      {
          TextField("name", &Listener::name, IsLabel, kLabel, "\"imap-143\"",
                    "Name in logs and metrics; unique.")
              .Default("protocol and port of the first address"),
          ChoiceField("protocol", &Listener::protocol, "\"imap\"",
                      "Mail protocol that clients speak here.")
              .Required(),
          ListField("addresses", &Listener::addresses, ParseSocketAddress, kAddresses,
                    "[\"0.0.0.0:143\", \"[::]:143\"]", "Where clients connect.")
              .Required(),
          ChoiceField("tls", &Listener::tls, "\"starttls\"",
                      "How TLS begins: on the client's command, or with the first byte."),
          ChoiceField("cleartext_login", &Listener::cleartext_login, "\"deny\"",
                      "Whether passwords are taken without TLS; only with tls = \"starttls\"."),
          ChoiceField(
              "proxy_protocol", &Listener::proxy_protocol, "\"v2\"",
              "Whether a header of the PROXY protocol, of this version, comes first and says "
              "who the client is; never guessed, a connection without it is dropped."),
          ListField("proxy_networks", &Listener::proxy_networks, ParseNetwork, kNetworks,
                    "[\"10.0.0.0/8\", \"2001:db8::/32\"]",
                    "Where the proxies are that may say so; required unless proxy_protocol is "
                    "\"off\". Whoever else connects is dropped.")
              .Default("none"),
          ListField("trusted_networks", &Listener::trusted_networks, ParseNetwork, kNetworks,
                    "[\"192.0.2.10\", \"2001:db8::/64\"]",
                    "Where the proxies are that may say who their clients are by IMAP ID, POP3 "
                    "XCLIENT and SMTP XCLIENT; nobody else may.")
              .Default("none"),
          ListField("mechanisms", &Listener::mechanisms, ParseMechanism, kMechanisms,
                    "[\"PLAIN\", \"OAUTHBEARER\"]",
                    "SASL mechanisms (and POP3's APOP) that clients may use, of those that are "
                    "possible here; without "
                    "PLAIN and LOGIN the protocol's own password commands are refused, too.")
              .Default("all that are possible"),
          NamesField("certificates", &Listener::certificates, "names of [[certificate]] tables",
                     "[\"customers\"]",
                     "Certificates that clients of this listener see, the default one first.")
              .Default("all, in the order of the file"),
          BooleanField("strict_sni", &Listener::strict_sni, "true",
                       "Refuse a client that asks for a name that no certificate has "
                       "(unrecognized_name), rather than show it the default certificate."),
          ChoiceField("tls_profile", &Listener::profile, "\"intermediate\"",
                      "TLS versions and ciphers offered: 1.3 only, 1.2 with forward secrecy too, "
                      "or 1.0 and up with what old clients need."),
          ChoiceField("tls_minimum_version", &Listener::tls_minimum_version, "\"1.2\"",
                      "Oldest TLS version that a client may have.")
              .Default("the profile's"),
          NamesField("tls_groups", &Listener::tls_groups, "names of groups",
                     "[\"X25519\", \"P-256\"]", "Key exchange groups, the preferred one first.")
              .Default("the profile's"),
          NamesField("tls_ciphers", &Listener::tls_ciphers,
                     "names of cipher suites as OpenSSL or IANA write them",
                     "[\"ECDHE-ECDSA-AES128-GCM-SHA256\", \"ECDHE-RSA-AES128-GCM-SHA256\"]",
                     "Cipher suites of TLS 1.2 and below, the preferred one first.")
              .Default("the profile's"),
          NamesField("tls_signature_algorithms", &Listener::tls_signature_algorithms,
                     "names of signature algorithms of TLS 1.3",
                     "[\"ecdsa_secp256r1_sha256\", \"rsa_pss_rsae_sha256\"]",
                     "What handshakes are signed with, and client certificates' signatures may be "
                     "made with, the preferred one first.")
              .Default("the TLS library's"),
          ChoiceField("client_certificates", &Listener::client_certificates, "\"request\"",
                      "Whether clients are asked for a certificate: not at all, as they like, or "
                      "no handshake without a good one."),
          PathField("client_ca_file", &Listener::client_ca_file, "\"/etc/gatepost/client-ca.pem\"",
                    "Certificates (PEM) that a client's certificate must descend from; required "
                    "unless client_certificates is \"off\".")
              .Default("none"),
          PathField("client_crl_file", &Listener::client_crl_file,
                    "\"/etc/gatepost/client-crl.pem\"",
                    "Revocation lists (PEM); one of a certificate's own issuer must be there and "
                    "current, else the certificate is refused.")
              .Default("none: nothing is revoked"),
          ChoiceField("client_certificate_user", &Listener::client_certificate_user, "\"map\"",
                      "Whom a client may log in as with its certificate alone (SASL EXTERNAL): "
                      "nobody, its one e-mail address, its common name, or as "
                      "client_certificate_map says."),
          PathField("client_certificate_map", &Listener::client_certificate_map,
                    "\"/etc/gatepost/certificate-users\"",
                    "Lines of USER KIND:VALUE that say whose a certificate is; required with "
                    "client_certificate_user = \"map\", and only then.")
              .Default("none"),
          ChoiceField("bare_newline", &Listener::bare_newline, "\"reject\"",
                      "What happens to a bare CR or LF in mail data, with which messages are "
                      "smuggled; SMTP only."),
          ChoiceField("relay", &Listener::relay, "\"local-domains\"",
                      "What may be sent through here without a login: nothing, or mail for "
                      "local_domains and nobody else; SMTP only."),
          ListField("local_domains", &Listener::local_domains, ParseMailDomain, kDomains,
                    "[\"example.org\", \"example.net\"]",
                    "Domains of the recipients to whom mail is taken without a login; required "
                    "with relay = \"local-domains\", and only then.")
              .Default("none"),
          TextField("inbound_pool", &Listener::inbound_pool, IsLabel, "the NAME of a [pool.NAME]",
                    "\"mx\"",
                    "Backends that get that mail, a pool with login = \"none\"; required with "
                    "relay = \"local-domains\", and only then.")
              .Default("none"),
          TextField(
              "inbound_authority", &Listener::inbound_authority, IsLabel,
              "the name of an [[authority]]", "\"recipients\"",
              "Service (kind = \"http\") that is asked about each recipient of that mail; only "
              "with relay = \"local-domains\".")
              .Default("none: local_domains alone decide"),
          TextField("pool", &Listener::pool, IsLabel, "the NAME of a [pool.NAME]", "\"stores\"",
                    "Backends that serve the clients of this listener.")
              .Required(),
      }};
}

Table<Pool> PoolTable() {
  return {
      "[pool.NAME]",
      {
          ListField("members", &Pool::members, ParsePoolMember, kMembers,
                    "[\"store1.internal:143\", \"store2.internal:143 weight=2\"]",
                    "Backends; when one cannot be reached another is tried.")
              .Required(),
          ChoiceField(
              "balance", &Pool::balance, "\"least-sessions\"",
              "Which member a login goes to: always the same one of its user, the one with "
              "the fewest sessions of this process for its weight, or one after the other."),
          ChoiceField("tls", &Pool::tls, "\"starttls\"", "TLS towards the backends."),
          BooleanField("verify", &Pool::verify, "true",
                       "Whether a backend's certificate must be valid and match; "
                       "only where tls is not \"none\"."),
          PathField("ca_file", &Pool::ca_file, "\"/etc/gatepost/backend-ca.pem\"",
                    "Certificates (PEM) that a backend's certificate must descend from.")
              .Default("the system's certificates"),
          TextField("server_name", &Pool::server_name, IsServerName, "a host name or IP address",
                    "\"store.example.org\"", "Name that a backend's certificate must carry.")
              .Default("the member's host"),
          ListField("pin_sha256", &Pool::pins, ParseKeyPin, kPins,
                    "[\"Xvl6yWJGUVMHZkmXAbgDyJfDVtOXMQqJDcqPMHpRqmQ=\"]",
                    "Public keys, one of which must be in a backend's certificate or in a CA's "
                    "above it; without verify, in its own.")
              .Default("any key"),
          PathField("client_certificate", &Pool::client_certificate,
                    "\"/etc/gatepost/backend-client.pem\"",
                    "Certificate (PEM, then its intermediates) that a backend sees when it asks "
                    "for one; needs client_key.")
              .Default("none"),
          PathField("client_key", &Pool::client_key, "\"/etc/gatepost/backend-client.key\"",
                    "Private key of client_certificate (PEM, no passphrase).")
              .Default("none"),
          ChoiceField("tls_minimum_version", &Pool::tls_minimum_version, "\"1.2\"",
                      "Oldest TLS version that a backend may have; \"1.0\" for one that can do no "
                      "better."),
          ChoiceField("login", &Pool::login, "\"master\"",
                      "Log in with the client's own credentials, as master_user on the client's "
                      "behalf, with account for everybody, or not at all (SMTP); the last three "
                      "when the authority has checked the password."),
          ChoiceField(
              "login_mechanism", &Pool::login_mechanism, "\"login\"",
              "How the password is presented: as the backend offers it; by SASL PLAIN; by "
              "SASL LOGIN (SMTP) or the protocol's own command (IMAP, POP3); or as a bearer "
              "token."),
          TextField("master_user", &Pool::master_user, IsAccount, kAccount, "\"gatepost\"",
                    "Account that may act for every user (SASL PLAIN's authorization identity); "
                    "with login = \"same\" used for clients that tell no password.")
              .Default("none"),
          PathField("master_password_file", &Pool::master_password_file,
                    "\"/etc/gatepost/master-password\"",
                    "Its first line is the password of master_user; required with it.")
              .Default("none"),
          TextField("master_user_separator", &Pool::master_user_separator, IsSeparator,
                    "one printable character, no letter or digit and none of @ . - _", "\"*\"",
                    "Log master_user in by a name of the user, this, and master_user (Dovecot's "
                    "auth_master_user_separator), rather than by an authorization identity.")
              .Default("none"),
          TextField("account", &Pool::account, IsAccount, kAccount, "\"relay\"",
                    "The one account of login = \"fixed\"; required with it, and only then.")
              .Default("none"),
          PathField("account_password_file", &Pool::account_password_file,
                    "\"/etc/gatepost/relay-password\"",
                    "Its first line is the password of account; required with it.")
              .Default("none"),
          TextField("backend_user", &Pool::backend_user, IsUserPattern,
                    "text with %u (the name), %n (without its domain) or %d (its domain) in it, "
                    "%u or %n among them",
                    "\"%n\"", "How the backend writes the name of a user.")
              .Default("\"%u\""),
          ChoiceField("refusal_text", &Pool::refusal_text, "\"pass\"",
                      "What a client hears when the backend refuses its login: our own text, or "
                      "the backend's; the code is ours in any case."),
          ChoiceField("forward_client_address", &Pool::forward_client_address, "\"proxy-v2\"",
                      "How a backend learns who the client is: not at all, by the PROXY protocol, "
                      "which its "
                      "port must expect, or by IMAP ID, POP3 XCLIENT and SMTP XCLIENT."),
          BooleanField("xclient_login", &Pool::xclient_login, "true",
                       "Name the user to the backend by XCLIENT LOGIN, as whom it then takes the "
                       "client; SMTP only, with login = \"none\" and forward_client_address = "
                       "\"native\"."),
          IntegerField("follow_referrals", &Pool::follow_referrals, 0, 3, "1",
                       "So many referrals (RFC 2221) of backends a login follows, with the "
                       "client's password, to other members and to referral_hosts; IMAP only."),
          ListField("referral_hosts", &Pool::referral_hosts, ParseReferralHost, kReferralHosts,
                    "[\"*.stores.internal\"]",
                    "Where a referral may lead besides to members, on a port that a member has; "
                    "needs follow_referrals.")
              .Default("none"),
          BooleanField("connect_early", &Pool::connect_early, "true",
                       "Connect to the backend while the client still authenticates; for a pool of "
                       "one member and authority \"backend\", at most 64 at a time a worker."),
          IntegerField("ready_connections", &Pool::ready_connections, 0, 1000, "4",
                       "Connections of each worker to each member that are kept ready for a login: "
                       "a login is then one round trip."),
          DurationField("connect_timeout", &Pool::connect_timeout, kShort, minutes(5), "\"5s\"",
                        "Longest wait for a TCP connection to one member."),
          DurationField("login_timeout", &Pool::login_timeout, kShort, minutes(10), "\"30s\"",
                        "Longest wait for a backend's greeting, TLS and login together."),
          DurationField("health_interval", &Pool::health_interval, kShort, hours(1), "\"10s\"",
                        "How often the process looks whether a member serves: connection, TLS, "
                        "greeting, capabilities; every 2s while it is down."),
          DurationField("health_timeout", &Pool::health_timeout, kShort, minutes(5), "\"5s\"",
                        "Longest such look, behind the connection (which has connect_timeout or "
                        "this, what is less)."),
          IntegerField("health_rise", &Pool::health_rise, 1, 100, "2",
                       "Looks in a row that must go well until a member that was down is used."),
          IntegerField("health_fall", &Pool::health_fall, 1, 100, "3",
                       "Failures in a row, of looks and of logins' connections, after which a "
                       "member is not used."),
          DurationField("dns_interval", &Pool::dns_interval, kShort, hours(24), "\"30s\"",
                        "How often names (dns:, srv:) are asked for their members, sooner where "
                        "the addresses' time to live is shorter (but not below 1s)."),
          DnsServerField(),
          DurationField("slow_start", &Pool::slow_start, kNone, hours(1), "\"30s\"",
                        "Time over which a member that came back takes on its part of the users; "
                        "\"0s\": at once."),
      }};
}

Table<Route> RouteTable() {
  return {
      "[[route]]",
      {
          ChoiceField("protocol", &Route::protocol, "\"imap\"",
                      "Clients of which protocol it is for.")
              .Required(),
          ListField("domains", &Route::domains, ParseRouteDomain,
                    "domain names, or \"*.\" and one for all below it",
                    "[\"example.org\", \"*.example.net\"]",
                    "Domains, behind the user's last @, whose users go to pool.")
              .Default("none: users_file is used"),
          TextField("pool", &Route::pool, IsLabel, "the NAME of a [pool.NAME]", "\"stores2\"",
                    "Where the users of domains go; required with them.")
              .Default("none"),
          PathField("users_file", &Route::users_file, "\"/etc/gatepost/moved-users\"",
                    "Lines of USER and a pool, a backend (HOST:PORT) or both, instead of domains.")
              .Default("none: domains are used"),
      }};
}

Table<Tls> TlsTable() {
  return {
      "[tls]",
      {
          PathField("ticket_key_file", &Tls::ticket_key_file, "\"/etc/gatepost/ticket.keys\"",
                    "Keys that session tickets are sealed with, for gateways that resume each "
                    "other's sessions: a line each, of `openssl rand -hex 80`; the last but one "
                    "seals, all open.")
              .Default("none: keys that the process makes and changes itself"),
          DurationField("ticket_lifetime", &Tls::ticket_lifetime, minutes(1), hours(168), "\"12h\"",
                        "How long a session ticket is good, and after which time the process's "
                        "own keys change."),
      }};
}

Table<Limits> LimitsTable() {
  constexpr uint32_t kMillion = 1'000'000;
  return {
      "[limits]",
      {
          IntegerField("max_connections", &Limits::max_connections, 0, kMillion, "20000",
                       "Clients at a time, in all; 0: what the descriptor limit allows."),
          IntegerField("max_connections_per_address", &Limits::max_connections_per_address, 1,
                       kMillion, "100", "Clients at a time from one IP address."),
          IntegerField("max_sessions_per_user", &Limits::max_sessions_per_user, 0, kMillion, "50",
                       "Logged-in sessions at a time of one user, over all protocols; 0: no "
                       "limit."),
          DurationField("login_timeout", &Limits::login_timeout, kShort, hours(1), "\"2m\"",
                        "From accepting a client to its successful login, whatever it does."),
          DurationField("proxy_header_timeout", &Limits::proxy_header_timeout, kShort, minutes(1),
                        "\"5s\"", "Longest wait for the header of a listener with proxy_protocol."),
          DurationField("tls_handshake_timeout", &Limits::tls_handshake_timeout, kShort,
                        minutes(10), "\"15s\"", "Longest TLS handshake."),
          IntegerField("max_failed_logins", &Limits::max_failed_logins, 1, 100, "5",
                       "Failed logins after which a connection is closed."),
          DurationField("failed_login_delay", &Limits::failed_login_delay, kNone, seconds(15),
                        "\"1s\"",
                        "Time before the first failed login is answered, with what the authority "
                        "took; doubles with each of "
                        "the connection, and as the client comes nearer to a limit of "
                        "[throttle]; at most 15s."),
          IntegerField("max_bad_commands", &Limits::max_bad_commands, 1, 1000, "10",
                       "Commands not understood after which a connection is closed."),
          IntegerField("max_line_bytes", &Limits::max_line_bytes, 1024, 1024 * 1024, "8192",
                       "Longest command line before login."),
          IntegerField("max_literal_bytes", &Limits::max_literal_bytes, 256, 1024 * 1024, "65536",
                       "Largest IMAP literal before login."),
      }};
}

}  // namespace

bool IsAccount(std::string_view text) {
  return !text.empty() && text.size() <= 255 && std::none_of(text.begin(), text.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
  });
}

SchemaTables::SchemaTables()
    : top{"",
          {TextField("hostname", &Config::hostname, IsHostName, kHostName, "\"mail.example.org\"",
                     "Name in greetings and replies.")
               .Default("the machine's")}},
      certificate{"[[certificate]]",
                  {
                      PathField("chain", &Certificate::chain, "\"/etc/gatepost/tls/fullchain.pem\"",
                                "Certificate, then its intermediates (PEM).")
                          .Default("none: directory is used"),
                      PathField("key", &Certificate::key, "\"/etc/gatepost/tls/privkey.pem\"",
                                "Private key of the certificate (PEM, no passphrase).")
                          .Default("none: directory is used"),
                      PathField("directory", &Certificate::directory, "\"/etc/letsencrypt/live\"",
                                "Folder with any number of pairs, instead of chain and key.")
                          .Default("none: chain and key are used"),
                      TextField("name", &Certificate::name, IsLabel, kLabel, "\"customers\"",
                                "Name by which listeners choose it; unique.")
                          .Default("none"),
                  }},
      listener(ListenerTable()),
      pool(PoolTable()),
      route(RouteTable()),
      authority(AuthorityTable()),
      users{"[users]",
            {
                ChoiceField("lower_case", &Users::lower_case, "\"domain\"",
                            "What of a user's name is made lower case before it is used: nothing, "
                            "its domain, or all."),
                TextField("default_domain", &Users::default_domain, IsHostName, kHostName,
                          "\"example.org\"", "Domain that a name without one gets.")
                    .Default("none"),
            }},
      tls(TlsTable()),
      limits(LimitsTable()),
      throttle(ThrottleTable()),
      policy(PolicyTable()),
      idle_timeout{"[idle_timeout]",
                   {
                       DurationField("imap", &IdleTimeouts::imap, seconds(1), hours(24), "\"31m\"",
                                     "Silence after which a logged-in IMAP client is closed "
                                     "(RFC 9051 wants 30m or more)."),
                       DurationField("pop3", &IdleTimeouts::pop3, seconds(1), hours(24), "\"10m\"",
                                     "The same for POP3 (RFC 1939 wants 10m or more)."),
                       DurationField("smtp", &IdleTimeouts::smtp, seconds(1), hours(24), "\"5m\"",
                                     "The same for SMTP (RFC 5321 wants 5m or more)."),
                   }},
      log{"[log]",
          {
              ChoiceField("format", &Log::format, "\"json\"", "How a line is written."),
              ChoiceField("level", &Log::level, "\"info\"", "The least that is logged."),
              PathField("file", &Log::file, "\"/var/log/gatepost.log\"", "File to append to.")
                  .Default("standard error"),
              DurationField("failed_handshake_interval", &Log::failed_handshake_interval, kNone,
                            hours(24), "\"1m\"",
                            "After a line about a client's failed TLS handshake or foreign "
                            "protocol, how long more of them from the same address are counted "
                            "only; \"0s\": a line for each."),
          }},
      admin{"[admin]",
            {
                AdminAddressField(),
                PathField("socket", &Admin::socket, "\"/run/gatepost/control.sock\"",
                          "Unix socket that `gatepost status`, `sessions`, `kick`, `drain`, "
                          "`reload`, `upgrade` and their like talk to; its folder must be there, "
                          "and writable by process.user.")
                    .Default("none"),
                ChoiceField("socket_mode", &Admin::socket_mode, "\"0660\"",
                            "Permissions of the socket, and so who may give orders: the gateway's "
                            "own user and root, or also its group."),
            }},
      process{
          "[process]",
          {
              IntegerField("workers", &Process::workers, 0, 1024, "4",
                           "Threads that carry connections; 0: one per core."),
              TextField("user", &Process::user, IsLabel, "a user of this machine", "\"gatepost\"",
                        "User to become once the ports are bound, when started as root.")
                  .Default("no change"),
              DurationField("drain_grace", &Process::drain_grace, kNone, hours(24), "\"5s\"",
                            "How long new clients are still served after SIGTERM, while /readyz "
                            "says 503 already: the time that load balancers need to see it."),
              DurationField("drain_timeout", &Process::drain_timeout, kNone, hours(24), "\"30s\"",
                            "How long sessions may go on after that."),
              DurationField("old_sessions_timeout", &Process::old_sessions_timeout, kNone,
                            hours(24 * 365), "\"12h\"",
                            "How long sessions may go on that began before a reload or an upgrade; "
                            "then they are asked to end as in a drain. \"0s\": without limit."),
              DurationField("file_poll_interval", &Process::file_poll_interval, kShort, hours(24),
                            "\"1m\"",
                            "How often TLS files are looked at, beside the events of the file "
                            "system, which do not come from network mounts."),
          }} {}

}  // namespace gatepost::config
