// Wrong configurations and the one line that each of them gives, word for word.
// SPDX-License-Identifier: Apache-2.0
#include "config/diagnostics.h"

#include <gtest/gtest.h>

#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "config/loader.h"

namespace gatepost::config {
namespace {

// The rest that makes a file whole, so that only the first part of it is wrong: C, L, P.
constexpr std::string_view kCertificate = "[[certificate]]\nchain = 'c.pem'\nkey = 'k.pem'\n";
constexpr std::string_view kListener =
    "[[listener]]\nprotocol = 'imap'\naddresses = ['127.0.0.1:143']\npool = 'a'\n";
constexpr std::string_view kPool = "[pool.a]\nmembers = ['b:143']\n";

struct Wrong {
  std::string_view name;
  std::string_view text;
  std::string_view rest;
  std::string_view expected;
};

// GoogleTest would print the bytes, pointers among them, into the test's name.
void PrintTo(const Wrong& wrong, std::ostream* out) {
  *out << wrong.name;
}

std::string Whole(const Wrong& wrong) {
  std::string text(wrong.text);
  for (const char part : wrong.rest) {
    text += part == 'C' ? kCertificate : part == 'L' ? kListener : kPool;
  }
  return text;
}

// clang-format off
constexpr Wrong kWrong[] = {
    {"syntax", "hostname = \n", "CLP",
     R"(g.toml:1:12: Error while parsing key-value pair: expected value, saw '\n')"},
    {"syntax_utf8", "hostname = '\xff'\n", "CLP",
     R"(g.toml:1:12: Encountered invalid utf-8 sequence)"},
    {"redefined_table", R"([log]
[log]
)", "CLP",
     R"(g.toml:2:1: Error while parsing table header: cannot redefine existing table 'log')"},
    {"unknown_top_key", "hostnam = 'x'\n", "CLP",
     R"(g.toml:1:1: hostnam: unknown key; allowed here: hostname, certificate, listener, pool, route, authority, users, tls, limits, throttle, policy, idle_timeout, log, admin, process; for example: hostname = "mail.example.org" (did you mean "hostname"?))"},
    {"unknown_table", "[[lisener]]\n", "CLP",
     R"(g.toml:1:3: lisener: unknown key; allowed here: hostname, certificate, listener, pool, route, authority, users, tls, limits, throttle, policy, idle_timeout, log, admin, process; for example: [[listener]] (did you mean "listener"?))"},
    {"unknown_far_key", "zzz = 1\n", "CLP",
     R"(g.toml:1:1: zzz: unknown key; allowed here: hostname, certificate, listener, pool, route, authority, users, tls, limits, throttle, policy, idle_timeout, log, admin, process; for example: hostname = "mail.example.org")"},
    {"unknown_listener_key", R"([[listener]]
protocol = 'imap'
addresses = ['127.0.0.1:144']
pool = 'a'
tsl = 'implicit'
)", "CP",
     R"(g.toml:5:1: listener[1].tsl: unknown key; allowed here: name, protocol, addresses, tls, cleartext_login, proxy_protocol, proxy_networks, trusted_networks, mechanisms, certificates, strict_sni, tls_profile, tls_minimum_version, tls_groups, tls_ciphers, tls_signature_algorithms, client_certificates, client_ca_file, client_crl_file, client_certificate_user, client_certificate_map, bare_newline, relay, local_domains, inbound_pool, inbound_authority, pool; for example: tls = "starttls" (did you mean "tls"?))"},
    {"key_of_another_table", R"([log]
max_line_bytes = 2000
)", "CLP",
     R"(g.toml:2:1: log.max_line_bytes: unknown key; allowed here: format, level, file, failed_handshake_interval; for example: format = "json" ("max_line_bytes" belongs in [limits]))"},
    {"top_key_behind_table", R"([log]
hostname = 'a'
)", "CLP",
     R"(g.toml:2:1: log.hostname: unknown key; allowed here: format, level, file, failed_handshake_interval; for example: format = "json" ("hostname" belongs at the top of the file, before the first table))"},
    {"control_characters_in_key", R"([log]
"a\u001b[2J" = 1
)", "CLP",
     R"(g.toml:2:1: log."a\x1b[2J": unknown key; allowed here: format, level, file, failed_handshake_interval; for example: format = "json")"},
    {"hostname_type", "hostname = 5\n", "CLP",
     R"(g.toml:1:12: hostname: found an integer, wanted a string; use a host name, for example: hostname = "mail.example.org")"},
    {"hostname_invalid", "hostname = 'mail server'\n", "CLP",
     R"(g.toml:1:12: hostname: "mail server" is not allowed; use a host name, for example: hostname = "mail.example.org")"},
    {"hostname_newline", R"(hostname = "mail\r\nX: y"
)", "CLP",
     R"(g.toml:1:12: hostname: "mail\x0d\x0aX: y" is not allowed; use a host name, for example: hostname = "mail.example.org")"},
    {"certificate_missing", "", "LP",
     R"(g.toml: certificate: at least one is needed, for STARTTLS too, for example: [[certificate]] with chain = "/etc/gatepost/tls/fullchain.pem" and key = "/etc/gatepost/tls/privkey.pem", or with directory = "/etc/letsencrypt/live")"},
    {"certificate_is_table", R"([certificate]
chain = 'c'
)", "LP",
     R"(g.toml:1:1: certificate: found a table, wanted a list of tables, which begins with [[certificate]])"},
    {"certificate_without_key", R"([[certificate]]
chain = 'c'
)", "LP",
     R"(g.toml:1:1: certificate[1].key: is missing; use a file's path, for example: key = "/etc/gatepost/tls/privkey.pem")"},
    {"certificate_without_chain", R"([[certificate]]
key = 'k'
)", "LP",
     R"(g.toml:1:1: certificate[1].chain: is missing; use a file's path, for example: chain = "/etc/gatepost/tls/fullchain.pem")"},
    {"certificate_without_files", R"([[certificate]]
name = 'own'
)", "LP",
     R"(g.toml:1:1: certificate[1]: names no files; use chain and key, or a folder with pairs, for example: directory = "/etc/letsencrypt/live")"},
    {"certificate_in_both_forms", R"([[certificate]]
directory = 'd'
key = 'k'
)", "LP",
     R"(g.toml:3:7: certificate[1].key: cannot stand beside directory, which finds its pairs by itself; remove one of both, or make a [[certificate]] of its own for the pair)"},
    {"certificate_twice", R"([[certificate]]
chain = 'c.pem'
key = 'other'
)", "CLP",
     R"(g.toml:5:9: certificate[2].chain: the chain "c.pem" is taken by certificate[1].chain (line 2); one table is enough; remove the other)"},
    {"certificate_name_twice", R"([[certificate]]
name = 'own'
directory = 'd'
[[certificate]]
name = 'own'
directory = 'e'
)", "LP",
     R"(g.toml:5:8: certificate[2].name: the name "own" is taken by certificate[1].name (line 2); use another one, for example: name = "own-2")"},
    {"listener_certificate_unknown", R"([[certificate]]
name = 'customers'
directory = 'd'
[[listener]]
protocol = 'imap'
addresses = ['127.0.0.1:143']
pool = 'a'
certificates = ['costumers']
)", "P",
     R"(g.toml:8:17: listener[1].certificates[1]: no [[certificate]] is named "costumers"; there is "customers"; give it one, for example: name = "costumers" (did you mean "customers"?))"},
    {"listener_certificate_without_names", R"([[listener]]
protocol = 'imap'
addresses = ['127.0.0.1:143']
pool = 'a'
certificates = ['own']
)", "CP",
     R"(g.toml:5:17: listener[1].certificates[1]: no [[certificate]] is named "own"; none has a name; give it one, for example: name = "own")"},
    {"listener_certificate_twice", R"([[certificate]]
name = 'own'
directory = 'd'
[[listener]]
protocol = 'imap'
addresses = ['127.0.0.1:143']
pool = 'a'
certificates = ['own', 'own']
)", "P",
     R"(g.toml:8:24: listener[1].certificates[2]: the certificate "own" is taken by listener[1].certificates[1] (line 8); remove it)"},
    {"certificate_empty_path", R"([[certificate]]
chain = ''
key = 'k'
)", "LP",
     R"(g.toml:2:9: certificate[1].chain: "" is not allowed; use a file's path, for example: chain = "/etc/gatepost/tls/fullchain.pem")"},
    {"listener_missing", "", "CP",
     R"(g.toml: listener: at least one is needed, for example: [[listener]] with protocol = "imap", addresses = ["0.0.0.0:143"] and pool = "stores")"},
    {"listener_is_table", R"([listener]
protocol = 'imap'
)", "CP",
     R"(g.toml:1:1: listener: found a table, wanted a list of tables, which begins with [[listener]])"},
    {"listener_element_is_no_table", "listener = [5]\n", "CP",
     R"(g.toml:1:13: listener[1]: found an integer, wanted a list of tables, which begins with [[listener]])"},
    {"protocol_missing", R"([[listener]]
addresses = ['127.0.0.1:143']
pool = 'a'
)", "CP",
     R"(g.toml:1:1: listener[1].protocol: is missing; use "imap", "pop3" or "smtp", for example: protocol = "imap")"},
    {"protocol_upper_case", R"([[listener]]
protocol = 'IMAP'
addresses = ['127.0.0.1:144']
pool = 'a'
)", "CP",
     R"(g.toml:2:12: listener[1].protocol: "IMAP" is not allowed; use "imap", "pop3" or "smtp", for example: protocol = "imap" (did you mean "imap"?))"},
    {"protocol_unknown", R"([[listener]]
protocol = 'nntp'
addresses = ['127.0.0.1:144']
pool = 'a'
)", "CP",
     R"(g.toml:2:12: listener[1].protocol: "nntp" is not allowed; use "imap", "pop3" or "smtp", for example: protocol = "imap")"},
    {"address_without_port", R"([[listener]]
protocol = 'imap'
addresses = ['127.0.0.1']
pool = 'a'
)", "CP",
     R"(g.toml:3:14: listener[1].addresses[1]: "127.0.0.1" is not allowed; use IP addresses with ports, IPv6 in brackets (port 0: any free one), for example: addresses = ["0.0.0.0:143", "[::]:143"])"},
    {"address_is_name", R"([[listener]]
protocol = 'imap'
addresses = ['localhost:143']
pool = 'a'
)", "CP",
     R"(g.toml:3:14: listener[1].addresses[1]: "localhost:143" is not allowed; use IP addresses with ports, IPv6 in brackets (port 0: any free one), for example: addresses = ["0.0.0.0:143", "[::]:143"])"},
    {"address_ipv6_without_brackets", R"([[listener]]
protocol = 'imap'
addresses = ['::1:143']
pool = 'a'
)", "CP",
     R"(g.toml:3:14: listener[1].addresses[1]: "::1:143" is not allowed; use IP addresses with ports, IPv6 in brackets (port 0: any free one), for example: addresses = ["0.0.0.0:143", "[::]:143"])"},
    {"address_port_too_large", R"([[listener]]
protocol = 'imap'
addresses = ['127.0.0.1:65536']
pool = 'a'
)", "CP",
     R"(g.toml:3:14: listener[1].addresses[1]: "127.0.0.1:65536" is not allowed; use IP addresses with ports, IPv6 in brackets (port 0: any free one), for example: addresses = ["0.0.0.0:143", "[::]:143"])"},
    {"address_type", R"([[listener]]
protocol = 'imap'
addresses = [143]
pool = 'a'
)", "CP",
     R"(g.toml:3:14: listener[1].addresses[1]: found an integer, wanted a string; use IP addresses with ports, IPv6 in brackets (port 0: any free one), for example: addresses = ["0.0.0.0:143", "[::]:143"])"},
    {"addresses_not_a_list", R"([[listener]]
protocol = 'imap'
addresses = '127.0.0.1:143'
pool = 'a'
)", "CP",
     R"(g.toml:3:13: listener[1].addresses: found a string, wanted a list; use IP addresses with ports, IPv6 in brackets (port 0: any free one), for example: addresses = ["0.0.0.0:143", "[::]:143"])"},
    {"addresses_empty", R"([[listener]]
protocol = 'imap'
addresses = []
pool = 'a'
)", "CP",
     R"(g.toml:3:13: listener[1].addresses: an empty list is not allowed; use IP addresses with ports, IPv6 in brackets (port 0: any free one), for example: addresses = ["0.0.0.0:143", "[::]:143"])"},
    {"address_twice", R"([[listener]]
protocol = 'imap'
addresses = ['[::1]:143', '[0:0::1]:143']
pool = 'a'
)", "CP",
     R"(g.toml:3:27: listener[1].addresses[2]: the address "[::1]:143" is taken by listener[1].addresses[1] (line 3); use another address or port, for example: addresses = ["127.0.0.1:1143"])"},
    {"address_of_two_listeners", R"([[listener]]
protocol = 'imap'
addresses = ['127.0.0.1:143']
pool = 'a'
name = 'first'
)", "CLP",
     R"(g.toml:11:14: listener[2].addresses[1]: the address "127.0.0.1:143" is taken by listener[1].addresses[1] (line 3); use another address or port, for example: addresses = ["127.0.0.1:1143"])"},
    {"address_of_admin", R"([admin]
address = '127.0.0.1:143'
)", "CLP",
     R"(g.toml:2:11: admin.address: the address "127.0.0.1:143" is taken by listener[1].addresses[1] (line 8); use another address or port, for example: address = "127.0.0.1:9144")"},
    {"names_equal", R"([[listener]]
protocol = 'imap'
addresses = ['127.0.0.1:1']
pool = 'a'
name = 'x'
[[listener]]
protocol = 'imap'
addresses = ['127.0.0.1:2']
pool = 'a'
name = 'x'
)", "CP",
     R"(g.toml:10:8: listener[2].name: the name "x" is taken by listener[1].name (line 5); use another one, for example: name = "x-2")"},
    {"default_names_equal", R"([[listener]]
protocol = 'imap'
addresses = ['127.0.0.1:143']
pool = 'a'
[[listener]]
protocol = 'imap'
addresses = ['127.0.0.2:143']
pool = 'a'
)", "CP",
     R"(g.toml:5:1: listener[2].name: the name "imap-143" is taken by listener[1].name (line 1); use another one, for example: name = "imap-143-2")"},
    {"name_invalid", R"([[listener]]
protocol = 'imap'
addresses = ['127.0.0.1:144']
pool = 'a'
name = 'a b'
)", "CP",
     R"(g.toml:5:8: listener[1].name: "a b" is not allowed; use 1 to 64 of A-Z a-z 0-9 _ -, for example: name = "imap-143")"},
    {"tls_misspelt", R"([[listener]]
protocol = 'imap'
addresses = ['127.0.0.1:144']
pool = 'a'
tls = 'start-tls'
)", "CP",
     R"(g.toml:5:7: listener[1].tls: "start-tls" is not allowed; use "starttls" or "implicit", for example: tls = "starttls" (did you mean "starttls"?))"},
    {"tls_boolean", R"([[listener]]
protocol = 'imap'
addresses = ['127.0.0.1:144']
pool = 'a'
tls = true
)", "CP",
     R"(g.toml:5:7: listener[1].tls: found a boolean, wanted a string; use "starttls" or "implicit", for example: tls = "starttls")"},
    {"tls_profile_unknown", R"([[listener]]
protocol = 'imap'
addresses = ['127.0.0.1:144']
pool = 'a'
tls_profile = 'old'
)", "CP",
     R"(g.toml:5:15: listener[1].tls_profile: "old" is not allowed; use "modern", "intermediate" or "legacy", for example: tls_profile = "intermediate")"},
    {"client_ca_without_certificates", R"([[listener]]
protocol = 'imap'
addresses = ['127.0.0.1:143']
pool = 'a'
client_ca_file = 'ca.pem'
)", "CP",
     R"(g.toml:5:18: listener[1].client_ca_file: has no effect with client_certificates = "off"; remove it, or use client_certificates = "request" or "require")"},
    {"proxy_networks_without_protocol", R"([[listener]]
protocol = 'imap'
addresses = ['127.0.0.1:143']
pool = 'a'
proxy_networks = ['10.0.0.0/8']
)", "CP",
     R"(g.toml:5:18: listener[1].proxy_networks: has no effect with proxy_protocol = "off"; remove it, or use proxy_protocol = "v2")"},
    {"proxy_protocol_from_anybody", R"([[listener]]
protocol = 'imap'
addresses = ['127.0.0.1:143']
pool = 'a'
proxy_protocol = 'both'
)", "CP",
     R"(g.toml:5:18: listener[1].proxy_protocol: "both" needs to know whose headers to believe, for example: proxy_networks = ["10.0.0.0/8"])"},
    {"proxy_network_of_a_host", R"([[listener]]
protocol = 'imap'
addresses = ['127.0.0.1:143']
pool = 'a'
proxy_protocol = 'v2'
proxy_networks = ['10.0.0.1/8']
)", "CP",
     R"(g.toml:6:19: listener[1].proxy_networks[1]: "10.0.0.1/8" is not allowed; use IP networks with their prefix's length, or addresses; no bits may be set behind the prefix, for example: proxy_networks = ["10.0.0.0/8", "2001:db8::/32"])"},
    {"client_certificates_without_ca", R"([[listener]]
protocol = 'imap'
addresses = ['127.0.0.1:143']
pool = 'a'
client_certificates = 'request'
)", "CP",
     R"(g.toml:5:23: listener[1].client_certificates: "request" needs to know whom to believe; add the certificates of your CA, for example: client_ca_file = "/etc/gatepost/client-ca.pem")"},
    {"client_certificates_left_aside", R"([[listener]]
protocol = 'imap'
addresses = ['127.0.0.1:143']
pool = 'a'
cleartext_login = 'allow'
client_certificates = 'require'
client_ca_file = 'ca.pem'
)", "CP",
     R"(g.toml:6:23: listener[1].client_certificates: "require" with cleartext_login = "allow" means that a client without a certificate just leaves TLS off; remove cleartext_login, or use client_certificates = "request")"},
    {"cleartext_login_with_implicit", R"([[listener]]
protocol = 'imap'
addresses = ['127.0.0.1:144']
pool = 'a'
tls = 'implicit'
cleartext_login = 'allow'
)", "CP",
     R"(g.toml:6:19: listener[1].cleartext_login: has no effect with tls = "implicit", where nothing is cleartext; remove it, or use tls = "starttls")"},
    {"bare_newline_on_imap", R"([[listener]]
protocol = 'imap'
addresses = ['127.0.0.1:144']
pool = 'a'
bare_newline = 'reject'
)", "CP",
     R"(g.toml:5:16: listener[1].bare_newline: has no effect on imap; remove it, or use protocol = "smtp")"},
    {"pool_missing", R"([[listener]]
protocol = 'imap'
addresses = ['127.0.0.1:144']
pool = 'a'
)", "C",
     R"(g.toml:4:8: listener[1].pool: there is no pool "a"; make one, for example: [pool.a] with members = ["store1.internal:143"])"},
    {"pool_misspelt", R"([[listener]]
protocol = 'imap'
addresses = ['127.0.0.1:144']
pool = 'stors'
[pool.stores]
members = ['b:143']
)", "C",
     R"(g.toml:4:8: listener[1].pool: there is no pool "stors"; there is "stores"; make one, for example: [pool.stors] with members = ["store1.internal:143"] (did you mean "stores"?))"},
    {"pool_unknown", R"([[listener]]
protocol = 'imap'
addresses = ['127.0.0.1:144']
pool = 'b'
)", "CP",
     R"(g.toml:4:8: listener[1].pool: there is no pool "b"; there is "a"; make one, for example: [pool.b] with members = ["store1.internal:143"])"},
    {"pool_of_two_protocols", R"([[listener]]
protocol = 'pop3'
addresses = ['127.0.0.1:144']
pool = 'a'
)", "CLP",
     R"(g.toml:11:8: listener[2].pool: pool "a" serves pop3 (line 1), and a backend's port speaks one protocol; use a pool of its own for imap, for example: pool = "a-imap")"},
    {"pool_is_number", "pool = 5\n", "CL",
     R"(g.toml:1:8: pool: found an integer, wanted a table, which begins with [pool.NAME])"},
    {"pool_without_name", R"([pool]
members = ['b:143']
)", "CL",
     R"(g.toml:2:11: pool.members: found a list, wanted a table, which begins with [pool.NAME])"},
    {"pool_name_invalid", R"([pool.'a b']
members = ['b:143']
)", "CLP",
     R"(g.toml:1:7: pool."a b": a pool's name is 1 to 64 of A-Z a-z 0-9 _ -, for example: [pool.stores])"},
    {"members_missing", "[pool.a]\n", "CL",
     R"(g.toml:1:1: pool.a.members: is missing; use "HOST:PORT" (IPv6 in brackets), "dns:NAME:PORT" for all addresses of a name, each with a weight from 1 to 100 where it is not 1 ("HOST:PORT weight=N"), or "srv:NAME", for example: members = ["store1.internal:143", "store2.internal:143 weight=2"])"},
    {"member_without_port", R"([pool.a]
members = ['b']
)", "CL",
     R"(g.toml:2:12: pool.a.members[1]: "b" is not allowed; use "HOST:PORT" (IPv6 in brackets), "dns:NAME:PORT" for all addresses of a name, each with a weight from 1 to 100 where it is not 1 ("HOST:PORT weight=N"), or "srv:NAME", for example: members = ["store1.internal:143", "store2.internal:143 weight=2"])"},
    {"member_port_zero", R"([pool.a]
members = ['b:0']
)", "CL",
     R"(g.toml:2:12: pool.a.members[1]: "b:0" is not allowed; use "HOST:PORT" (IPv6 in brackets), "dns:NAME:PORT" for all addresses of a name, each with a weight from 1 to 100 where it is not 1 ("HOST:PORT weight=N"), or "srv:NAME", for example: members = ["store1.internal:143", "store2.internal:143 weight=2"])"},
    {"member_bad_address", R"([pool.a]
members = ['127.0.0.256:143']
)", "CL",
     R"(g.toml:2:12: pool.a.members[1]: "127.0.0.256:143" is not allowed; use "HOST:PORT" (IPv6 in brackets), "dns:NAME:PORT" for all addresses of a name, each with a weight from 1 to 100 where it is not 1 ("HOST:PORT weight=N"), or "srv:NAME", for example: members = ["store1.internal:143", "store2.internal:143 weight=2"])"},
    {"verify_type", R"([pool.a]
members = ['b:143']
tls = 'implicit'
verify = 'no'
)", "CL",
     R"(g.toml:4:10: pool.a.verify: found a string, wanted a boolean; use true or false, for example: verify = true)"},
    {"verify_without_tls", R"([pool.a]
members = ['b:143']
verify = false
)", "CL",
     R"(g.toml:3:10: pool.a.verify: has no effect with tls = "none"; remove it, or use tls = "starttls" or "implicit")"},
    {"ca_file_without_tls", R"([pool.a]
members = ['b:143']
ca_file = 'x'
)", "CL",
     R"(g.toml:3:11: pool.a.ca_file: has no effect with tls = "none"; remove it, or use tls = "starttls" or "implicit")"},
    {"server_name_without_tls", R"([pool.a]
members = ['b:143']
tls = 'none'
server_name = 'x'
)", "CL",
     R"(g.toml:4:15: pool.a.server_name: has no effect with tls = "none"; remove it, or use tls = "starttls" or "implicit")"},
    {"pin_without_tls", R"([pool.a]
members = ['b:143']
pin_sha256 = ['Xvl6yWJGUVMHZkmXAbgDyJfDVtOXMQqJDcqPMHpRqmQ=']
)", "CL",
     R"(g.toml:3:14: pool.a.pin_sha256: has no effect with tls = "none"; remove it, or use tls = "starttls" or "implicit")"},
    {"minimum_version_without_tls", R"([pool.a]
members = ['b:143']
tls_minimum_version = '1.3'
)", "CL",
     R"(g.toml:3:23: pool.a.tls_minimum_version: has no effect with tls = "none"; remove it, or use tls = "starttls" or "implicit")"},
    {"pin_in_hexadecimal", R"([pool.a]
members = ['b:143']
tls = 'starttls'
pin_sha256 = ['5ef97ac962465153076649970']
)", "CL",
     R"(g.toml:4:15: pool.a.pin_sha256[1]: "5ef97ac962465153076649970" is not allowed; use SHA-256 digests of public keys (SubjectPublicKeyInfo) in base64, of 44 characters each, for example: pin_sha256 = ["Xvl6yWJGUVMHZkmXAbgDyJfDVtOXMQqJDcqPMHpRqmQ="])"},
    {"pin_that_is_not_canonical", R"([pool.a]
members = ['b:143']
tls = 'starttls'
pin_sha256 = ['Xvl6yWJGUVMHZkmXAbgDyJfDVtOXMQqJDcqPMHpRqmR=']
)", "CL",
     R"(g.toml:4:15: pool.a.pin_sha256[1]: "Xvl6yWJGUVMHZkmXAbgDyJfDVtOXMQqJDcqPMHpRqmR=" is not allowed; use SHA-256 digests of public keys (SubjectPublicKeyInfo) in base64, of 44 characters each, for example: pin_sha256 = ["Xvl6yWJGUVMHZkmXAbgDyJfDVtOXMQqJDcqPMHpRqmQ="])"},
    {"client_certificate_without_key", R"([pool.a]
members = ['b:143']
tls = 'starttls'
client_certificate = 'x'
)", "CL",
     R"(g.toml:4:22: pool.a.client_certificate: needs client_key beside it, for example: client_key = "/etc/gatepost/backend-client.key")"},
    {"client_key_without_certificate", R"([pool.a]
members = ['b:143']
tls = 'starttls'
client_key = 'x'
)", "CL",
     R"(g.toml:4:14: pool.a.client_key: needs client_certificate beside it, for example: client_certificate = "/etc/gatepost/backend-client.pem")"},
    {"server_name_invalid", R"([pool.a]
members = ['b:143']
tls = 'implicit'
server_name = 'a/b'
)", "CL",
     R"(g.toml:4:15: pool.a.server_name: "a/b" is not allowed; use a host name or IP address, for example: server_name = "store.example.org")"},
    {"login_none_for_imap", R"([pool.a]
members = ['b:143']
login = 'none'
[[authority]]
kind = 'passwords'
file = 'p'
)", "CL",
     R"(g.toml:3:9: pool.a.login: "none" is for SMTP only, and listener[1] (line 10) uses this pool for imap; use "same", for example: login = "same")"},
    {"login_none_is_open_relay", R"([[listener]]
protocol = 'smtp'
addresses = ['127.0.0.1:144']
pool = 'a'
[pool.a]
members = ['b:143']
login = 'none'
)", "C",
     R"(g.toml:7:9: pool.a.login: "none" means that nobody checks the password and anybody can relay mail, where the backend is the authority, as for listener "smtp-144"; use login = "same", or another authority, for example: [[authority]] with kind = "passwords")"},
    {"relay_on_imap", R"([[listener]]
protocol = 'imap'
addresses = ['127.0.0.1:144']
pool = 'a'
relay = 'local-domains'
)", "CP",
     R"(g.toml:5:9: listener[1].relay: has no effect on imap; remove it, or use protocol = "smtp")"},
    {"local_domains_without_relay", R"([[listener]]
protocol = 'smtp'
addresses = ['127.0.0.1:144']
pool = 'a'
local_domains = ['example.org']
)", "CP",
     R"(g.toml:5:17: listener[1].local_domains: has no effect with relay = "authenticated", which takes nothing without a login; remove it, or use relay = "local-domains")"},
    {"relay_without_domains", R"([[listener]]
protocol = 'smtp'
addresses = ['127.0.0.1:144']
pool = 'a'
relay = 'local-domains'
inbound_pool = 'mx'
[pool.mx]
members = ['b:25']
login = 'none'
)", "CP",
     R"(g.toml:5:9: listener[1].relay: "local-domains" needs to know which, for example: local_domains = ["example.org"])"},
    {"relay_without_pool", R"([[listener]]
protocol = 'smtp'
addresses = ['127.0.0.1:144']
pool = 'a'
relay = 'local-domains'
local_domains = ['example.org']
)", "CP",
     R"(g.toml:5:9: listener[1].relay: "local-domains" needs to know where that mail goes, for example: inbound_pool = "mx")"},
    {"inbound_pool_logs_in", R"([[listener]]
protocol = 'smtp'
addresses = ['127.0.0.1:144']
pool = 'a'
relay = 'local-domains'
local_domains = ['example.org']
inbound_pool = 'a'
)", "CP",
     R"(g.toml:7:16: listener[1].inbound_pool: pool "a" logs in, and mail from outside has no credentials; use a pool with login = "none", for example: [pool.mx] with members = ["mx.internal:25"], login = "none" and forward_client_address = "proxy-v2")"},
    {"inbound_pool_unknown", R"([[listener]]
protocol = 'smtp'
addresses = ['127.0.0.1:144']
pool = 'a'
relay = 'local-domains'
local_domains = ['example.org']
inbound_pool = 'mx'
)", "CP",
     R"(g.toml:7:16: listener[1].inbound_pool: there is no pool "mx"; there is "a"; make one, for example: [pool.mx] with members = ["store1.internal:143"])"},
    {"local_domain_with_wildcard", R"([[listener]]
protocol = 'smtp'
addresses = ['127.0.0.1:144']
pool = 'a'
relay = 'local-domains'
local_domains = ['*.example.org']
inbound_pool = 'mx'
[pool.mx]
members = ['b:25']
login = 'none'
)", "CP",
     R"(g.toml:6:18: listener[1].local_domains[1]: "*.example.org" is not allowed; use domain names of mail addresses, no final dot, no wildcard, for example: local_domains = ["example.org", "example.net"])"},
    {"certificate_user_without_certificates", R"([[listener]]
protocol = 'imap'
addresses = ['127.0.0.1:144']
pool = 'a'
client_certificate_user = 'email'
[pool.a]
members = ['b:143']
master_user = 'm'
master_password_file = 'p'
)", "C",
     R"(g.toml:5:27: listener[1].client_certificate_user: has no effect with client_certificates = "off"; remove it, or use client_certificates = "request" or "require")"},
    {"certificate_map_missing", R"([[listener]]
protocol = 'imap'
addresses = ['127.0.0.1:144']
pool = 'a'
client_certificates = 'request'
client_ca_file = 'ca.pem'
client_certificate_user = 'map'
[pool.a]
members = ['b:143']
master_user = 'm'
master_password_file = 'p'
)", "C",
     R"(g.toml:7:27: listener[1].client_certificate_user: "map" needs the file that says whose a certificate is, for example: client_certificate_map = "/etc/gatepost/certificate-users")"},
    {"certificate_map_unused", R"([[listener]]
protocol = 'imap'
addresses = ['127.0.0.1:144']
pool = 'a'
client_certificates = 'request'
client_ca_file = 'ca.pem'
client_certificate_user = 'cn'
client_certificate_map = 'm'
[pool.a]
members = ['b:143']
master_user = 'm'
master_password_file = 'p'
)", "C",
     R"(g.toml:8:26: listener[1].client_certificate_map: has no effect with client_certificate_user = "cn"; remove it, or use client_certificate_user = "map")"},
    {"certificate_login_without_account", R"([[listener]]
protocol = 'imap'
addresses = ['127.0.0.1:144']
pool = 'a'
client_certificates = 'request'
client_ca_file = 'ca.pem'
client_certificate_user = 'email'
[pool.a]
members = ['b:143']
)", "C",
     R"(g.toml:7:27: listener[1].client_certificate_user: a client that logs in with its certificate has no password for the backend; let a master user speak for it, for example: [pool.a] with master_user = "gatepost" and master_password_file = "/etc/gatepost/master-password", or use a password file: [[authority]] with kind = "passwords")"},
    {"login_master_lets_everybody_in", R"([pool.a]
members = ['b:143']
login = 'master'
master_user = 'm'
master_password_file = 'p'
)", "CL",
     R"(g.toml:3:9: pool.a.login: "master" means that nobody checks a password and anybody may be everybody, where the backend is the authority, as for listener "imap-143"; use another, for example: [[authority]] with kind = "passwords", or login = "same", with which master_user speaks for clients that log in with a certificate alone)"},
    {"login_master_without_account", R"([pool.a]
members = ['b:143']
login = 'master'
[[authority]]
kind = 'passwords'
file = 'f'
)", "CL",
     R"(g.toml:3:9: pool.a.login: "master" needs the account, for example: master_user = "gatepost" and master_password_file = "/etc/gatepost/master-password")"},
    {"ready_connections_for_nobody", R"([pool.a]
members = ['b:143']
forward_client_address = 'proxy-v2'
ready_connections = 2
)", "CL",
     R"(g.toml:4:21: pool.a.ready_connections: a connection that lies ready can't say for whom it was made, and forward_client_address = "proxy-v2" says so first of all; remove one of them, for example: ready_connections = 0 with connect_early = true)"},
    {"xclient_login_beside_a_login", R"([pool.a]
members = ['b:25']
xclient_login = true
)", "CL",
     R"(g.toml:3:17: pool.a.xclient_login: takes the place of a login at the backend and goes with XCLIENT; remove it, or use login = "none" and forward_client_address = "native")"},
    {"master_user_without_password", R"([pool.a]
members = ['b:143']
master_user = 'm'
)", "CL",
     R"(g.toml:3:15: pool.a.master_user: needs a password, for example: master_password_file = "/etc/gatepost/master-password")"},
    {"master_password_without_user", R"([pool.a]
members = ['b:143']
master_password_file = 'm'
)", "CL",
     R"(g.toml:3:24: pool.a.master_password_file: has no effect without master_user; remove it, or add, for example: master_user = "gatepost")"},
    {"master_user_with_login_none", R"([[listener]]
protocol = 'smtp'
addresses = ['127.0.0.1:144']
pool = 'a'
[pool.a]
members = ['b:143']
login = 'none'
master_user = 'm'
master_password_file = 'p'
[[authority]]
kind = 'passwords'
file = 'f'
)", "C",
     R"(g.toml:8:15: pool.a.master_user: has no effect with login = "none"; remove it, or use login = "master")"},
    {"fixed_without_account", R"([pool.a]
members = ['b:143']
login = 'fixed'
account = 'a'
[[authority]]
kind = 'passwords'
file = 'f'
)", "CL",
     R"(g.toml:3:9: pool.a.login: "fixed" needs the account, for example: account = "relay" and account_password_file = "/etc/gatepost/relay-password")"},
    {"fixed_lets_everybody_in", R"([pool.a]
members = ['b:143']
login = 'fixed'
account = 'a'
account_password_file = 'p'
)", "CL",
     R"(g.toml:3:9: pool.a.login: "fixed" means that nobody checks a password and anybody uses the account, where the backend is the authority, as for listener "imap-143"; use another, for example: [[authority]] with kind = "passwords", or login = "same")"},
    {"account_without_fixed", R"([pool.a]
members = ['b:143']
account = 'a'
)", "CL",
     R"(g.toml:3:11: pool.a.account: has no effect with login = "same"; remove it, or use login = "fixed")"},
    {"separator_without_master", R"([pool.a]
members = ['b:143']
master_user_separator = '*'
)", "CL",
     R"(g.toml:3:25: pool.a.master_user_separator: has no effect without master_user; remove it, or add, for example: master_user = "gatepost")"},
    {"separator_in_names", R"([pool.a]
members = ['b:143']
master_user = 'm'
master_password_file = 'p'
master_user_separator = '@'
)", "CL",
     R"(g.toml:5:25: pool.a.master_user_separator: "@" is not allowed; use one printable character, no letter or digit and none of @ . - _, for example: master_user_separator = "*")"},
    {"login_mechanism_without_whom", R"([pool.a]
members = ['b:143']
login_mechanism = 'login'
master_user = 'm'
master_password_file = 'p'
)", "CL",
     R"(g.toml:3:19: pool.a.login_mechanism: "login" can't say for whom master_user logs in; use login_mechanism = "plain", or a name that says it, for example: master_user_separator = "*")"},
    {"backend_user_without_user", R"([pool.a]
members = ['b:143']
backend_user = '%d'
)", "CL",
     R"(g.toml:3:16: pool.a.backend_user: "%d" is not allowed; use text with %u (the name), %n (without its domain) or %d (its domain) in it, %u or %n among them, for example: backend_user = "%n")"},
    {"mechanism_unknown", R"([[listener]]
protocol = 'imap'
addresses = ['127.0.0.1:144']
mechanisms = ['PLAIN', 'SCRAM-SHA-256-PLUS']
pool = 'a'
[pool.a]
members = ['b:143']
)", "C",
     R"(g.toml:4:24: listener[1].mechanisms[2]: "SCRAM-SHA-256-PLUS" is not allowed; use any of "PLAIN", "LOGIN", "EXTERNAL", "XOAUTH2", "OAUTHBEARER", "SCRAM-SHA-1", "SCRAM-SHA-256", "CRAM-MD5" and "APOP", for example: mechanisms = ["PLAIN", "OAUTHBEARER"])"},
    {"timeout_integer", R"([pool.a]
members = ['b:143']
connect_timeout = 5
)", "CL",
     R"(g.toml:3:19: pool.a.connect_timeout: found an integer, wanted a string; use a number with its unit (ms, s, m or h) from "100ms" to "5m", for example: connect_timeout = "5s")"},
    {"timeout_without_unit", R"([pool.a]
members = ['b:143']
connect_timeout = '5'
)", "CL",
     R"(g.toml:3:19: pool.a.connect_timeout: "5" is not allowed; use a number with its unit (ms, s, m or h) from "100ms" to "5m", for example: connect_timeout = "5s" (did you mean "5s"?))"},
    {"timeout_negative", R"([pool.a]
members = ['b:143']
connect_timeout = '-5s'
)", "CL",
     R"(g.toml:3:19: pool.a.connect_timeout: "-5s" is not allowed; use a number with its unit (ms, s, m or h) from "100ms" to "5m", for example: connect_timeout = "5s")"},
    {"timeout_zero", R"([pool.a]
members = ['b:143']
login_timeout = '0s'
)", "CL",
     R"(g.toml:3:17: pool.a.login_timeout: "0s" is not allowed; use a number with its unit (ms, s, m or h) from "100ms" to "10m", for example: login_timeout = "30s")"},
    {"timeout_too_long", R"([pool.a]
members = ['b:143']
login_timeout = '2h'
)", "CL",
     R"(g.toml:3:17: pool.a.login_timeout: "2h" is not allowed; use a number with its unit (ms, s, m or h) from "100ms" to "10m", for example: login_timeout = "30s")"},
    {"timeout_overflow", R"([pool.a]
members = ['b:143']
login_timeout = '99999999999999999999h'
)", "CL",
     R"(g.toml:3:17: pool.a.login_timeout: "99999999999999999999h" is not allowed; use a number with its unit (ms, s, m or h) from "100ms" to "10m", for example: login_timeout = "30s")"},
    {"authority_kind", R"([[authority]]
kind = 'password'
)", "CLP",
     R"(g.toml:2:8: authority[1].kind: "password" is not allowed; use "backend", "passwords", "http", "login" or "dovecot", for example: kind = "passwords" (did you mean "passwords"?))"},
    {"authority_without_file", R"([[authority]]
kind = 'passwords'
)", "CLP",
     R"(g.toml:1:1: authority[1].file: is missing, and kind = "passwords" needs it, for example: file = "/etc/gatepost/passwords")"},
    {"authority_as_a_table", R"([authority]
kind = 'backend'
)", "CLP",
     R"(g.toml:1:1: authority: found a table, wanted a list of tables, which begins with [[authority]])"},
    {"authority_without_kind", R"([[authority]]
file = 'p'
)", "CLP",
     R"(g.toml:1:1: authority[1].kind: is missing; use "backend", "passwords", "http", "login" or "dovecot", for example: kind = "passwords")"},
    {"authority_without_urls", R"([[authority]]
kind = 'http'
)", "CLP",
     R"(g.toml:1:1: authority[1].urls: is missing, and kind = "http" needs it, for example: urls = ["http://127.0.0.1:8080/auth"])"},
    {"authority_key_of_another_kind", R"([[authority]]
kind = 'backend'
timeout = '1s'
)", "CLP",
     R"(g.toml:3:11: authority[1].timeout: has no effect with kind = "backend"; remove it, or use kind = "http" or "dovecot")"},
    {"authority_url", R"([[authority]]
kind = 'http'
urls = ['http://a/', 'ftp://a/']
)", "CLP",
     R"(g.toml:3:22: authority[1].urls[2]: "ftp://a/" is not allowed; use http or https URLs, for example: urls = ["http://127.0.0.1:8080/auth"])"},
    {"authority_header", R"([[authority]]
kind = 'http'
urls = ['http://a/']
headers = ['no colon']
)", "CLP",
     R"(g.toml:4:12: authority[1].headers[1]: "no colon" is not allowed; use HTTP header fields, for example: headers = ["X-Auth-Key: 4711"])"},
    {"authority_ca_without_https", R"([[authority]]
kind = 'http'
urls = ['http://a/']
ca_file = 'c'
)", "CLP",
     R"(g.toml:4:11: authority[1].ca_file: has no effect without an https URL; remove it, or use one, for example: urls = ["https://auth.internal/mail"])"},
    {"authority_login_without_pool", R"([[authority]]
kind = 'login'
)", "CLP",
     R"(g.toml:1:1: authority[1].pool: is missing, and kind = "login" needs it, for example: pool = "stores")"},
    {"authority_login_at_no_pool", R"([[authority]]
kind = 'login'
pool = 'b'
)", "CLP",
     R"(g.toml:3:8: authority[1].pool: there is no pool "b"; make one, for example: [pool.b] with members = ["store1.internal:143"])"},
    {"authority_login_in_another_protocol", R"([[authority]]
kind = 'login'
pool = 'a'
protocol = 'pop3'
)", "CLP",
     R"(g.toml:3:8: authority[1].pool: pool "a" serves imap (line 8), and a backend's port speaks one protocol; use protocol = "imap", or another pool)"},
    {"authority_login_where_there_is_none", R"([[authority]]
kind = 'login'
pool = 'b'
protocol = 'smtp'
[pool.b]
members = ['c:25']
login = 'none'
)", "CLP",
     R"(g.toml:3:8: authority[1].pool: pool "b" has login = "none", so that anybody could log in there; use one with login = "same", for example one of its own with the same members)"},
    {"authority_urls_of_another_kind", R"([[authority]]
kind = 'backend'
max_concurrent = 3
)", "CLP",
     R"(g.toml:3:18: authority[1].max_concurrent: has no effect with kind = "backend"; remove it, or use kind = "http", "login" or "dovecot")"},
    {"authority_for_no_listener", R"([[authority]]
kind = 'backend'
listeners = ['imap-144']
)", "CLP",
     R"(g.toml:3:14: authority[1].listeners[1]: no [[listener]] is named "imap-144"; there is "imap-143" (did you mean "imap-143"?))"},
    {"authority_domain", R"([[authority]]
kind = 'backend'
domains = ['@example.org']
)", "CLP",
     R"(g.toml:3:12: authority[1].domains[1]: "@example.org" is not allowed; use domain names, for example: domains = ["example.org"])"},
    {"authority_name_twice", R"([[authority]]
kind = 'backend'
domains = ['example.org']
[[authority]]
kind = 'backend'
)", "CLP",
     R"(g.toml:4:1: authority[2].name: the name "backend" is taken by authority[1] (line 1); use another one, for example: name = "backend-2")"},
    {"authority_never_asked", R"([[authority]]
name = 'all'
kind = 'backend'
listeners = ['imap-143']
[[authority]]
kind = 'passwords'
file = 'p'
listeners = ['imap-143']
domains = ['example.org']
)", "CLP",
     R"(g.toml:5:1: authority[2]: is never asked, since authority[1] (line 1) decides about all of its clients; put it first, or say of the other for whom it is, for example: domains = ["example.org"])"},
    {"login_master_where_one_authority_is_the_backend", R"([pool.a]
members = ['b:143']
login = 'master'
master_user = 'm'
master_password_file = 'p'
[[authority]]
kind = 'passwords'
file = 'p'
domains = ['example.org']
[[authority]]
kind = 'backend'
listeners = ['imap-143']
)", "CL",
     R"(g.toml:3:9: pool.a.login: "master" means that nobody checks a password and anybody may be everybody, where the backend is the authority, as for listener "imap-143"; use another, for example: [[authority]] with kind = "passwords", or login = "same", with which master_user speaks for clients that log in with a certificate alone)"},
    {"authority_without_socket", R"([[authority]]
kind = 'dovecot'
)", "CLP",
     R"(g.toml:1:1: authority[1].socket: is missing, and kind = "dovecot" needs it, for example: socket = "/run/dovecot/auth-client")"},
    {"authority_socket", R"([[authority]]
kind = 'dovecot'
socket = 'run/dovecot/auth-client'
)", "CLP",
     R"(g.toml:3:10: authority[1].socket: "run/dovecot/auth-client" is not allowed; use an absolute path of at most 107 bytes, or HOST:PORT (IPv6 in brackets), for example: socket = "/run/dovecot/auth-client")"},
    {"mechanism_that_tells_the_backend_no_password", R"([[listener]]
protocol = 'imap'
addresses = ['127.0.0.1:143']
mechanisms = ['PLAIN', 'SCRAM-SHA-256']
pool = 'a'
[[authority]]
kind = 'dovecot'
socket = '/s'
)", "CP",
     R"(g.toml:4:24: listener[1].mechanisms[2]: "SCRAM-SHA-256" tells no password, and pool "a" has no login without it; let a master user speak for clients, for example: [pool.a] with master_user = "gatepost" and master_password_file = "/etc/gatepost/master-password"; or have Dovecot's passdb return pass, and say so: [[authority]] with kind = "dovecot" and returns_pass = true)"},
    {"certificate_that_tells_the_backend_no_password", R"([[listener]]
protocol = 'imap'
addresses = ['127.0.0.1:143']
client_certificates = 'request'
client_ca_file = 'ca'
client_certificate_user = 'email'
pool = 'a'
[[authority]]
kind = 'dovecot'
socket = '/s'
)", "CP",
     R"(g.toml:6:27: listener[1].client_certificate_user: a certificate tells no password, and pool "a" has no login without it; let a master user speak for clients, for example: [pool.a] with master_user = "gatepost" and master_password_file = "/etc/gatepost/master-password"; or have Dovecot's passdb return pass, and say so: [[authority]] with kind = "dovecot" and returns_pass = true)"},
    {"cram_md5_that_nobody_has", R"([[listener]]
protocol = 'imap'
addresses = ['127.0.0.1:143']
mechanisms = ['CRAM-MD5']
pool = 'a'
)", "CP",
     R"(g.toml:4:15: listener[1].mechanisms[1]: "CRAM-MD5" needs an authority for all users of this listener that knows their passwords; remove it, or use, for example: [[authority]] with kind = "dovecot" and socket = "/run/dovecot/auth-client", or with kind = "http" and digest_mechanisms = ["CRAM-MD5"], and without domains)"},
    {"cram_md5_that_the_service_does_not_check", R"([[listener]]
protocol = 'imap'
addresses = ['127.0.0.1:143']
mechanisms = ['PLAIN', 'CRAM-MD5']
pool = 'a'
[[authority]]
kind = 'http'
urls = ['http://a/']
)", "CP",
     R"(g.toml:4:24: listener[1].mechanisms[2]: "CRAM-MD5" needs an authority for all users of this listener that knows their passwords; remove it, or use, for example: [[authority]] with kind = "dovecot" and socket = "/run/dovecot/auth-client", or with kind = "http" and digest_mechanisms = ["CRAM-MD5"], and without domains)"},
    {"apop_that_nobody_checks", R"([[listener]]
protocol = 'pop3'
addresses = ['127.0.0.1:110']
mechanisms = ['APOP']
pool = 'a'
[[authority]]
kind = 'http'
urls = ['http://a/']
digest_mechanisms = ['CRAM-MD5']
)", "CP",
     R"(g.toml:4:15: listener[1].mechanisms[1]: "APOP" needs an authority that knows the passwords; remove it, or use, for example: [[authority]] with kind = "http" and digest_mechanisms = ["APOP"])"},
    {"apop_of_another_protocol", R"([[listener]]
protocol = 'imap'
addresses = ['127.0.0.1:143']
mechanisms = ['APOP']
pool = 'a'
)", "CP",
     R"(g.toml:4:15: listener[1].mechanisms[1]: "APOP" is a command of POP3; remove it, or use, for example: "CRAM-MD5")"},
    {"digest_mechanism_that_is_none", R"([[authority]]
kind = 'http'
urls = ['http://a/']
digest_mechanisms = ['SCRAM-SHA-1']
)", "CLP",
     R"(g.toml:4:22: authority[1].digest_mechanisms[1]: "SCRAM-SHA-1" is not allowed; use any of "CRAM-MD5" and "APOP", for example: digest_mechanisms = ["CRAM-MD5", "APOP"])"},
    {"digest_mechanisms_of_another_kind", R"([[authority]]
kind = 'dovecot'
socket = '/s'
digest_mechanisms = ['CRAM-MD5']
)", "CLP",
     R"(g.toml:4:21: authority[1].digest_mechanisms: has no effect with kind = "dovecot"; remove it, or use kind = "http")"},
    {"apop_without_pop3", R"([[authority]]
kind = 'http'
urls = ['http://a/']
digest_mechanisms = ['CRAM-MD5', 'APOP']
)", "CLP",
     R"(g.toml:4:34: authority[1].digest_mechanisms[2]: "APOP" has no effect, since it decides about no listener with protocol = "pop3"; remove it, or use, for example: "CRAM-MD5")"},
    {"cram_md5_for_some_domains", R"([[authority]]
kind = 'http'
urls = ['http://a/']
domains = ['example.org']
digest_mechanisms = ['CRAM-MD5']
)", "CLP",
     R"(g.toml:5:22: authority[1].digest_mechanisms[1]: "CRAM-MD5" has no effect, since the server speaks before it knows for whom: the authority must be the first one of a listener, and without domains; remove it, or put the authority first)"},
    {"inbound_authority_that_is_none", R"([[listener]]
protocol = 'smtp'
addresses = ['127.0.0.1:25']
relay = 'local-domains'
local_domains = ['example.org']
inbound_pool = 'mx'
inbound_authority = 'recipient'
pool = 'a'
[pool.mx]
members = ['b:25']
login = 'none'
[[authority]]
kind = 'backend'
name = 'recipients'
)", "CP",
     R"(g.toml:7:21: listener[1].inbound_authority: there is no authority "recipient"; make one, for example: [[authority]] with name = "recipient", kind = "http" and urls = ["http://127.0.0.1:8080/auth"] (did you mean "recipients"?))"},
    {"inbound_authority_of_another_kind", R"([[listener]]
protocol = 'smtp'
addresses = ['127.0.0.1:25']
relay = 'local-domains'
local_domains = ['example.org']
inbound_pool = 'mx'
inbound_authority = 'backend'
pool = 'a'
[pool.mx]
members = ['b:25']
login = 'none'
[[authority]]
kind = 'backend'
)", "CP",
     R"(g.toml:7:21: listener[1].inbound_authority: authority "backend" has kind = "backend", which knows nothing of recipients; use one with kind = "http")"},
    {"inbound_authority_without_inbound_mail", R"([[listener]]
protocol = 'smtp'
addresses = ['127.0.0.1:25']
inbound_authority = 'http'
pool = 'a'
[[authority]]
kind = 'http'
urls = ['http://a/']
)", "CP",
     R"(g.toml:4:21: listener[1].inbound_authority: has no effect with relay = "authenticated", which takes nothing without a login; remove it, or use relay = "local-domains")"},
    {"authority_file_without_effect", R"([[authority]]
kind = 'backend'
file = 'p'
)", "CLP",
     R"(g.toml:3:8: authority[1].file: has no effect with kind = "backend"; remove it, or use kind = "passwords")"},
    {"limit_negative", R"([limits]
max_connections = -1
)", "CLP",
     R"(g.toml:2:19: limits.max_connections: -1 is not allowed; use an integer from 0 to 1000000, for example: max_connections = 20000)"},
    {"limit_zero", R"([limits]
max_connections_per_address = 0
)", "CLP",
     R"(g.toml:2:31: limits.max_connections_per_address: 0 is not allowed; use an integer from 1 to 1000000, for example: max_connections_per_address = 100)"},
    {"throttle_network", R"([throttle]
exempt_networks = ['192.0.2.1/24']
)", "CLP",
     R"(g.toml:2:20: throttle.exempt_networks[1]: "192.0.2.1/24" is not allowed; use IP networks with their prefix's length, or addresses; no bits may be set behind the prefix, for example: exempt_networks = ["192.0.2.0/24", "2001:db8::/32"])"},
    {"redis_without_a_key", R"([throttle]
redis = 'redis.internal:6379'
)", "CLP",
     R"(g.toml:2:9: throttle.redis: needs a secret that all gateways have, so that Redis holds no names; make a file (openssl rand -hex 32), for example: shared_key_file = "/etc/gatepost/throttle.key")"},
    {"key_without_redis", R"([throttle]
shared_key_file = 'k'
)", "CLP",
     R"(g.toml:2:19: throttle.shared_key_file: has no effect without redis; remove it, or add, for example: redis = "redis.internal:6379")"},
    {"referral_hosts_alone", R"([pool.a]
members = ['a:143']
referral_hosts = ['*.internal']
)", "CL",
     R"(g.toml:3:18: pool.a.referral_hosts: needs follow_referrals beside it, for example: follow_referrals = 1)"},
    {"policy_without_a_nonce", R"([policy]
urls = ['http://policy.internal:8084/']
)", "CLP",
     R"(g.toml:1:1: policy.nonce_file: is missing; use a file's path, for example: nonce_file = "/etc/gatepost/policy-nonce")"},
    {"policy_ca_without_https", R"([policy]
urls = ['http://policy.internal:8084/']
nonce_file = 'n'
ca_file = 'ca'
)", "CLP",
     R"(g.toml:4:11: policy.ca_file: has no effect without an https URL; remove it, or use one, for example: urls = ["https://policy.internal:8084/"])"},
    {"policy_hash_bits", R"([policy]
urls = ['http://policy.internal:8084/']
nonce_file = 'n'
hash_bits = 0
)", "CLP",
     R"(g.toml:4:13: policy.hash_bits: 0 is not allowed; use an integer from 1 to 256, for example: hash_bits = 12)"},
    {"redis_user_without_a_password", R"([throttle]
redis = '/r'
shared_key_file = 'k'
redis_user = 'gatepost'
)", "CLP",
     R"(g.toml:4:14: throttle.redis_user: needs the user's password, for example: redis_password_file = "/etc/gatepost/redis-password")"},
    {"redis_user_alone", R"([throttle]
redis_user = 'gatepost'
)", "CLP",
     R"(g.toml:2:14: throttle.redis_user: has no effect without redis; remove it, or add, for example: redis = "redis.internal:6379")"},
    {"throttle_half_life", R"([throttle]
half_life = "0s"
)", "CLP",
     R"(g.toml:2:13: throttle.half_life: "0s" is not allowed; use a number with its unit (ms, s, m or h) from "1s" to "24h", for example: half_life = "30m")"},
    {"limit_float", R"([limits]
max_failed_logins = 2.5
)", "CLP",
     R"(g.toml:2:21: limits.max_failed_logins: found a floating-point number, wanted an integer; use an integer from 1 to 100, for example: max_failed_logins = 5)"},
    {"limit_too_large", R"([limits]
max_line_bytes = 9223372036854775807
)", "CLP",
     R"(g.toml:2:18: limits.max_line_bytes: 9223372036854775807 is not allowed; use an integer from 1024 to 1048576, for example: max_line_bytes = 8192)"},
    {"idle_timeout_short", R"([idle_timeout]
imap = '999ms'
)", "CLP",
     R"(g.toml:2:8: idle_timeout.imap: "999ms" is not allowed; use a number with its unit (ms, s, m or h) from "1s" to "24h", for example: imap = "31m")"},
    {"log_level", R"([log]
level = 'warn'
)", "CLP",
     R"(g.toml:2:9: log.level: "warn" is not allowed; use "debug", "info", "warning" or "error", for example: level = "info" (did you mean "warning"?))"},
    {"log_format_date", R"([log]
format = 2024-01-01
)", "CLP",
     R"(g.toml:2:10: log.format: found a date, wanted a string; use "logfmt" or "json", for example: format = "json")"},
    {"log_is_list", "[[log]]\n", "CLP",
     R"(g.toml:1:1: log: found a list, wanted a table, which begins with [log])"},
    {"admin_address", R"([admin]
address = 'on'
)", "CLP",
     R"(g.toml:2:11: admin.address: "on" is not allowed; use an IP address with a port, or "off", for example: address = "127.0.0.1:9143")"},
    {"member_is_own_listener", R"([[listener]]
protocol = 'imap'
addresses = ['192.0.2.1:143', '0.0.0.0:1143', '[::]:1144']
pool = 'a'
[pool.a]
members = ['192.0.2.1:143']
)", "C",
     R"(g.toml:6:12: pool.a.members[1]: is this gateway's own listener[1] (192.0.2.1:143): sessions would go in circles; use the backend's address, for example: members = ["store1.internal:143"])"},
    {"member_is_own_listener_of_all", R"([[listener]]
protocol = 'imap'
addresses = ['0.0.0.0:143', '[::]:1143', '127.0.0.1:1144']
pool = 'a'
[pool.a]
members = ['192.0.2.1:143', 'localhost:143', '[::1]:143', '127.0.0.1:1143', 'dns:b:143', '127.0.0.2:1144', '127.0.0.2:143']
)", "C",
     R"(g.toml:6:108: pool.a.members[7]: is this gateway's own listener[1] (0.0.0.0:143): sessions would go in circles; use the backend's address, for example: members = ["store1.internal:143"])"},
    {"member_is_own_listener_of_version_6", R"([[listener]]
protocol = 'imap'
addresses = ['[::]:143']
pool = 'a'
[pool.a]
members = ['127.0.0.1:143', '[0::1]:143']
)", "C",
     R"(g.toml:6:29: pool.a.members[2]: is this gateway's own listener[1] ([::]:143): sessions would go in circles; use the backend's address, for example: members = ["store1.internal:143"])"},
    {"socket_mode", R"([admin]
socket = '/run/s'
socket_mode = '0666'
)", "CLP",
     R"(g.toml:3:15: admin.socket_mode: "0666" is not allowed; use "0600" or "0660", for example: socket_mode = "0660" (did you mean "0660"?))"},
    {"socket_mode_alone", R"([admin]
socket_mode = '0660'
)", "CLP",
     R"(g.toml:2:15: admin.socket_mode: has no effect without a socket; remove it, or add one, for example: socket = "/run/gatepost/control.sock")"},
    {"socket_path", R"([admin]
socket = '/run/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'
)", "CLP",
     R"(g.toml:2:10: admin.socket: the path has 108 bytes, and the socket of a path has 95 at most; use a shorter one, for example: socket = "/run/gatepost/control.sock")"},
    {"workers", R"([process]
workers = 2000
)", "CLP",
     R"(g.toml:2:11: process.workers: 2000 is not allowed; use an integer from 0 to 1024, for example: workers = 4)"},
    {"user_invalid", R"([process]
user = 'mail user'
)", "CLP",
     R"(g.toml:2:8: process.user: "mail user" is not allowed; use a user of this machine, for example: user = "gatepost")"},
    {"long_value_is_cut", R"([log]
level = 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'
)", "CLP",
     R"(g.toml:2:9: log.level: "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"... is not allowed; use "debug", "info", "warning" or "error", for example: level = "info")"},
};
// clang-format on

