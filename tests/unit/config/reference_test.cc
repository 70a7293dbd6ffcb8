// The documents and the schema say the same, both ways: config/reference.md, config/gatepost.toml.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include "config/loader.h"

namespace gatepost::config {
namespace {

std::string ReadSource(const std::string& path) {
  std::ifstream file(GATEPOST_SOURCE_DIR "/" + path);
  EXPECT_TRUE(file) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

std::string Errors(const tl::expected<Config, Diagnostics>& config) {
  std::string text;
  if (!config) {
    for (const Diagnostic& diagnostic : config.error()) text += diagnostic.Text() + "\n";
  }
  return text;
}

struct Row {
  std::string table;  // "listener", "pool.NAME"; empty at the top
  std::string name;
  std::string fallback;  // a TOML value, or words
  std::string example;   // name = value
};

// Rows takes the Markdown apart again.
std::vector<Row> Rows() {
  static const std::regex kRow(
      R"(\| `(?:(.+)\.)?([a-z0-9_]+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \| `([^|]+)` \|)");
  std::vector<Row> rows;
  for (const std::string& line : Lines(Reference())) {
    std::smatch match;
    EXPECT_TRUE(std::regex_match(line, match, kRow)) << line;
    std::string fallback = match[4];
    if (fallback.front() == '`') fallback = fallback.substr(1, fallback.size() - 2);
    rows.push_back({match[1], match[2], fallback, match[7]});
  }
  return rows;
}

TEST(Reference, FileHasTheRowsOfTheSchemaAndNoOthers) {
  std::vector<std::string> in_file;
  for (const std::string& line : Lines(ReadSource("config/reference.md"))) {
    if (line.starts_with("| `")) in_file.push_back(line);
  }
  EXPECT_EQ(in_file, Lines(Reference())) << "config/reference.md needs exactly these rows:\n"
                                         << Reference();
}

TEST(Reference, EachRowStandsUnderItsTable) {
  std::string section;
  for (const std::string& line : Lines(ReadSource("config/reference.md"))) {
    if (line.starts_with("## ")) section = line;
    if (!line.starts_with("| `")) continue;
    const std::string key = line.substr(3, line.find('`', 3) - 3);
    const size_t dot = key.rfind('.');
    if (dot == std::string::npos) {
      EXPECT_EQ(section, "## Top of the file") << key;
    } else {
      EXPECT_NE(section.find("[" + key.substr(0, dot) + "]"), std::string::npos) << key;
    }
  }
}

// A file in which `row`'s example stands, with what it needs around it.
std::string FileWith(const Row& row) {
  using Keys = std::map<std::string, std::string>;
  std::map<std::string, Keys> tables = {
      {"", {}},
      {"[[certificate]]", {{"chain", "chain = 'c'"}, {"key", "key = 'k'"}}},
      {"[[listener]]",
       {{"protocol", "protocol = 'smtp'"},
        {"addresses", "addresses = ['127.0.0.1:25']"},
        {"proxy_protocol", "proxy_protocol = 'v1'"},
        {"proxy_networks", "proxy_networks = ['10.0.0.0/8']"},
        {"client_certificates", "client_certificates = 'request'"},
        {"client_ca_file", "client_ca_file = 'c'"},
        {"client_certificate_user", "client_certificate_user = 'map'"},
        {"client_certificate_map", "client_certificate_map = 'm'"},
        {"relay", "relay = 'local-domains'"},
        {"local_domains", "local_domains = ['example.org']"},
        {"inbound_pool", "inbound_pool = 'mx'"},
        {"pool", "pool = 'stores'"}}},
      {"[pool.mx]", {{"members", "members = ['a:25']"}, {"login", "login = 'none'"}}},
      {"[pool.stores]",
       {{"members", "members = ['a:25']"},
        {"tls", "tls = 'starttls'"},
        {"client_certificate", "client_certificate = 'c'"},
        {"client_key", "client_key = 'k'"},
        {"master_user", "master_user = 'm'"},
        {"master_password_file", "master_password_file = 'p'"},
        {"master_user_separator", "master_user_separator = '*'"}}},
      {"[[route]]",
       {{"protocol", "protocol = 'imap'"},
        {"domains", "domains = ['example.org']"},
        {"pool", "pool = 'stores2'"}}},
      {"[pool.stores2]", {{"members", "members = ['b:143']"}}},
      {"[[authority]]", {{"kind", "kind = 'passwords'"}, {"file", "file = 'f'"}}},
      {"[admin]", {{"socket", "socket = 's'"}}},
  };
  std::string heading = "[" + row.table + "]";
  if (row.table.empty()) heading = "";
  if (row.table == "listener" || row.table == "certificate" || row.table == "authority" ||
      row.table == "route") {
    heading = "[" + heading + "]";
  }
  if (row.table == "pool.NAME") heading = "[pool.stores]";
  if (row.table == "authority" && row.name != "file" && row.name != "kind") {
    tables[heading] = {{"kind", "kind = 'http'"}, {"urls", "urls = ['https://a/b']"}};
    if (row.name == "pool" || row.name == "protocol") {
      tables["[[listener]]"]["protocol"] = "protocol = 'imap'";
      tables[heading] = {{"kind", "kind = 'login'"}, {"pool", "pool = 'stores'"}};
    }
    if (row.name == "socket" || row.name == "returns_pass") {
      tables[heading] = {{"kind", "kind = 'dovecot'"}, {"socket", "socket = '/s'"}};
    }
  }
  if (row.name == "digest_mechanisms") tables["[[listener]]"]["protocol"] = "protocol = 'pop3'";
  if (row.table == "authority" && row.name == "listeners") {
    tables["[[listener]]"]["name"] = "name = 'imap-993'";
  }
  if (row.table == "listener" && row.name == "certificates") {
    tables["[[certificate]]"]["name"] = "name = 'customers'";
  }
  if (row.name == "inbound_authority") {
    tables["[[authority]]"] = {{"kind", "kind = 'http'"},
                               {"urls", "urls = ['https://a/b']"},
                               {"name", "name = 'recipients'"}};
  }
  if (row.name == "xclient_login") {
    tables[heading] = {{"members", "members = ['a:25']"},
                       {"login", "login = 'none'"},
                       {"forward_client_address", "forward_client_address = 'native'"}};
  }
  if (row.table == "pool.NAME" && row.name.starts_with("account")) {
    tables[heading].insert({{"login", "login = 'fixed'"},
                            {"account", "account = 'a'"},
                            {"account_password_file", "account_password_file = 'p'"}});
  }
  if (row.name == "referral_hosts") {
    tables[heading].insert({"follow_referrals", "follow_referrals = 1"});
  }
  if (row.table == "throttle") {
    tables[heading] = {{"redis", "redis = '/r'"},
                       {"redis_password_file", "redis_password_file = 'p'"},
                       {"shared_key_file", "shared_key_file = 'k'"}};
  }
  if (row.table == "policy") {
    tables[heading] = {{"urls", "urls = ['https://a/']"}, {"nonce_file", "nonce_file = 'n'"}};
  }
  if (row.table == "certificate" && row.name == "directory") tables[heading].clear();
  if (row.name == "users_file") tables[heading] = {{"protocol", "protocol = 'imap'"}};
  tables[heading][row.name] = row.example;
  if (Keys& listener = tables["[[listener]]"]; listener["protocol"] != "protocol = 'smtp'") {
    for (const char* key : {"relay", "local_domains", "inbound_pool"}) listener.erase(key);
  }
  std::string text;
  for (const auto& [table, keys] : tables) {
    text += table + "\n";
    for (const auto& [name, line] : keys) text += line + "\n";
  }
  return text;
}

TEST(Reference, EachExampleIsTakenByTheParser) {
  const auto rows = Rows();
  ASSERT_GT(rows.size(), 30U);
  for (const Row& row : rows) {
    const auto config = Parse(FileWith(row), "example.toml");
    EXPECT_TRUE(config) << FileWith(row) << Errors(config);
  }
}

// Those of the file's TOML blocks that are whole configurations.
TEST(Reference, EachTomlBlockIsTakenByTheParser) {
  const std::string text = ReadSource("config/reference.md");
  size_t blocks = 0;
  for (size_t begin = text.find("```toml\n"); begin != std::string::npos;
       begin = text.find("```toml\n", begin + 1)) {
    const size_t end = text.find("```", begin + 8);
    const auto config = Parse(text.substr(begin + 8, end - begin - 8), "reference.md");
    EXPECT_TRUE(config) << Errors(config);
    ++blocks;
  }
  EXPECT_GE(blocks, 1U);
}

TEST(ReferenceConfiguration, MirrorsThePortTable) {
  const auto config = Parse(ReadSource("config/gatepost.toml"), "config/gatepost.toml");
  ASSERT_TRUE(config) << Errors(config);
  struct Port {
    uint16_t port;
    Protocol protocol;
    ListenerTls tls;
    CleartextLogin cleartext_login;
    const char* pool;
  };
  constexpr auto kStartTls = ListenerTls::kStartTls;
  constexpr auto kImplicit = ListenerTls::kImplicit;
  constexpr auto kAllow = CleartextLogin::kAllow;
  constexpr auto kDeny = CleartextLogin::kDeny;
  const Port ports[] = {{143, Protocol::kImap, kStartTls, kAllow, "stores"},
                        {993, Protocol::kImap, kImplicit, kDeny, "stores"},
                        {110, Protocol::kPop3, kStartTls, kAllow, "stores-pop3"},
                        {995, Protocol::kPop3, kImplicit, kDeny, "stores-pop3"},
                        {25, Protocol::kSmtp, kStartTls, kAllow, "outgoing"},
                        {26, Protocol::kSmtp, kStartTls, kAllow, "outgoing"},
                        {587, Protocol::kSmtp, kStartTls, kAllow, "outgoing"},
                        {465, Protocol::kSmtp, kImplicit, kDeny, "outgoing"}};
  ASSERT_EQ(config->listeners.size(), std::size(ports));
  for (size_t i = 0; i < std::size(ports); ++i) {
    const Listener& listener = config->listeners[i];
    EXPECT_EQ(listener.addresses,
              (std::vector<SocketAddress>{{"0.0.0.0", ports[i].port}, {"::", ports[i].port}}));
    EXPECT_EQ(listener.protocol, ports[i].protocol) << ports[i].port;
    EXPECT_EQ(listener.tls, ports[i].tls) << ports[i].port;
    EXPECT_EQ(listener.cleartext_login, ports[i].cleartext_login) << ports[i].port;
    EXPECT_EQ(listener.pool, ports[i].pool) << ports[i].port;
  }
  ASSERT_EQ(config->authorities.size(), 1U);
  EXPECT_EQ(config->authorities[0].kind, AuthorityKind::kBackend);
  EXPECT_EQ(config->admin.address, (SocketAddress{"127.0.0.1", 9143}));
}

// Its table headings and key lines, commented out or not, per table.
std::map<std::string, std::map<std::string, std::string>> KeysOfReferenceConfiguration() {
  static const std::regex kHeading(R"((?:#     )?\[+([^\]]+)\]+)");
  static const std::regex kKey(R"((?:#|#     )?([a-z0-9_]+) = ([^#]*[^# ]) *(?:#.*)?)");
  std::map<std::string, std::map<std::string, std::string>> keys;
  std::string table;
  for (const std::string& line : Lines(ReadSource("config/gatepost.toml"))) {
    std::smatch match;
    if (std::regex_match(line, match, kHeading)) {
      table = match[1];
      if (table.starts_with("pool.")) table = "pool.NAME";
    } else if (std::regex_match(line, match, kKey)) {
      const bool commented = line.starts_with("#");
      std::string& value = keys[table][match[1]];
      if (commented || value.empty()) value = (commented ? "#" : "") + match[2].str();
    }
  }
  return keys;
}

TEST(ReferenceConfiguration, ShowsEveryKeyAndTheTrueDefaults) {
  auto keys = KeysOfReferenceConfiguration();
  for (const Row& row : Rows()) {
    const auto found = keys[row.table].find(row.name);
    ASSERT_NE(found, keys[row.table].end()) << row.table << "." << row.name;
    const std::string& shown = found->second;
    const bool constant = row.fallback.front() == '"' ||
                          row.fallback.find_first_not_of("0123456789") == std::string::npos ||
                          row.fallback == "true";
    if (shown.starts_with("#") && constant) {
      EXPECT_EQ(shown, "#" + row.fallback) << row.table << "." << row.name;
    }
  }
}

TEST(ReferenceConfiguration, EachCommentedKeyCanBeTurnedOn) {
  const auto lines = Lines(ReadSource("config/gatepost.toml"));
  static const std::regex kCommented("#[a-z0-9_]+ = .*");
  std::string all;
  size_t turned_on = 0;
  for (const std::string& line : lines) {
    const bool commented = std::regex_match(line, kCommented);
    turned_on += commented ? 1 : 0;
    all += line.substr(commented ? 1 : 0) + "\n";
  }
  EXPECT_GE(turned_on, 25U);
  const auto config = Parse(all, "gatepost.toml");
  EXPECT_TRUE(config) << Errors(config);
}

}  // namespace
}  // namespace gatepost::config
