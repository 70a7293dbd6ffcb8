// SPDX-License-Identifier: Apache-2.0
#include "config/loader.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <system_error>
#include <tuple>
#include <utility>

#include "config/checks.h"
#include "config/schema_tables.h"

namespace gatepost::config {
namespace {

// A bare key of TOML stands as it is; any other is quoted.
std::string KeyName(std::string_view key) {
  const bool bare = !key.empty() && std::all_of(key.begin(), key.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  });
  return bare ? std::string(key) : Quote(key);
}

std::string Join(const std::string& path, std::string_view key) {
  return path.empty() ? KeyName(key) : path + "." + KeyName(key);
}

// Reader walks a parsed document beside the schema and fills the structs.
class Reader {
 public:
  Reader(const std::filesystem::path& file, Findings& findings)
      : folder_(file.parent_path()), findings_(findings) {}

  Config Read(const toml::table& root);

 private:
  template <typename T>
  void ReadFields(const toml::table& table, const std::string& path, const Table<T>& schema,
                  T& out);
  template <typename T>
  void ReadSingle(const toml::table& root, const Table<T>& schema, T& out);
  template <typename T>
  void ReadList(const toml::table& root, const Table<T>& schema, std::vector<T>& out);
  void ReadPools(const toml::table& root, std::vector<Pool>& out);
  template <typename T>
  void Unknown(const toml::key& key, const std::string& path, const Table<T>& schema);
  // Homes names the tables that do have the key: "[limits] or [pool.NAME]".
  std::string Homes(std::string_view key) const;
  void WrongKind(const toml::node& node, const std::string& path, std::string_view heading);

