// The keys of [[authority]], and what must hold between them and the rest.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "config/checks.h"
#include "config/schema_tables.h"

namespace gatepost::config {
namespace {

std::optional<std::string> ParseDomain(std::string_view text) {
  if (!IsHostName(text)) return std::nullopt;
  std::string domain(text);
  for (char& c : domain) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c | 0x20);
  }
  return domain;
}

template <typename T>
bool Contains(const std::vector<T>& whole, const std::vector<T>& part) {
  return std::all_of(part.begin(), part.end(), [&](const T& element) {
    return std::find(whole.begin(), whole.end(), element) != whole.end();
  });
}

std::vector<std::string> NamesOf(const std::vector<PlacedName>& placed) {
  std::vector<std::string> names;
  names.reserve(placed.size());
  for (const PlacedName& name : placed) names.push_back(name.name);
  return names;
}

// Whether everybody about whom `later` could decide meets `earlier` first.
bool Hides(const Authority& earlier, const Authority& later) {
  const bool listeners =
      earlier.listeners.empty() ||
      (!later.listeners.empty() && Contains(NamesOf(earlier.listeners), NamesOf(later.listeners)));
  const bool domains = earlier.domains.empty() ||
                       (!later.domains.empty() && Contains(earlier.domains, later.domains));
  return listeners && domains;
}

// The keys that only some kinds have.
void CheckKeysOfKind(const Authority& authority, const std::string& path, Findings& findings) {
  using Kind = AuthorityKind;
  struct Key {
    const char* name;
    std::vector<Kind> kinds;
    const char* example = nullptr;  // where the kind needs it
  };
  static const Key kKeys[] = {
      {"file", {Kind::kPasswords}, "file = \"/etc/gatepost/passwords\""},
      {"urls", {Kind::kHttp}, "urls = [\"http://127.0.0.1:8080/auth\"]"},
      {"ca_file", {Kind::kHttp}},
      {"headers", {Kind::kHttp}},
      {"pass_client_certificate", {Kind::kHttp}},
      {"resolve_client_host", {Kind::kHttp}},
      {"digest_mechanisms", {Kind::kHttp}},
      {"connect_timeout", {Kind::kHttp, Kind::kDovecot}},
      {"timeout", {Kind::kHttp, Kind::kDovecot}},
      {"positive_cache", {Kind::kHttp}},
      {"pool", {Kind::kLogin}, "pool = \"stores\""},
      {"protocol", {Kind::kLogin}},
      {"max_concurrent", {Kind::kHttp, Kind::kLogin, Kind::kDovecot}},
      {"socket", {Kind::kDovecot}, "socket = \"/run/dovecot/auth-client\""},
      {"returns_pass", {Kind::kDovecot}},
  };
  for (const Key& key : kKeys) {
    const std::string key_path = path + "." + key.name;
    if (!findings.Sound(key_path)) continue;
    const bool its =
        std::find(key.kinds.begin(), key.kinds.end(), authority.kind) != key.kinds.end();
    const std::string kind = "kind = " + Quote(Name(authority.kind));
    if (its && key.example != nullptr && !findings.Has(key_path)) {
      findings.Add(authority.place, key_path,
                   "is missing, and " + kind + " needs it, for example: " + key.example);
    } else if (!its && findings.Has(key_path)) {
      std::vector<std::string_view> names;
      for (const Kind other : key.kinds) names.push_back(Name(other));
      findings.Add(findings.PlaceOf(key_path), key_path,
                   "has no effect with " + kind + "; remove it, or use kind = " + ListWords(names));
    }
  }
}

void CheckHttp(const Authority& authority, const std::string& path, Findings& findings) {
  if (authority.kind != AuthorityKind::kHttp) return;
  const bool https = std::any_of(authority.urls.begin(), authority.urls.end(),
                                 [](const HttpUrl& url) { return url.https; });
  if (!https && findings.Has(path + ".ca_file")) {
    findings.Add(findings.PlaceOf(path + ".ca_file"), path + ".ca_file",
                 "has no effect without an https URL; remove it, or use one, for example: urls = "
                 "[\"https://auth.internal/mail\"]");
  }
}

