// SPDX-License-Identifier: Apache-2.0
#include "config/checks.h"

#include <fcntl.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "config/values.h"

namespace gatepost::config {
namespace {

// Of sockaddr_un::sun_path, without its NUL, the ".new" of a socket that is being made, and the
// number of a process from before an upgrade.
constexpr size_t kMaxSocketPathBytes = 95;

std::string Indexed(std::string_view table, size_t index) {
  return std::string(table) + "[" + std::to_string(index + 1) + "]";
}

// Where a listener is said to have a name or address that another one has too.
class Uniqueness {
 public:
  Uniqueness(std::string_view what, Findings& findings) : what_(what), findings_(findings) {}

  void Claim(const std::string& value, const std::string& path, const std::string& advice) {
    const auto [owner, first] = owners_.emplace(value, path);
    if (first) return;
    findings_.Add(findings_.PlaceOf(path), path,
                  what_ + " " + Quote(value) + " is taken by " + owner->second + " (line " +
                      std::to_string(findings_.PlaceOf(owner->second).line) + "); " + advice);
  }

 private:
  std::string what_;
  Findings& findings_;
  std::map<std::string, std::string> owners_;
};

void CheckNamesAndAddresses(const Config& config, Findings& findings) {
  Uniqueness names("the name", findings);
  Uniqueness addresses("the address", findings);
  for (size_t i = 0; i < config.listeners.size(); ++i) {
    const Listener& listener = config.listeners[i];
    const std::string path = Indexed("listener", i);
    // The default name comes from the protocol and the first address.
    const bool named = findings.Has(path + ".name")
                           ? findings.Sound(path + ".name")
                           : !listener.name.empty() && findings.Sound(path + ".protocol") &&
                                 findings.Sound(path + ".addresses");
    if (named) {
      names.Claim(listener.name, path + ".name",
                  "use another one, for example: name = " + Quote(listener.name + "-2"));
    }
    // Only a sound list has the indices of the file.
    if (!findings.Sound(path + ".addresses")) continue;
    for (size_t k = 0; k < listener.addresses.size(); ++k) {
      if (listener.addresses[k].port == 0) continue;
      addresses.Claim(Text(listener.addresses[k]), Indexed(path + ".addresses", k),
                      "use another address or port, for example: addresses = [\"127.0.0.1:1143\"]");
    }
  }
  if (config.admin.address && config.admin.address->port != 0 && findings.Sound("admin.address")) {
    addresses.Claim(Text(*config.admin.address), "admin.address",
                    "use another address or port, for example: address = \"127.0.0.1:9144\"");
  }
}

void CheckListener(const Listener& listener, const std::string& path, Findings& findings) {
  const auto has = [&](const std::string& key) {
    return findings.Has(path + key) && findings.Sound(path + key);
  };
  const auto add = [&](const std::string& key, const std::string& message) {
    findings.Add(findings.PlaceOf(path + key), path + key, message);
  };
  if (has(".cleartext_login") && findings.Sound(path + ".tls") &&
      listener.tls == ListenerTls::kImplicit) {
    add(".cleartext_login",
        "has no effect with tls = \"implicit\", where nothing is cleartext; remove it, or use "
        "tls = \"starttls\"");
  }
  if (findings.Sound(path + ".proxy_protocol")) {
    if (listener.proxy_protocol == ProxyProtocol::kOff) {
      if (has(".proxy_networks")) {
        add(".proxy_networks",
            "has no effect with proxy_protocol = \"off\"; remove it, or use proxy_protocol = "
            "\"v2\"");
      }
    } else if (!findings.Has(path + ".proxy_networks")) {
      add(".proxy_protocol",
          Quote(Name(listener.proxy_protocol)) +
              " needs to know whose headers to believe, for example: proxy_networks = "
              "[\"10.0.0.0/8\"]");
    }
  }
  if (findings.Sound(path + ".client_certificates")) {
    if (listener.client_certificates == ClientCertificates::kOff) {
      for (const std::string key : {".client_ca_file", ".client_crl_file",
                                    ".client_certificate_user", ".client_certificate_map"}) {
        const bool says_nothing = key == ".client_certificate_user" &&
                                  listener.client_certificate_user == CertificateUser::kNone;
        if (!has(key) || says_nothing) continue;
        add(key,
            "has no effect with client_certificates = \"off\"; remove it, or use "
            "client_certificates = \"request\" or \"require\"");
      }
    } else if (!findings.Has(path + ".client_ca_file")) {
      add(".client_certificates",
          Quote(Name(listener.client_certificates)) +
              " needs to know whom to believe; add the certificates of your CA, for example: "
              "client_ca_file = \"/etc/gatepost/client-ca.pem\"");
    }
    if (listener.client_certificates == ClientCertificates::kRequire &&
        findings.Sound(path + ".cleartext_login") &&
        listener.cleartext_login == CleartextLogin::kAllow) {
      add(".client_certificates",
          "\"require\" with cleartext_login = \"allow\" means that a client without a certificate "
          "just leaves TLS off; remove cleartext_login, or use client_certificates = \"request\"");
    }
  }
  if (findings.Sound(path + ".client_certificate_user") &&
      listener.client_certificates != ClientCertificates::kOff) {
    const bool by_map = listener.client_certificate_user == CertificateUser::kMap;
    if (by_map && !findings.Has(path + ".client_certificate_map")) {
      add(".client_certificate_user",
          "\"map\" needs the file that says whose a certificate is, for example: "
          "client_certificate_map = \"/etc/gatepost/certificate-users\"");
    }
    if (!by_map && has(".client_certificate_map")) {
      add(".client_certificate_map", "has no effect with client_certificate_user = " +
                                         Quote(Name(listener.client_certificate_user)) +
                                         "; remove it, or use client_certificate_user = \"map\"");
    }
  }
  if (has(".bare_newline") && findings.Sound(path + ".protocol") &&
      listener.protocol != Protocol::kSmtp) {
    add(".bare_newline", "has no effect on " + std::string(Name(listener.protocol)) +
                             "; remove it, or use protocol = \"smtp\"");
  }
}

// Whether the backend's own login may be what decides about clients of the listener.
bool BackendMayDecide(const Config& config, const Listener& listener) {
  return std::any_of(
      config.authorities.begin(), config.authorities.end(), [&](const Authority& authority) {
        return authority.kind == AuthorityKind::kBackend && MayDecide(authority, listener);
      });
}

// The first listener whose clients may be sent to the pool with nobody but its backends to decide.
const Listener* ListenerWithoutAuthority(const Config& config, const Pool& pool,
                                         const Findings& findings) {
  if (!findings.Sound("authority")) return nullptr;
  for (const Listener& listener : config.listeners) {
    if (listener.pool == pool.name && BackendMayDecide(config, listener)) return &listener;
  }
  return nullptr;
}

// Mail from outside needs to be allowed in so many words, with whose it is and where it goes.
void CheckInbound(const Listener& listener, const std::string& path, Findings& findings) {
  const auto add = [&](const std::string& key, const std::string& message) {
    findings.Add(findings.PlaceOf(path + key), path + key, message);
  };
  if (!findings.Sound(path + ".relay") || !findings.Sound(path + ".protocol")) return;
  if (listener.protocol != Protocol::kSmtp) {
    for (const char* key : {".relay", ".local_domains", ".inbound_pool", ".inbound_authority"}) {
      if (!findings.Has(path + key)) continue;
      add(key, "has no effect on " + std::string(Name(listener.protocol)) +
                   "; remove it, or use protocol = \"smtp\"");
    }
    return;
  }
  if (listener.relay == Relay::kAuthenticated) {
    for (const char* key : {".local_domains", ".inbound_pool", ".inbound_authority"}) {
      if (!findings.Has(path + key)) continue;
      add(key,
          "has no effect with relay = \"authenticated\", which takes nothing without a login; "
          "remove it, or use relay = \"local-domains\"");
    }
    return;
  }
  if (!findings.Has(path + ".local_domains")) {
    add(".relay",
        "\"local-domains\" needs to know which, for example: local_domains = [\"example.org\"]");
  }
  if (!findings.Has(path + ".inbound_pool")) {
    add(".relay",
        "\"local-domains\" needs to know where that mail goes, for example: inbound_pool = \"mx\"");
  }
}

// A client that logs in with a certificate has no password that the backend would take.
void CheckCertificateLogins(const Config& config, Findings& findings) {
  if (!findings.Sound("authority")) return;
  for (size_t i = 0; i < config.listeners.size(); ++i) {
    const Listener& listener = config.listeners[i];
    const std::string key = Indexed("listener", i) + ".client_certificate_user";
    if (listener.client_certificate_user == CertificateUser::kNone ||
        listener.client_certificates == ClientCertificates::kOff || !findings.Sound(key) ||
        !BackendMayDecide(config, listener)) {
      continue;
    }
    for (const Pool& pool : config.pools) {
      if (pool.name != listener.pool || findings.Has("pool." + pool.name + ".master_user"))
        continue;
      findings.Add(
          findings.PlaceOf(key), key,
          "a client that logs in with its certificate has no password for the backend; "
          "let a master user speak for it, for example: [pool." +
              pool.name +
              "] with master_user = \"gatepost\" and master_password_file = "
              "\"/etc/gatepost/master-password\", or use a password file: [[authority]] with "
              "kind = \"passwords\"");
    }
  }
}

void CheckCertificates(const Config& config, Findings& findings) {
  Uniqueness names("the name", findings);
  Uniqueness chains("the chain", findings);
  for (size_t i = 0; i < config.certificates.size(); ++i) {
    const Certificate& certificate = config.certificates[i];
    const std::string path = Indexed("certificate", i);
    const auto has = [&](const char* key) { return findings.Has(path + key); };
    const auto add = [&](const std::string& key, const std::string& message) {
      findings.Add(findings.PlaceOf(path + key), path + key, message);
    };
    if (has(".directory")) {
      for (const char* key : {".chain", ".key"}) {
        if (!has(key)) continue;
        add(key,
            "cannot stand beside directory, which finds its pairs by itself; remove one of both, "
            "or make a [[certificate]] of its own for the pair");
      }
    } else if (has(".chain") != has(".key")) {
      const std::string missing = has(".chain") ? "key" : "chain";
      add("." + missing, "is missing; use a file's path, for example: " + missing +
                             " = \"/etc/gatepost/tls/" +
                             (has(".chain") ? "privkey.pem\"" : "fullchain.pem\""));
    } else if (!has(".chain")) {
      if (!findings.Sound(path)) continue;  // no table at all
      add("",
          "names no files; use chain and key, or a folder with pairs, for example: "
          "directory = \"/etc/letsencrypt/live\"");
    } else if (certificate.chain) {
      chains.Claim(certificate.chain->string(), path + ".chain",
                   "one table is enough; remove the other");
    }
    if (!certificate.name.empty()) {
      names.Claim(certificate.name, path + ".name",
                  "use another one, for example: name = " + Quote(certificate.name + "-2"));
    }
  }
}

// A listener's certificates exist, each once.
void CheckListenerCertificates(const Config& config, Findings& findings) {
  if (!findings.Sound("certificate")) return;
  std::vector<std::string_view> known;
  for (const Certificate& certificate : config.certificates) {
    if (!certificate.name.empty()) known.push_back(certificate.name);
  }
  for (size_t i = 0; i < config.listeners.size(); ++i) {
    const std::string path = Indexed("listener", i) + ".certificates";
    Uniqueness elements("the certificate", findings);
    if (!findings.Sound(path)) continue;
    for (size_t k = 0; k < config.listeners[i].certificates.size(); ++k) {
      const PlacedName& wanted = config.listeners[i].certificates[k];
      if (std::find(known.begin(), known.end(), wanted.name) != known.end()) {
        elements.Claim(wanted.name, Indexed(path, k), "remove it");
        continue;
      }
      std::string message = "no [[certificate]] is named " + Quote(wanted.name);
      if (known.empty()) {
        message += "; none has a name";
      } else {
        message += "; there is ";
        for (const auto name : known) message += (name == known[0] ? "" : ", ") + Quote(name);
      }
      message += "; give it one, for example: name = " + Quote(wanted.name);
      const auto nearest = Nearest(wanted.name, known);
      if (!nearest.empty()) message += " (did you mean " + Quote(nearest) + "?)";
      findings.Add(wanted.place, Indexed(path, k), message);
    }
  }
}

// The pool that a listener's key names exists; false: it has been reported, or there is none.
bool CheckPoolExists(const Config& config, const std::string& path, const std::string& name,
                     Findings& findings) {
  if (!findings.Has(path) || !findings.Sound(path)) return false;
  std::vector<std::string_view> pool_names;
  for (const Pool& pool : config.pools) pool_names.push_back(pool.name);
  if (std::find(pool_names.begin(), pool_names.end(), name) != pool_names.end()) return true;
  std::string message = "there is no pool " + Quote(name);
  if (!pool_names.empty()) {
    message += "; there is ";
    for (const auto known : pool_names)
      message += (known == pool_names[0] ? "" : ", ") + Quote(known);
  }
  message +=
      "; make one, for example: [pool." + name + "] with members = [\"store1.internal:143\"]";
  const auto nearest = Nearest(name, pool_names);
  if (!nearest.empty()) message += " (did you mean " + Quote(nearest) + "?)";
  findings.Add(findings.PlaceOf(path), path, message);
  return false;
}

// Each listener's pools exist, and the listeners of a pool speak one protocol.
void CheckListenerPools(const Config& config, Findings& findings) {
  if (config.pools.empty() && !findings.Sound("pool")) return;
  std::map<std::string_view, size_t> first_user;
  for (size_t i = 0; i < config.listeners.size(); ++i) {
    const Listener& listener = config.listeners[i];
    for (const bool inbound : {false, true}) {
      if (inbound && !listener.inbound_pool) continue;
      const std::string path = Indexed("listener", i) + (inbound ? ".inbound_pool" : ".pool");
      const std::string& pool = inbound ? *listener.inbound_pool : listener.pool;
      if (!CheckPoolExists(config, path, pool, findings)) continue;
      if (!findings.Sound(Indexed("listener", i) + ".protocol")) continue;
      const auto [user, first] = first_user.emplace(pool, i);
      const Listener& other = config.listeners[user->second];
      if (first || other.protocol == listener.protocol) continue;
      const std::string protocol(Name(listener.protocol));
      std::string problem = "pool ";
      problem += Quote(pool);
      problem += " serves ";
      problem += Name(other.protocol);
      problem += " (line ";
      problem += std::to_string(other.place.line);
      problem += "), and a backend's port speaks one protocol; use a pool of its own for ";
      problem += protocol;
      problem += ", for example: pool = ";
      std::string own = pool;
      own += "-";
      own += protocol;
      problem += Quote(own);
      findings.Add(findings.PlaceOf(path), path, std::move(problem));
    }
  }
}

// Mail that nobody has logged in for can't be logged in for at the backend.
void CheckInboundPools(const Config& config, Findings& findings) {
  for (size_t i = 0; i < config.listeners.size(); ++i) {
    const std::string path = Indexed("listener", i) + ".inbound_pool";
    if (!findings.Has(path) || !findings.Sound(path)) continue;
    for (const Pool& pool : config.pools) {
      if (pool.name != config.listeners[i].inbound_pool || pool.login == BackendLogin::kNone ||
          !findings.Sound("pool." + pool.name + ".login")) {
        continue;
      }
      findings.Add(findings.PlaceOf(path), path,
                   "pool " + Quote(pool.name) +
                       " logs in, and mail from outside has no credentials; use a pool with "
                       "login = \"none\", for example: [pool.mx] with members = "
                       "[\"mx.internal:25\"], login = \"none\" and forward_client_address = "
                       "\"proxy-v2\"");
    }
  }
}

// A route has domains with a pool that exists and speaks its protocol, or a file of users.
void CheckRoutes(const Config& config, Findings& findings) {
  Uniqueness domains("the domain", findings);
  for (size_t i = 0; i < config.routes.size(); ++i) {
    const Route& route = config.routes[i];
    const std::string path = Indexed("route", i);
    const auto has = [&](const char* key) { return findings.Has(path + key); };
    const auto add = [&](const std::string& key, const std::string& message) {
      findings.Add(findings.PlaceOf(path + key), path + key, message);
    };
    if (!findings.Sound(path)) continue;
    if (has(".users_file")) {
      for (const char* key : {".domains", ".pool"}) {
        if (has(key)) {
          add(key,
              "cannot stand beside users_file, whose lines name pools; remove it, or make a "
              "[[route]] of its own for the domains");
        }
      }
      continue;
    }
    if (!has(".domains")) {
      add("",
          "says for whom it is neither by domains nor by users_file, for example: "
          "domains = [\"example.org\"]");
      continue;
    }
    if (!has(".pool")) {
      add(".pool", "is missing; use the NAME of a [pool.NAME], for example: pool = \"stores2\"");
      continue;
    }
    if (findings.Sound(path + ".domains") && findings.Sound(path + ".protocol")) {
      for (size_t k = 0; k < route.domains.size(); ++k) {
        domains.Claim(std::string(Name(route.protocol)) + " " + route.domains[k],
                      Indexed(path + ".domains", k), "it goes to one pool; remove one of both");
      }
    }
    if (!findings.Sound(path + ".pool") || !findings.Sound("pool")) continue;
    if (std::none_of(config.pools.begin(), config.pools.end(),
                     [&](const Pool& pool) { return pool.name == route.pool; })) {
      add(".pool", "there is no pool " + Quote(route.pool) + "; make one, for example: [pool." +
                       route.pool + "] with members = [\"store1.internal:143\"]");
      continue;
    }
    const auto other = std::find_if(
        config.listeners.begin(), config.listeners.end(), [&](const Listener& listener) {
          return listener.pool == route.pool && listener.protocol != route.protocol;
        });
    if (other != config.listeners.end() && findings.Sound(path + ".protocol")) {
      add(".pool", "pool " + Quote(route.pool) + " serves " + std::string(Name(other->protocol)) +
                       " (line " + std::to_string(other->place.line) +
                       "), and a backend's port speaks one protocol; use another pool, or "
                       "protocol = " +
                       Quote(Name(other->protocol)));
    }
  }
}

// Where a master user speaks for clients, somebody else must have found out who they are: the
// backend will take the master's word for anybody.
void CheckMaster(const Pool& pool, const Config& config, const std::string& path,
                 Findings& findings) {
  const auto add = [&](const std::string& key, const std::string& message) {
    findings.Add(findings.PlaceOf(path + key), path + key, message);
  };
  const bool user = findings.Has(path + ".master_user");
  const bool file = findings.Has(path + ".master_password_file");
  if (user && !file) {
    add(".master_user",
        "needs a password, for example: master_password_file = "
        "\"/etc/gatepost/master-password\"");
  }
  if (file && !user) {
    add(".master_password_file",
        "has no effect without master_user; remove it, or add, for example: master_user = "
        "\"gatepost\"");
  }
  if (findings.Has(path + ".master_user_separator") && !user) {
    add(".master_user_separator",
        "has no effect without master_user; remove it, or add, for example: master_user = "
        "\"gatepost\"");
  }
  if (!findings.Sound(path + ".login")) return;
  if (pool.login == BackendLogin::kNone && user) {
    add(".master_user",
        "has no effect with login = \"none\"; remove it, or use login = \"master\"");
  }
  if (pool.login != BackendLogin::kMaster) return;
  if (!user) {
    add(".login",
        "\"master\" needs the account, for example: master_user = \"gatepost\" and "
        "master_password_file = \"/etc/gatepost/master-password\"");
  }
  if (const Listener* listener = ListenerWithoutAuthority(config, pool, findings)) {
    add(".login",
        "\"master\" means that nobody checks a password and anybody may be everybody, where the "
        "backend is the authority, as for listener " +
            Quote(listener->name) +
            "; use another, for example: [[authority]] with kind = \"passwords\", or login = "
            "\"same\", with which master_user speaks for clients that log in with a certificate "
            "alone");
  }
}

// An account that everybody shares at the backend needs an authority that lets not everybody in.
void CheckAccount(const Pool& pool, const Config& config, const std::string& path,
                  Findings& findings) {
  const auto add = [&](const std::string& key, const std::string& message) {
    findings.Add(findings.PlaceOf(path + key), path + key, message);
  };
  if (!findings.Sound(path + ".login")) return;
  const bool account = findings.Has(path + ".account");
  const bool file = findings.Has(path + ".account_password_file");
  if (pool.login != BackendLogin::kFixed) {
    for (const std::string key : {".account", ".account_password_file"}) {
      if (!findings.Has(path + key)) continue;
      add(key, "has no effect with login = " + Quote(Name(pool.login)) +
                   "; remove it, or use login = \"fixed\"");
    }
    return;
  }
  if (!account || !file) {
    add(".login",
        "\"fixed\" needs the account, for example: account = \"relay\" and "
        "account_password_file = \"/etc/gatepost/relay-password\"");
  }
  if (const Listener* listener = ListenerWithoutAuthority(config, pool, findings)) {
    add(".login",
        "\"fixed\" means that nobody checks a password and anybody uses the account, where the "
        "backend is the authority, as for listener " +
            Quote(listener->name) +
            "; use another, for example: [[authority]] with kind = \"passwords\", or login = "
            "\"same\"");
  }
}

// A way to present a password that the login has no use for, or that can't say all of it.
void CheckLoginMechanism(const Pool& pool, const std::string& path, Findings& findings) {
  const std::string key = path + ".login_mechanism";
  if (pool.login_mechanism == LoginMechanism::kAuto || !findings.Sound(key) ||
      !findings.Sound(path + ".login")) {
    return;
  }
  if (pool.login == BackendLogin::kNone) {
    findings.Add(findings.PlaceOf(key), key,
                 "has no effect with login = \"none\"; remove it, or use login = \"same\"");
  }
  if (pool.master_user && !pool.master_user_separator &&
      pool.login_mechanism != LoginMechanism::kPlain) {
    findings.Add(findings.PlaceOf(key), key,
                 Quote(Name(pool.login_mechanism)) +
                     " can't say for whom master_user logs in; use login_mechanism = \"plain\", or "
                     "a name that says it, for example: master_user_separator = \"*\"");
  }
}

// MeetsListener says whether who connects to the member comes to `address`: certain of addresses in
// figures alone.
bool MeetsListener(const PoolMember& member, const SocketAddress& address) {
  const std::string& host = member.address.host;
  if (member.kind != MemberKind::kHost || member.address.port != address.port ||
      !IsAddressLiteral(host)) {
    return false;
  }
  const bool version_6 = host.find(':') != std::string::npos;
  return host == address.host ||
         (IsLoopback(host) && address.host == (version_6 ? "::" : "0.0.0.0"));
}

// No session can be passed on to a listener of our own.
void CheckMembers(const Pool& pool, const Config& config, Findings& findings) {
  const std::string path = "pool." + pool.name + ".members";
  if (!findings.Sound(path)) return;  // only a sound list has the indices of the file
  for (size_t i = 0; i < config.listeners.size(); ++i) {
    if (!findings.Sound(Indexed("listener", i) + ".addresses")) continue;
    for (const SocketAddress& address : config.listeners[i].addresses) {
      for (size_t k = 0; k < pool.members.size(); ++k) {
        if (!MeetsListener(pool.members[k], address)) continue;
        findings.Add(findings.PlaceOf(Indexed(path, k)), Indexed(path, k),
                     "is this gateway's own " + Indexed("listener", i) + " (" + Text(address) +
                         "): sessions would go in circles; use the backend's address, for "
                         "example: members = [\"store1.internal:143\"]");
      }
    }
  }
}

void CheckPool(const Pool& pool, const Config& config, Findings& findings) {
  const std::string path = "pool." + pool.name;
  CheckMembers(pool, config, findings);
  if (findings.Sound(path + ".tls") && pool.tls == BackendTls::kNone) {
    for (const char* key : {".verify", ".ca_file", ".server_name", ".pin_sha256",
                            ".client_certificate", ".client_key", ".tls_minimum_version"}) {
      if (!findings.Has(path + key) || !findings.Sound(path + key)) continue;
      findings.Add(findings.PlaceOf(path + key), path + key,
                   "has no effect with tls = \"none\"; remove it, or use tls = \"starttls\" or "
                   "\"implicit\"");
    }
  }
  CheckMaster(pool, config, path, findings);
  const std::string xclient = path + ".xclient_login";
  if (pool.xclient_login && findings.Sound(xclient) && findings.Sound(path + ".login") &&
      findings.Sound(path + ".forward_client_address") &&
      (pool.login != BackendLogin::kNone ||
       pool.forward_client_address != ForwardClientAddress::kNative)) {
    findings.Add(
        findings.PlaceOf(xclient), xclient,
        "takes the place of a login at the backend and goes with XCLIENT; remove it, or use "
        "login = \"none\" and forward_client_address = \"native\"");
  }
  CheckAccount(pool, config, path, findings);
  CheckLoginMechanism(pool, path, findings);
  const std::string ready = path + ".ready_connections";
  if (pool.ready_connections > 0 && findings.Sound(ready) &&
      findings.Sound(path + ".forward_client_address") &&
      (pool.forward_client_address == ForwardClientAddress::kProxyV1 ||
       pool.forward_client_address == ForwardClientAddress::kProxyV2)) {
    findings.Add(findings.PlaceOf(ready), ready,
                 "a connection that lies ready can't say for whom it was made, and "
                 "forward_client_address = " +
                     Quote(Name(pool.forward_client_address)) +
                     " says so first of all; remove one of them, for example: "
                     "ready_connections = 0 with connect_early = true");
  }
  // The one is of no use without the other.
  const auto needs = [&](const std::string& key, const std::string& other, const char* example) {
    if (!findings.Has(path + key) || findings.Has(path + other)) return;
    findings.Add(findings.PlaceOf(path + key), path + key,
                 "needs " + other.substr(1) + " beside it, for example: " + example);
  };
  needs(".client_certificate", ".client_key", "client_key = \"/etc/gatepost/backend-client.key\"");
  needs(".referral_hosts", ".follow_referrals", "follow_referrals = 1");
  needs(".client_key", ".client_certificate",
        "client_certificate = \"/etc/gatepost/backend-client.pem\"");
  const std::string login = path + ".login";
  if (!findings.Sound(login) || pool.login != BackendLogin::kNone) return;
  for (size_t i = 0; i < config.listeners.size(); ++i) {
    const Listener& listener = config.listeners[i];
    if (listener.pool != pool.name || listener.protocol == Protocol::kSmtp ||
        !findings.Sound(Indexed("listener", i) + ".protocol")) {
      continue;
    }
    findings.Add(findings.PlaceOf(login), login,
                 "\"none\" is for SMTP only, and " + Indexed("listener", i) + " (line " +
                     std::to_string(listener.place.line) + ") uses this pool for " +
                     std::string(Name(listener.protocol)) +
                     "; use \"same\", for example: " + "login = \"same\"");
  }
  if (const Listener* listener = ListenerWithoutAuthority(config, pool, findings)) {
    findings.Add(
        findings.PlaceOf(login), login,
        "\"none\" means that nobody checks the password and anybody can relay mail, where "
        "the backend is the authority, as for listener " +
            Quote(listener->name) +
            "; use login = \"same\", or another authority, for example: [[authority]] with "
            "kind = \"passwords\"");
  }
}

void CheckAdmin(const Admin& admin, Findings& findings) {
  if (findings.Has("admin.socket_mode") && !findings.Has("admin.socket")) {
    findings.Add(findings.PlaceOf("admin.socket_mode"), "admin.socket_mode",
                 "has no effect without a socket; remove it, or add one, for example: "
                 "socket = \"/run/gatepost/control.sock\"");
  }
  if (!admin.socket || !findings.Sound("admin.socket")) return;
  if (const size_t size = admin.socket->string().size(); size > kMaxSocketPathBytes) {
    findings.Add(findings.PlaceOf("admin.socket"), "admin.socket",
                 "the path has " + std::to_string(size) + " bytes, and the socket of a path has " +
                     std::to_string(kMaxSocketPathBytes) +
                     " at most; use a shorter one, for example: socket = "
                     "\"/run/gatepost/control.sock\"");
  }
}

// ReadError returns why a regular file cannot be read, 0 when it can.
int ReadError(const std::filesystem::path& path) {
  // O_NONBLOCK: a FIFO must not hang the start.
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return errno;
  struct stat status {};
  int error = fstat(descriptor, &status) == 0 ? 0 : errno;
  if (error == 0 && S_ISDIR(status.st_mode)) error = EISDIR;
  close(descriptor);
  return error;
}

// FolderMayBe says whether the folder is there, or may well be when the gateway is: those in /run
// are made by whoever starts a service (systemd's RuntimeDirectory=).
bool FolderMayBe(const std::filesystem::path& folder) {
  std::error_code error;
  if (folder.empty() || std::filesystem::is_directory(folder, error)) return true;
  if (error && error != std::errc::no_such_file_or_directory &&
      error != std::errc::not_a_directory) {
    return true;  // who may not look can't know
  }
  const std::string text = folder.lexically_normal().string() + "/";
  return text.starts_with("/run/") || text.starts_with("/var/run/");
}

}  // namespace

void CheckKeys(const Config& config, Findings& findings) {
  if (config.certificates.empty() && findings.Sound("certificate")) {
    findings.Add({}, "certificate",
                 "at least one is needed, for STARTTLS too, for example: [[certificate]] with "
                 "chain = \"/etc/gatepost/tls/fullchain.pem\" and "
                 "key = \"/etc/gatepost/tls/privkey.pem\", or with "
                 "directory = \"/etc/letsencrypt/live\"");
  }
  if (config.listeners.empty() && findings.Sound("listener")) {
    findings.Add({}, "listener",
                 "at least one is needed, for example: [[listener]] with protocol = \"imap\", "
                 "addresses = [\"0.0.0.0:143\"] and pool = \"stores\"");
  }
  CheckNamesAndAddresses(config, findings);
  for (size_t i = 0; i < config.listeners.size(); ++i) {
    CheckListener(config.listeners[i], Indexed("listener", i), findings);
    CheckInbound(config.listeners[i], Indexed("listener", i), findings);
  }
  CheckCertificates(config, findings);
  CheckListenerCertificates(config, findings);
  CheckListenerPools(config, findings);
  CheckAuthorities(config, findings);
  CheckThrottle(config, findings);
  CheckPolicy(config.policy, findings);
  CheckInboundPools(config, findings);
  CheckRoutes(config, findings);
  CheckCertificateLogins(config, findings);
  CheckAdmin(config.admin, findings);
  for (const Pool& pool : config.pools) {
    if (IsLabel(pool.name)) CheckPool(pool, config, findings);
  }
}

void CheckMachine(const Config& config, Findings& findings) {
  const auto check_file = [&](const std::filesystem::path& file, const std::string& key) {
    if (!findings.Has(key) || !findings.Sound(key)) return;
    if (const int error = ReadError(file); error != 0) {
      findings.Add(findings.PlaceOf(key), key,
                   Quote(file.string()) + " cannot be read: " + std::strerror(error));
    }
  };
  for (size_t i = 0; i < config.certificates.size(); ++i) {
    const Certificate& certificate = config.certificates[i];
    const std::string path = Indexed("certificate", i);
    if (certificate.chain) check_file(*certificate.chain, path + ".chain");
    if (certificate.key) check_file(*certificate.key, path + ".key");
  }
  for (size_t i = 0; i < config.listeners.size(); ++i) {
    const Listener& listener = config.listeners[i];
    const std::string path = Indexed("listener", i);
    if (listener.client_ca_file) check_file(*listener.client_ca_file, path + ".client_ca_file");
    if (listener.client_crl_file) check_file(*listener.client_crl_file, path + ".client_crl_file");
    if (listener.client_certificate_map) {
      check_file(*listener.client_certificate_map, path + ".client_certificate_map");
    }
  }
  for (const Pool& pool : config.pools) {
    const std::string path = "pool." + pool.name;
    if (pool.ca_file) check_file(*pool.ca_file, path + ".ca_file");
    if (pool.client_certificate) {
      check_file(*pool.client_certificate, path + ".client_certificate");
    }
    if (pool.client_key) check_file(*pool.client_key, path + ".client_key");
    if (pool.master_password_file) {
      check_file(*pool.master_password_file, path + ".master_password_file");
    }
    if (pool.account_password_file) {
      check_file(*pool.account_password_file, path + ".account_password_file");
    }
  }
  for (size_t i = 0; i < config.routes.size(); ++i) {
    const auto& file = config.routes[i].users_file;
    if (file) check_file(*file, Indexed("route", i) + ".users_file");
  }
  for (size_t i = 0; i < config.authorities.size(); ++i) {
    const Authority& authority = config.authorities[i];
    const std::string path = Indexed("authority", i);
    check_file(authority.file, path + ".file");
    if (authority.ca_file) check_file(*authority.ca_file, path + ".ca_file");
  }
  const Throttle& throttle = config.throttle;
  if (throttle.redis_password_file) {
    check_file(*throttle.redis_password_file, "throttle.redis_password_file");
  }
  if (throttle.shared_key_file) check_file(*throttle.shared_key_file, "throttle.shared_key_file");
  const Policy& policy = config.policy;
  check_file(policy.nonce_file, "policy.nonce_file");
  if (policy.header_file) check_file(*policy.header_file, "policy.header_file");
  if (policy.ca_file) check_file(*policy.ca_file, "policy.ca_file");
  if (config.tls.ticket_key_file) check_file(*config.tls.ticket_key_file, "tls.ticket_key_file");
  if (config.log.file) {
    // The file itself may be new.
    const auto folder = config.log.file->parent_path();
    if (!folder.empty() && access(folder.c_str(), X_OK) != 0) {
      findings.Add(
          findings.PlaceOf("log.file"), "log.file",
          Quote(config.log.file->string()) + " cannot be written: " + std::strerror(errno));
    }
  }
  if (config.admin.socket && findings.Sound("admin.socket") &&
      !FolderMayBe(config.admin.socket->parent_path())) {
    findings.Add(findings.PlaceOf("admin.socket"), "admin.socket",
                 Quote(config.admin.socket->string()) +
                     " cannot be made: its folder is not there; make it, or use another one, for "
                     "example: socket = \"/run/gatepost/control.sock\"");
  }
  if (config.process.user && getpwnam(config.process.user->c_str()) == nullptr) {
    findings.Add(findings.PlaceOf("process.user"), "process.user",
                 "this machine has no user " + Quote(*config.process.user) +
                     "; use one that it has, for example: user = \"nobody\"");
  }
}

}  // namespace gatepost::config