  const SchemaTables schema_;
  const std::filesystem::path folder_;
  Findings& findings_;
};

Config Reader::Read(const toml::table& root) {
  Config config;
  ReadFields(root, "", schema_.top, config);
  ReadList(root, schema_.certificate, config.certificates);
  ReadList(root, schema_.listener, config.listeners);
  ReadPools(root, config.pools);
  ReadList(root, schema_.route, config.routes);
  ReadList(root, schema_.authority, config.authorities);
  ReadSingle(root, schema_.users, config.users);
  ReadSingle(root, schema_.tls, config.tls);
  ReadSingle(root, schema_.limits, config.limits);
  ReadSingle(root, schema_.throttle, config.throttle);
  ReadSingle(root, schema_.policy, config.policy);
  ReadSingle(root, schema_.idle_timeout, config.idle_timeouts);
  ReadSingle(root, schema_.log, config.log);
  ReadSingle(root, schema_.admin, config.admin);
  ReadSingle(root, schema_.process, config.process);
  return config;
}

template <typename T>
void Reader::ReadFields(const toml::table& table, const std::string& path, const Table<T>& schema,
                        T& out) {
  if constexpr (requires { out.place; }) out.place = PlaceOf(table.source());
  for (const auto& [key, node] : table) {
    const auto field =
        std::find_if(schema.fields.begin(), schema.fields.end(),
                     [&, &name = key](const Field<T>& f) { return f.name == name.str(); });
    if (field == schema.fields.end()) {
      Unknown(key, path, schema);
      continue;
    }
    const std::string key_path = Join(path, key.str());
    findings_.Saw(key_path, PlaceOf(node.source()));
    field->read(Value(node, key_path, *field, folder_, findings_), out);
  }
  for (const Field<T>& field : schema.fields) {
    if (!field.required || table.contains(field.name)) continue;
    findings_.Add(PlaceOf(table.source()), Join(path, field.name), "is missing; " + field.Advice());
  }
}

template <typename T>
void Reader::ReadSingle(const toml::table& root, const Table<T>& schema, T& out) {
  const std::string name(BareName(schema.heading));
  const toml::node* node = root.get(name);
  if (node == nullptr) return;
  findings_.Saw(name, PlaceOf(node->source()));
  const toml::table* table = node->as_table();
  if (table == nullptr) return WrongKind(*node, name, schema.heading);
  ReadFields(*table, name, schema, out);
}

template <typename T>
void Reader::ReadList(const toml::table& root, const Table<T>& schema, std::vector<T>& out) {
  const std::string name(BareName(schema.heading));
  const toml::node* node = root.get(name);
  if (node == nullptr) return;
  const toml::array* array = node->as_array();
  if (array == nullptr) return WrongKind(*node, name, schema.heading);
  for (const toml::node& element : *array) {
    // An element that is no table keeps its number, so that the others keep theirs.
    T& item = out.emplace_back();
    const std::string path = name + "[" + std::to_string(out.size()) + "]";
    findings_.Saw(path, PlaceOf(element.source()));
    if (const toml::table* table = element.as_table()) {
      ReadFields(*table, path, schema, item);
    } else {
      WrongKind(element, path, schema.heading);
    }
  }
}

void Reader::ReadPools(const toml::table& root, std::vector<Pool>& out) {
  const toml::node* node = root.get("pool");
  if (node == nullptr) return;
  const toml::table* pools = node->as_table();
  if (pools == nullptr) return WrongKind(*node, "pool", schema_.pool.heading);
  for (const auto& [key, pool_node] : *pools) {
    const std::string path = Join("pool", key.str());
    const toml::table* table = pool_node.as_table();
    if (table == nullptr) {
      WrongKind(pool_node, path, schema_.pool.heading);
      continue;
    }
    findings_.Saw(path, PlaceOf(pool_node.source()));
    Pool& pool = out.emplace_back();
    pool.name = key.str();
    if (!IsLabel(pool.name)) {
      findings_.Add(PlaceOf(key.source()), path,
                    "a pool's name is 1 to 64 of A-Z a-z 0-9 _ -, for example: [pool.stores]");
    }
    ReadFields(*table, path, schema_.pool, pool);
  }
  // toml++ sorts by name; people think in the order of the file.
  std::stable_sort(out.begin(), out.end(), [](const Pool& a, const Pool& b) {
    return std::tie(a.place.line, a.place.column) < std::tie(b.place.line, b.place.column);
  });
}

template <typename T>
void Reader::Unknown(const toml::key& key, const std::string& path, const Table<T>& schema) {
  // What the table may have, each with how it is written.
  std::vector<std::pair<std::string_view, std::string>> known;
  for (const Field<T>& field : schema.fields) {
    known.emplace_back(field.name, std::string(field.name) + " = " + std::string(field.example));
  }
  if (path.empty()) {
    schema_.ForEach([&](const auto& table) {
      if (!table.heading.empty()) {
        known.emplace_back(BareName(table.heading), std::string(table.heading));
      }
    });
  }
  std::vector<std::string_view> names;
  names.reserve(known.size());
  for (const auto& [name, example] : known) names.push_back(name);
  // The top's tables are read elsewhere.
  if (path.empty() && std::count(names.begin(), names.end(), key.str()) > 0) return;

  std::string message = "unknown key; allowed here: ";
  for (const auto& name : names) {
    if (name != names.front()) message += ", ";
    message += name;
  }
  const std::string_view nearest = Nearest(key.str(), names);
  const auto example = std::find(names.begin(), names.end(), nearest.empty() ? names[0] : nearest);
  message += "; for example: " + known[static_cast<size_t>(example - names.begin())].second;
  if (const std::string homes = Homes(key.str()); !homes.empty()) {
    message += " (" + Quote(key.str()) + " belongs " + homes + ")";
  } else if (!nearest.empty()) {
    message += " (did you mean " + Quote(nearest) + "?)";
  }
  findings_.Add(PlaceOf(key.source()), Join(path, key.str()), std::move(message));
}

std::string Reader::Homes(std::string_view key) const {
  std::string homes;
  schema_.ForEach([&](const auto& table) {
    for (const auto& field : table.fields) {
      if (field.name != key) continue;
      homes += homes.empty() ? "" : " or ";
      homes += table.heading.empty() ? "at the top of the file, before the first table"
                                     : "in " + std::string(table.heading);
    }
  });
  return homes;
}

void Reader::WrongKind(const toml::node& node, const std::string& path, std::string_view heading) {
  findings_.Add(PlaceOf(node.source()), path,
                "found " + std::string(TypeName(node)) + ", wanted " +
                    (heading.starts_with("[[") ? "a list of tables" : "a table") +
                    ", which begins with " + std::string(heading));
}

// The machine's own name where it is one that a client may be told.
std::string MachineName() {
  std::array<char, 256> name{};
  if (gethostname(name.data(), name.size() - 1) != 0 || !IsHostName(name.data())) {
    return "localhost";
  }
  return name.data();
}

void FillDefaults(Config& config, const Findings& findings) {
  if (config.hostname.empty()) config.hostname = MachineName();
  for (Listener& listener : config.listeners) {
    if (!listener.name.empty() || listener.addresses.empty()) continue;
    listener.name = std::string(Name(listener.protocol)) + "-" +
                    std::to_string(listener.addresses.front().port);
  }
  if (config.authorities.empty()) config.authorities.emplace_back();
  for (size_t i = 0; i < config.authorities.size(); ++i) {
    Authority& authority = config.authorities[i];
    if (authority.name.empty()) authority.name = Name(authority.kind);
    if (authority.kind != AuthorityKind::kDovecot) continue;
    // It holds refusals back itself, and one connection carries many questions.
    const std::string path = "authority[" + std::to_string(i + 1) + "]";
    if (!findings.Has(path + ".timeout")) authority.timeout = std::chrono::seconds(30);
    if (!findings.Has(path + ".max_concurrent")) authority.max_concurrent = 1000;
  }
}

enum class Depth { kText, kMachine };

// ReadTables adds what is wrong with single keys to `findings`; nothing: it is no TOML.
std::optional<Config> ReadTables(std::string_view text, const std::filesystem::path& file,
                                 Findings& findings) {
  try {
    const toml::table root = toml::parse(text, std::string_view());
    return Reader(file, findings).Read(root);
  } catch (const toml::parse_error& error) {
    // toml++ stops at the first error of syntax, and quotes what it saw.
    std::string message(error.description());
    std::replace_if(
        message.begin(), message.end(),
        [](char c) {
          return static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) >= 0x7f;
        },
        '?');
    findings.Add(PlaceOf(error.source()), "", std::move(message));
    return std::nullopt;
  }
}