// Whoever can log in at the pool is accepted, so that the login there must be one.
void CheckLogin(const Authority& authority, const Config& config, const std::string& path,
                Findings& findings) {
  const std::string key = path + ".pool";
  if (authority.kind != AuthorityKind::kLogin || !findings.Has(key) || !findings.Sound("pool")) {
    return;
  }
  const auto add = [&](const std::string& message) {
    findings.Add(findings.PlaceOf(key), key, message);
  };
  std::vector<std::string_view> names;
  for (const Pool& pool : config.pools) names.push_back(pool.name);
  const auto pool = std::find_if(config.pools.begin(), config.pools.end(),
                                 [&](const Pool& p) { return p.name == authority.pool; });
  if (pool == config.pools.end()) {
    const auto nearest = Nearest(authority.pool, names);
    return add("there is no pool " + Quote(authority.pool) + "; make one, for example: [pool." +
               authority.pool + "] with members = [\"store1.internal:143\"]" +
               (nearest.empty() ? "" : " (did you mean " + Quote(nearest) + "?)"));
  }
  if (pool->login != BackendLogin::kSame) {
    return add("pool " + Quote(pool->name) + " has login = " + Quote(Name(pool->login)) +
               ", so that anybody could log in there; use one with login = \"same\", for example "
               "one of its own with the same members");
  }
  for (const Listener& listener : config.listeners) {
    if (listener.pool != pool->name || listener.protocol == authority.protocol) continue;
    return add("pool " + Quote(pool->name) + " serves " + std::string(Name(listener.protocol)) +
               " (line " + std::to_string(listener.place.line) +
               "), and a backend's port speaks one protocol; use protocol = " +
               Quote(Name(listener.protocol)) + ", or another pool");
  }
}

bool TellsNoPassword(Mechanism mechanism) {
  switch (mechanism) {
    case Mechanism::kExternal:
    case Mechanism::kScramSha1:
    case Mechanism::kScramSha256:
    case Mechanism::kCramMd5:
    case Mechanism::kApop:
      return true;
    case Mechanism::kPlain:
    case Mechanism::kLogin:
    case Mechanism::kXoauth2:
    case Mechanism::kOauthbearer:
      break;
  }
  return false;
}

// Through Dovecot a client can prove who it is without its password, so that the backend needs
// another login.
void CheckPasswordless(const Config& config, const Listener& listener, const std::string& path,
                       Findings& findings) {
  bool dovecot = false;
  for (const Authority& authority : config.authorities) {
    if (!MayDecide(authority, listener)) continue;
    if (authority.kind != AuthorityKind::kDovecot || authority.returns_pass) return;
    dovecot = true;
  }
  if (!dovecot) return;
  const auto pool = std::find_if(config.pools.begin(), config.pools.end(),
                                 [&](const Pool& p) { return p.name == listener.pool; });
  if (pool == config.pools.end() || pool->login != BackendLogin::kSame ||
      findings.Has("pool." + pool->name + ".master_user")) {
    return;
  }
  const std::string advice =
      ", and pool " + Quote(pool->name) +
      " has no login without it; let a master user speak for clients, for example: [pool." +
      pool->name +
      "] with master_user = \"gatepost\" and master_password_file = "
      "\"/etc/gatepost/master-password\"; or have Dovecot's passdb return pass, and say so: "
      "[[authority]] with kind = \"dovecot\" and returns_pass = true";
  for (size_t k = 0; k < listener.mechanisms.size(); ++k) {
    if (!TellsNoPassword(listener.mechanisms[k])) continue;
    const std::string key = path + ".mechanisms[" + std::to_string(k + 1) + "]";
    findings.Add(findings.PlaceOf(key), key,
                 Quote(Name(listener.mechanisms[k])) + " tells no password" + advice);
  }
  const std::string key = path + ".client_certificate_user";
  if (listener.client_certificate_user != CertificateUser::kNone) {
    findings.Add(findings.PlaceOf(key), key, "a certificate tells no password" + advice);
  }
}

bool Checks(const Authority& authority, Mechanism digest_mechanism) {
  return std::find(authority.digest_mechanisms.begin(), authority.digest_mechanisms.end(),
                   digest_mechanism) != authority.digest_mechanisms.end();
}

