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
  struct Key {
    const char* name;
    AuthorityKind kind;
    const char* example;  // where the kind needs it
  };
  static constexpr Key kKeys[] = {
      {"file", AuthorityKind::kPasswords, "file = \"/etc/gatepost/passwords\""},
  };
  for (const Key& key : kKeys) {
    const std::string key_path = path + "." + key.name;
    if (!findings.Sound(key_path)) continue;
    const std::string kind = "kind = " + Quote(Name(key.kind));
    if (authority.kind == key.kind) {
      if (key.example == nullptr || findings.Has(key_path)) continue;
      findings.Add(authority.place, key_path,
                   "is missing, and " + kind + " needs it, for example: " + key.example);
    } else if (findings.Has(key_path)) {
      findings.Add(findings.PlaceOf(key_path), key_path,
                   "has no effect with kind = " + Quote(Name(authority.kind)) +
                       "; remove it, or use " + kind);
    }
  }
}

}  // namespace

Table<Authority> AuthorityTable() {
  return {"[[authority]]",
          {
              ChoiceField("kind", &Authority::kind, "\"passwords\"",
                          "Who checks passwords: the backend itself, or a password file.")
                  .Required(),
              TextField("name", &Authority::name, IsLabel, "1 to 64 of A-Z a-z 0-9 _ -",
                        "\"staff\"", "Name in logs and metrics; unique.")
                  .Default("the kind"),
              NamesField("listeners", &Authority::listeners, "names of [[listener]] tables",
                         "[\"imap-993\"]", "Decides about the clients of these listeners only.")
                  .Default("all"),
              ListField(
                  "domains", &Authority::domains, ParseDomain, "domain names", "[\"example.org\"]",
                  "Decides about users of these domains only: what stands behind the last @, in "
                  "any case.")
                  .Default("all, and users without a domain"),
              PathField("file", &Authority::file, "\"/etc/gatepost/passwords\"",
                        "Password file; required with kind = \"passwords\", and only then.")
                  .Default("none"),
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
    const auto [first, fresh] = names.emplace(authority.name, i);
    if (!fresh) {
      findings.Add(findings.PlaceOf(path + ".name"), path + ".name",
                   "the name " + Quote(authority.name) + " is taken by authority[" +
                       std::to_string(first->second + 1) + "] (line " +
                       std::to_string(config.authorities[first->second].place.line) +
                       "); use another one, for example: name = " + Quote(authority.name + "-2"));
    }
    for (size_t before = 0; before < i; ++before) {
      if (!Hides(config.authorities[before], authority)) continue;
      findings.Add(authority.place, path,
                   "is never asked, since authority[" + std::to_string(before + 1) + "] (line " +
                       std::to_string(config.authorities[before].place.line) +
                       ") decides about all of its clients; put it first, or say of the other "
                       "for whom it is, for example: domains = [\"example.org\"]");
      break;
    }
  }
}

}  // namespace gatepost::config