tl::expected<Config, Diagnostics> ParseAndCheck(std::string_view text,
                                                const std::filesystem::path& file, Depth depth) {
  Findings findings(file.string());
  std::optional<Config> config = ReadTables(text, file, findings);
  if (!config) return tl::unexpected(findings.Take());
  FillDefaults(*config, findings);
  CheckKeys(*config, findings);
  if (depth == Depth::kMachine) CheckMachine(*config, findings);
  if (!findings.empty()) return tl::unexpected(findings.Take());
  return *std::move(config);
}

}  // namespace

tl::expected<Config, Diagnostics> Parse(std::string_view text, const std::filesystem::path& file) {
  return ParseAndCheck(text, file, Depth::kText);
}

tl::expected<Admin, Diagnostics> ParseAdmin(std::string_view text,
                                            const std::filesystem::path& file) {
  Findings findings(file.string());
  std::optional<Config> config = ReadTables(text, file, findings);
  Diagnostics problems = findings.Take();
  if (config) {
    std::erase_if(problems,
                  [](const Diagnostic& problem) { return !problem.key.starts_with("admin"); });
  }
  if (!problems.empty()) return tl::unexpected(std::move(problems));
  return std::move(config->admin);
}

tl::expected<Config, Diagnostics> Load(const std::filesystem::path& file) {
  // A folder opens like a file, and throws at the first read.
  std::error_code error;
  if (std::filesystem::is_directory(file, error)) error = {EISDIR, std::generic_category()};
  std::ifstream stream;
  if (!error) {
    stream.open(file, std::ios::binary);
    if (!stream) error = {errno, std::generic_category()};
  }
  if (error) {
    return tl::unexpected(
        Diagnostics{{file.string(), {}, "", "cannot be read: " + error.message()}});
  }
  const std::string text(std::istreambuf_iterator<char>(stream), {});
  return ParseAndCheck(text, file, Depth::kMachine);
}

}  // namespace gatepost::config