class Wrongs : public testing::TestWithParam<Wrong> {};

TEST_P(Wrongs, GiveOneExactLine) {
  const auto config = Parse(Whole(GetParam()), "g.toml");
  ASSERT_FALSE(config);
  ASSERT_EQ(config.error().size(), 1U) << config.error()[1].Text();
  EXPECT_EQ(config.error()[0].Text(), GetParam().expected);
}

INSTANTIATE_TEST_SUITE_P(Diagnostics, Wrongs, testing::ValuesIn(kWrong),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(Diagnostics, TheRestOfTheWrongFilesIsRight) {
  EXPECT_TRUE(Parse(Whole({"", "", "CLP", ""}), "g.toml"));
}

TEST(Diagnostics, AllErrorsOfAFileComeInOnePassInItsOrder) {
  const auto config = Parse(R"(hostnam = "x"
[[certificate]]
chain = 5
[[listener]]
protocol = "imap"
addresses = ["127.0.0.1", "[::1]:143", 7]
tls = "implicit"
cleartext_login = "allow"
pool = "stors"
[[listener]]
protocol = "SMTP"
addresses = ["[::1]:25"]
pool = "stores"
[pool.stores]
members = ["a:0"]
login_timeout = 30
login = "none"
[limits]
max_line_bytes = 1
[log]
levle = "info"
)",
                            "g.toml");
  ASSERT_FALSE(config);
  std::vector<std::string> found;
  for (const Diagnostic& diagnostic : config.error()) {
    found.push_back(std::to_string(diagnostic.place.line) + " " + diagnostic.key);
  }
  // Listener 1's name and the address 127.0.0.1 are not judged: their own parts are wrong.
  EXPECT_EQ(found,
            (std::vector<std::string>{"1 hostnam", "2 certificate[1].key", "3 certificate[1].chain",
                                      "6 listener[1].addresses[1]", "6 listener[1].addresses[3]",
                                      "8 listener[1].cleartext_login", "9 listener[1].pool",
                                      "11 listener[2].protocol", "15 pool.stores.members[1]",
                                      "16 pool.stores.login_timeout", "17 pool.stores.login",
                                      "19 limits.max_line_bytes", "21 log.levle"}));
}