// Whether the clients of `listener` can log in by CRAM-MD5 as far as `authority` is asked about it:
// the server speaks before it knows for whom, so that one authority must be for all.
bool ServesCramMd5(const Config& config, const Authority& authority, const Listener& listener) {
  const auto first =
      std::find_if(config.authorities.begin(), config.authorities.end(),
                   [&](const Authority& other) { return MayDecide(other, listener); });
  return first != config.authorities.end() && &*first == &authority && authority.domains.empty() &&
         (authority.kind == AuthorityKind::kDovecot || Checks(authority, Mechanism::kCramMd5));
}

bool ServesApop(const Authority& authority, const Listener& listener) {
  return listener.protocol == Protocol::kPop3 && MayDecide(authority, listener) &&
         Checks(authority, Mechanism::kApop);
}

// What listeners name and no authority of theirs has.
void CheckDigestMechanisms(const Config& config, const Listener& listener, const std::string& path,
                           Findings& findings) {
  const auto served = [&](const auto& serves) {
    return std::any_of(config.authorities.begin(), config.authorities.end(), serves);
  };
  for (size_t k = 0; k < listener.mechanisms.size(); ++k) {
    const std::string key = path + ".mechanisms[" + std::to_string(k + 1) + "]";
    if (listener.mechanisms[k] == Mechanism::kCramMd5 && !served([&](const Authority& authority) {
          return ServesCramMd5(config, authority, listener);
        })) {
      findings.Add(findings.PlaceOf(key), key,
                   "\"CRAM-MD5\" needs an authority for all users of this listener that knows "
                   "their passwords; remove it, or use, for example: [[authority]] with kind = "
                   "\"dovecot\" and socket = \"/run/dovecot/auth-client\", or with kind = \"http\" "
                   "and digest_mechanisms = [\"CRAM-MD5\"], and without domains");
    }
    if (listener.mechanisms[k] != Mechanism::kApop) continue;
    if (listener.protocol != Protocol::kPop3) {
      findings.Add(findings.PlaceOf(key), key,
                   "\"APOP\" is a command of POP3; remove it, or use, for example: \"CRAM-MD5\"");
    } else if (!served(
                   [&](const Authority& authority) { return ServesApop(authority, listener); })) {
      findings.Add(
          findings.PlaceOf(key), key,
          "\"APOP\" needs an authority that knows the passwords; remove it, or use, for "
          "example: [[authority]] with kind = \"http\" and digest_mechanisms = [\"APOP\"]");
    }
  }
}

// Who judges recipients must be there, and of the kind that has words for them.
void CheckInboundAuthority(const Config& config, const Listener& listener, const std::string& path,
                           Findings& findings) {
  const std::string key = path + ".inbound_authority";
  if (!listener.inbound_authority || !findings.Sound(key)) return;
  const std::string example =
      "make one, for example: [[authority]] with name = " + Quote(*listener.inbound_authority) +
      ", kind = \"http\" and urls = [\"http://127.0.0.1:8080/auth\"]";
  std::vector<std::string_view> names;
  for (const Authority& authority : config.authorities) {
    names.push_back(authority.name);
    if (authority.name != *listener.inbound_authority) continue;
    if (authority.kind == AuthorityKind::kHttp) return;
    return findings.Add(findings.PlaceOf(key), key,
                        "authority " + Quote(authority.name) +
                            " has kind = " + Quote(Name(authority.kind)) +
                            ", which knows nothing of recipients; use one with kind = \"http\"");
  }
  const auto nearest = Nearest(*listener.inbound_authority, names);
  findings.Add(findings.PlaceOf(key), key,
               "there is no authority " + Quote(*listener.inbound_authority) + "; " + example +
                   (nearest.empty() ? "" : " (did you mean " + Quote(nearest) + "?)"));
}

// What an authority has and no listener of its can make use of.
void CheckDigestMechanisms(const Config& config, const Authority& authority,
                           const std::string& path, Findings& findings) {
  const auto served = [&](const auto& serves) {
    return std::any_of(config.listeners.begin(), config.listeners.end(), serves);
  };
  for (size_t k = 0; k < authority.digest_mechanisms.size(); ++k) {
    const std::string key = path + ".digest_mechanisms[" + std::to_string(k + 1) + "]";
    if (authority.digest_mechanisms[k] == Mechanism::kApop) {
      if (!served([&](const Listener& listener) { return ServesApop(authority, listener); })) {
        findings.Add(findings.PlaceOf(key), key,
                     "\"APOP\" has no effect, since it decides about no listener with protocol = "
                     "\"pop3\"; remove it, or use, for example: \"CRAM-MD5\"");
      }
    } else if (!served([&](const Listener& listener) {
                 return ServesCramMd5(config, authority, listener);
               })) {
      findings.Add(findings.PlaceOf(key), key,
                   "\"CRAM-MD5\" has no effect, since the server speaks before it knows for whom: "
                   "the authority must be the first one of a listener, and without domains; "
                   "remove it, or put the authority first");
    }
  }
}

}  // namespace