TEST(Diagnostics, PlaceIsLeftOutWhereThereIsNone) {
  EXPECT_EQ((Diagnostic{"f", {}, "", "m"}).Text(), "f: m");
  EXPECT_EQ((Diagnostic{"f", {3, 4}, "k", "m"}).Text(), "f:3:4: k: m");
}

TEST(Quote, LetsNothingThroughThatMovesATerminal) {
  EXPECT_EQ(Quote("plain"), "\"plain\"");
  EXPECT_EQ(Quote("a\"b\\c"), "\"a\\\"b\\\\c\"");
  EXPECT_EQ(Quote("\x1b[2J\r\n\x7f\xc3\xa4"), "\"\\x1b[2J\\x0d\\x0a\\x7f\\xc3\\xa4\"");
}

TEST(Quote, LeavesOutThePasswordOfAUrl) {
  EXPECT_EQ(Quote("redis://user:secret@redis.internal:6379"), "\"redis://***redis.internal:6379\"");
  EXPECT_EQ(Quote("http://u:p/a@b@auth.internal/mail"), "\"http://***auth.internal/mail\"");
  EXPECT_EQ(Quote("alice@example.org"), "\"alice@example.org\"");
  EXPECT_EQ(Quote("https://auth.internal/mail"), "\"https://auth.internal/mail\"");
}

TEST(Nearest, IsWhatWasMeantOrNothing) {
  constexpr std::string_view kWords[] = {"starttls", "implicit", "none", "warning"};
  EXPECT_EQ(Nearest("start-tls", kWords), "starttls");
  EXPECT_EQ(Nearest("STARTTLS", kWords), "starttls");
  EXPECT_EQ(Nearest("implcit", kWords), "implicit");
  EXPECT_EQ(Nearest("noen", kWords), "none");     // a swap is one mistake
  EXPECT_EQ(Nearest("warn", kWords), "warning");  // a beginning
  EXPECT_EQ(Nearest("wa", kWords), "");
  EXPECT_EQ(Nearest("ssl", kWords), "");
  EXPECT_EQ(Nearest("", kWords), "");
  constexpr std::string_view kLetter[] = {"a"};
  EXPECT_EQ(Nearest("b", kLetter), "");
}

TEST(Findings, KnowWhichKeysAreSound) {
  Findings findings("f");
  findings.Saw("pool.a", {2, 1});
  findings.Add({2, 5}, "pool.a.members[1]", "wrong");
  EXPECT_FALSE(findings.Sound("pool.a.members"));
  EXPECT_FALSE(findings.Sound("pool.a"));
  EXPECT_TRUE(findings.Sound("pool.a.tls"));
  EXPECT_TRUE(findings.Sound("pool.a.mem"));
  EXPECT_EQ(findings.PlaceOf("pool.a.members[1]").line, 2U);
  EXPECT_EQ(findings.PlaceOf("log.level").line, 0U);
}

}  // namespace
}  // namespace gatepost::config