Table<Authority> AuthorityTable() {
  return {
      "[[authority]]",
      {
          ChoiceField("kind", &Authority::kind, "\"passwords\"",
                      "Who checks passwords: the backend itself, a password file, a service that "
                      "speaks nginx's auth_http protocol, a login at another pool, or Dovecot's "
                      "auth process.")
              .Required(),
          TextField("name", &Authority::name, IsLabel, "1 to 64 of A-Z a-z 0-9 _ -", "\"staff\"",
                    "Name in logs and metrics; unique.")
              .Default("the kind"),
          NamesField("listeners", &Authority::listeners, "names of [[listener]] tables",
                     "[\"imap-993\"]", "Decides about the clients of these listeners only.")
              .Default("all"),
          ListField("domains", &Authority::domains, ParseDomain, "domain names",
                    "[\"example.org\"]",
                    "Decides about users of these domains only: what stands behind the last @, in "
                    "any case.")
              .Default("all, and users without a domain"),
          PathField("file", &Authority::file, "\"/etc/gatepost/passwords\"",
                    "Password file; required with kind = \"passwords\", and only then.")
              .Default("none"),
          ListField("urls", &Authority::urls, ParseHttpUrl, "http or https URLs",
                    "[\"http://127.0.0.1:8080/auth\"]",
                    "Where the service is asked; the others when the first does not work. Required "
                    "with kind = \"http\".")
              .Default("none"),
          PathField("ca_file", &Authority::ca_file, "\"/etc/gatepost/auth-ca.pem\"",
                    "Certificates (PEM) that the certificate of an https URL must descend from.")
              .Default("the system's certificates"),
          ListField("headers", &Authority::headers, ParseHttpHeader, "HTTP header fields",
                    "[\"X-Auth-Key: 4711\"]", "Header fields that are added to each question.")
              .Default("none"),
          BooleanField("pass_client_certificate", &Authority::pass_client_certificate, "true",
                       "Send the client's certificate whole (Auth-SSL-Cert)."),
          BooleanField("resolve_client_host", &Authority::resolve_client_host, "true",
                       "Look up the name of SMTP clients (Client-Host), which takes time."),
          ListField("digest_mechanisms", &Authority::digest_mechanisms, ParseDigestMechanism,
                    "any of \"CRAM-MD5\" and \"APOP\"", "[\"CRAM-MD5\", \"APOP\"]",
                    "Mechanisms beside passwords that the service can check, for which it must "
                    "know every password in cleartext, and tell it: Auth-Pass.")
              .Default("none"),
          TextField("pool", &Authority::pool, IsLabel, "the NAME of a [pool.NAME]", "\"stores\"",
                    "Where the client's credentials are tried; required with kind = \"login\".")
              .Default("none"),
          ChoiceField("protocol", &Authority::protocol, "\"imap\"",
                      "What that pool's backends speak."),
          IntegerField("max_concurrent", &Authority::max_concurrent, 1, 1000, "32",
                       "Questions of each worker at a time; more wait.")
              .Default("with kind = \"dovecot\" 1000, else 32"),
          DurationField(
              "connect_timeout", &Authority::connect_timeout, milliseconds(100),
              std::chrono::minutes(1), "\"2s\"",
              "Longest wait for a connection to one URL, or to Dovecot and its greeting."),
          DurationField("timeout", &Authority::timeout, milliseconds(100), std::chrono::minutes(2),
                        "\"5s\"",
                        "Longest wait for the answer of one URL, with the connecting, or for each "
                        "answer of Dovecot, which holds refusals back.")
              .Default("with kind = \"dovecot\" \"30s\", else \"5s\""),
          ParsedField("socket", &Authority::socket, ParseServiceSocket, kServiceSocket,
                      "\"/run/dovecot/auth-client\"",
                      "Where Dovecot's auth process listens (a unix_listener or inet_listener of "
                      "service auth); required with kind = \"dovecot\".")
              .Default("none"),
          BooleanField("returns_pass", &Authority::returns_pass, "true",
                       "Dovecot's passdb returns pass, with which users are logged in at the "
                       "backend, so that mechanisms without a password can be used."),
          DurationField("positive_cache", &Authority::positive_cache, milliseconds(0),
                        std::chrono::minutes(10), "\"30s\"",
                        "How long a good login is not asked about again; \"0s\": always asked."),
      }};
}

bool MayDecide(const Authority& authority, const Listener& listener) {
  return authority.listeners.empty() ||
         std::any_of(authority.listeners.begin(), authority.listeners.end(),
                     [&](const PlacedName& name) { return name.name == listener.name; });
}

void CheckAuthorities(const Config& config, Findings& findings) {
  std::vector<std::string_view> listeners;
  for (const Listener& listener : config.listeners) listeners.push_back(listener.name);
  std::map<std::string_view, size_t> names;
  for (size_t i = 0; i < config.authorities.size(); ++i) {
    const Authority& authority = config.authorities[i];
    const std::string path = "authority[" + std::to_string(i + 1) + "]";
    const std::string wanted = path + ".listeners";
    for (size_t k = 0;
         findings.Sound("listener") && findings.Sound(wanted) && k < authority.listeners.size();
         ++k) {
      const PlacedName& name = authority.listeners[k];
      if (std::find(listeners.begin(), listeners.end(), name.name) != listeners.end()) continue;
      std::string message = "no [[listener]] is named " + Quote(name.name) + "; there is ";
      for (const auto known : listeners) {
        message += (known == listeners[0] ? "" : ", ") + Quote(known);
      }
      const auto nearest = Nearest(name.name, listeners);
      if (!nearest.empty()) message += " (did you mean " + Quote(nearest) + "?)";
      findings.Add(name.place, wanted + "[" + std::to_string(k + 1) + "]", message);
    }
    if (!findings.Sound(path)) continue;
    CheckKeysOfKind(authority, path, findings);
    CheckHttp(authority, path, findings);
    CheckLogin(authority, config, path, findings);
    const auto [first, fresh] = names.emplace(authority.name, i);
    if (!fresh) {
      findings.Add(findings.PlaceOf(path + ".name"), path + ".name",
                   "the name " + Quote(authority.name) + " is taken by authority[" +
                       std::to_string(first->second + 1) + "] (line " +
                       std::to_string(config.authorities[first->second].place.line) +
                       "); use another one, for example: name = " + Quote(authority.name + "-2"));
    }
    const bool judges_recipients =
        std::any_of(config.listeners.begin(), config.listeners.end(),
                    [&](const Listener& l) { return l.inbound_authority == authority.name; });
    for (size_t before = 0; before < i && !judges_recipients; ++before) {
      if (!Hides(config.authorities[before], authority)) continue;
      findings.Add(authority.place, path,
                   "is never asked, since authority[" + std::to_string(before + 1) + "] (line " +
                       std::to_string(config.authorities[before].place.line) +
                       ") decides about all of its clients; put it first, or say of the other "
                       "for whom it is, for example: domains = [\"example.org\"]");
      break;
    }
  }
  if (!findings.Sound("authority") || !findings.Sound("pool")) return;
  for (size_t i = 0; i < config.listeners.size(); ++i) {
    const std::string path = "listener[" + std::to_string(i + 1) + "]";
    if (!findings.Sound(path)) continue;
    CheckPasswordless(config, config.listeners[i], path, findings);
    CheckDigestMechanisms(config, config.listeners[i], path, findings);
    CheckInboundAuthority(config, config.listeners[i], path, findings);
  }
  if (!findings.Sound("listener")) return;
  for (size_t i = 0; i < config.authorities.size(); ++i) {
    const std::string path = "authority[" + std::to_string(i + 1) + "]";
    if (config.authorities[i].kind != AuthorityKind::kHttp) continue;
    CheckDigestMechanisms(config, config.authorities[i], path, findings);
  }
}

}  // namespace gatepost::config
