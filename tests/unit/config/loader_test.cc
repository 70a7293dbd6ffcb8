// Right configurations: what they become. Wrong ones are in diagnostics_test.cc.
// SPDX-License-Identifier: Apache-2.0
#include "config/loader.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "config/values.h"

namespace gatepost::config {
namespace {

constexpr std::string_view kMinimal = R"([[certificate]]
chain = "tls/chain.pem"
key = "/abs/key.pem"
[[listener]]
protocol = "imap"
addresses = ["127.0.0.1:143", "[::1]:143"]
pool = "stores"
[pool.stores]
members = ["store1:143", "[::1]:1143"]
)";

std::string Errors(const tl::expected<Config, Diagnostics>& config) {
  std::string text;
  if (!config) {
    for (const Diagnostic& diagnostic : config.error()) text += diagnostic.Text() + "\n";
  }
  return text;
}

TEST(Loader, FillsInEveryDefault) {
  const auto config = Parse(kMinimal, "/etc/gatepost/gatepost.toml");
  ASSERT_TRUE(config) << Errors(config);
  EXPECT_TRUE(IsHostName(config->hostname));
  ASSERT_EQ(config->certificates.size(), 1U);
  ASSERT_EQ(config->listeners.size(), 1U);
  const Listener& listener = config->listeners[0];
  EXPECT_EQ(listener.name, "imap-143");
  EXPECT_EQ(listener.protocol, Protocol::kImap);
  EXPECT_EQ(listener.addresses, (std::vector<SocketAddress>{{"127.0.0.1", 143}, {"::1", 143}}));
  EXPECT_EQ(listener.tls, ListenerTls::kStartTls);
  EXPECT_EQ(listener.cleartext_login, CleartextLogin::kDeny);
  EXPECT_EQ(listener.profile, TlsProfile::kIntermediate);
  EXPECT_EQ(listener.bare_newline, BareNewline::kReject);
  EXPECT_EQ(listener.pool, "stores");
  ASSERT_EQ(config->pools.size(), 1U);
  const Pool& pool = config->pools[0];
  EXPECT_EQ(pool.name, "stores");
  EXPECT_EQ(pool.members, (std::vector<PoolMember>{{{"store1", 143}}, {{"::1", 1143}}}));
  EXPECT_EQ(pool.balance, Balance::kUserHash);
  EXPECT_EQ(pool.tls, BackendTls::kNone);
  EXPECT_TRUE(pool.verify);
  EXPECT_FALSE(pool.ca_file);
  EXPECT_FALSE(pool.server_name);
  EXPECT_EQ(pool.login, BackendLogin::kSame);
  EXPECT_EQ(pool.connect_timeout, seconds(5));
  EXPECT_EQ(pool.login_timeout, seconds(30));
  ASSERT_EQ(config->authorities.size(), 1U);
  EXPECT_EQ(config->authorities[0].kind, AuthorityKind::kBackend);
  EXPECT_EQ(config->authorities[0].name, "backend");
  EXPECT_EQ(config->limits.max_connections, 0U);
  EXPECT_EQ(config->limits.max_line_bytes, 8192U);
  EXPECT_EQ(config->limits.login_timeout, seconds(120));
  EXPECT_EQ(config->idle_timeouts.imap, std::chrono::minutes(31));
  EXPECT_EQ(config->log.format, LogFormat::kLogfmt);
  EXPECT_FALSE(config->log.file);
  EXPECT_EQ(config->admin.address, (SocketAddress{"127.0.0.1", 9143}));
  EXPECT_FALSE(config->admin.socket);
  EXPECT_EQ(config->admin.socket_mode, SocketMode::kOwner);
  EXPECT_EQ(config->process.workers, 0U);
  EXPECT_FALSE(config->process.user);
}

TEST(Loader, ReadsEveryKey) {
  const auto config = Parse(R"(hostname = "mail.example.org"
[[certificate]]
chain = "c"
key = "k"
[[certificate]]
chain = "c2"
key = "k2"
[[listener]]
name = "submission"
protocol = "smtp"
addresses = ["[2001:DB8::0:1]:587"]
tls = "starttls"
cleartext_login = "allow"
tls_profile = "legacy"
bare_newline = "normalize"
pool = "outgoing"
[[listener]]
protocol = "pop3"
addresses = ["127.0.0.1:0", "127.0.0.1:0"]   # port 0: two free ones
tls = "implicit"
tls_profile = "modern"
pool = "pop"
[pool.pop]
members = ["127.0.0.1:110"]
tls = "implicit"
verify = false
ca_file = "ca"
server_name = "::1"
pin_sha256 = ["AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="]
client_certificate = "ours.pem"
client_key = "ours.key"
tls_minimum_version = "1.0"
connect_timeout = "500ms"
login_timeout = "10m"
[pool.outgoing]
members = ["relay:25"]
login = "none"
[[authority]]
name = "staff"
kind = "passwords"
file = "passwords"
listeners = ["pop3-0"]
domains = ["Example.ORG", "xn--bcher-kva.example"]
[[authority]]
kind = "passwords"
file = "others"
[limits]
max_connections = 1
max_connections_per_address = 2
login_timeout = "3s"
tls_handshake_timeout = "4s"
max_failed_logins = 5
failed_login_delay = "0s"
max_bad_commands = 7
max_line_bytes = 12288
max_literal_bytes = 1048576
[idle_timeout]
imap = "1s"
pop3 = "2s"
smtp = "24h"
[log]
format = "json"
level = "warning"
file = "log"
[admin]
address = "off"
socket = "control.sock"
socket_mode = "0660"
[process]
workers = 3
user = "mail"
drain_timeout = "0s"
)",
                            "/conf/gatepost.toml");
  ASSERT_TRUE(config) << Errors(config);
  EXPECT_EQ(config->hostname, "mail.example.org");
  ASSERT_EQ(config->certificates.size(), 2U);
  EXPECT_EQ(config->certificates[1].key, "/conf/k2");
  ASSERT_EQ(config->listeners.size(), 2U);
  EXPECT_EQ(config->listeners[0].name, "submission");
  EXPECT_EQ(config->listeners[0].protocol, Protocol::kSmtp);
  EXPECT_EQ(config->listeners[0].addresses[0], (SocketAddress{"2001:db8::1", 587}));
  EXPECT_EQ(config->listeners[0].cleartext_login, CleartextLogin::kAllow);
  EXPECT_EQ(config->listeners[0].profile, TlsProfile::kLegacy);
  EXPECT_EQ(config->listeners[0].bare_newline, BareNewline::kNormalize);
  EXPECT_EQ(config->listeners[1].name, "pop3-0");
  EXPECT_EQ(config->listeners[1].tls, ListenerTls::kImplicit);
  EXPECT_EQ(config->listeners[1].profile, TlsProfile::kModern);
  ASSERT_EQ(config->pools.size(), 2U);
  const Pool& pop = config->pools[0];  // the order of the file, not of the alphabet
  EXPECT_EQ(pop.name, "pop");
  EXPECT_EQ(pop.tls, BackendTls::kImplicit);
  EXPECT_FALSE(pop.verify);
  EXPECT_EQ(pop.ca_file, "/conf/ca");
  EXPECT_EQ(pop.server_name, "::1");
  ASSERT_EQ(pop.pins.size(), 1U);
  for (size_t i = 0; i < pop.pins[0].size(); ++i) EXPECT_EQ(pop.pins[0][i], i);
  EXPECT_EQ(pop.client_certificate, "/conf/ours.pem");
  EXPECT_EQ(pop.client_key, "/conf/ours.key");
  EXPECT_EQ(pop.tls_minimum_version, TlsVersion::k10);
  EXPECT_EQ(pop.connect_timeout, milliseconds(500));
  EXPECT_EQ(pop.login_timeout, std::chrono::minutes(10));
  EXPECT_EQ(config->pools[1].login, BackendLogin::kNone);
  ASSERT_EQ(config->authorities.size(), 2U);
  EXPECT_EQ(config->authorities[0].name, "staff");
  EXPECT_EQ(config->authorities[0].kind, AuthorityKind::kPasswords);
  EXPECT_EQ(config->authorities[0].file, "/conf/passwords");
  EXPECT_EQ(config->authorities[0].domains,
            (std::vector<std::string>{"example.org", "xn--bcher-kva.example"}));
  EXPECT_FALSE(MayDecide(config->authorities[0], config->listeners[0]));
  EXPECT_TRUE(MayDecide(config->authorities[0], config->listeners[1]));
  EXPECT_EQ(config->authorities[1].name, "passwords");
  EXPECT_TRUE(MayDecide(config->authorities[1], config->listeners[0]));
  EXPECT_EQ(config->limits.max_connections, 1U);
  EXPECT_EQ(config->limits.max_connections_per_address, 2U);
  EXPECT_EQ(config->limits.login_timeout, seconds(3));
  EXPECT_EQ(config->limits.tls_handshake_timeout, seconds(4));
  EXPECT_EQ(config->limits.max_failed_logins, 5U);
  EXPECT_EQ(config->limits.failed_login_delay, seconds(0));
  EXPECT_EQ(config->limits.max_bad_commands, 7U);
  EXPECT_EQ(config->limits.max_line_bytes, 12288U);
  EXPECT_EQ(config->limits.max_literal_bytes, 1048576U);
  EXPECT_EQ(config->idle_timeouts.imap, seconds(1));
  EXPECT_EQ(config->idle_timeouts.pop3, seconds(2));
  EXPECT_EQ(config->idle_timeouts.smtp, std::chrono::hours(24));
  EXPECT_EQ(config->log.format, LogFormat::kJson);
  EXPECT_EQ(config->log.level, LogLevel::kWarning);
  EXPECT_EQ(config->log.file, "/conf/log");
  EXPECT_FALSE(config->admin.address);
  EXPECT_EQ(config->admin.socket->filename(), "control.sock");
  EXPECT_TRUE(config->admin.socket->is_absolute());
  EXPECT_EQ(config->admin.socket_mode, SocketMode::kGroup);
  EXPECT_EQ(config->process.workers, 3U);
  EXPECT_EQ(config->process.user, "mail");
  EXPECT_EQ(config->process.drain_timeout, seconds(0));
}

TEST(Loader, TakesRelativePathsFromTheFilesFolder) {
  const auto config = Parse(kMinimal, "conf/gatepost.toml");
  ASSERT_TRUE(config) << Errors(config);
  EXPECT_EQ(config->certificates[0].chain, "conf/tls/chain.pem");
  EXPECT_EQ(config->certificates[0].key, "/abs/key.pem");
}

TEST(Loader, KeepsThePlacesThatLaterErrorsNeed) {
  const auto config = Parse(kMinimal, "g.toml");
  ASSERT_TRUE(config) << Errors(config);
  EXPECT_EQ(config->certificates[0].place.line, 1U);
  EXPECT_EQ(config->listeners[0].place.line, 4U);
  EXPECT_EQ(config->pools[0].place.line, 8U);
}

TEST(Loader, TakesInlineTablesAndDottedKeys) {
  const auto config = Parse(R"(certificate = [{chain = "c", key = "k"}]
listener = [{protocol = "imap", addresses = ["127.0.0.1:143"], pool = "a"}]
pool.a.members = ["b:143"]
log.level = "debug"
)",
                            "g.toml");
  ASSERT_TRUE(config) << Errors(config);
  EXPECT_EQ(config->log.level, LogLevel::kDebug);
}

class LoaderFiles : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "gatepost-config-XXXXXX");
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path Write(const char* name, std::string_view text) const {
    std::ofstream(folder_ / name) << text;
    return folder_ / name;
  }

  std::filesystem::path folder_;
};

constexpr std::string_view kRest = R"([[listener]]
protocol = "imap"
addresses = ["127.0.0.1:143"]
pool = "stores"
[pool.stores]
members = ["store1:143"]
)";

TEST_F(LoaderFiles, AreFoundBesideTheConfiguration) {
  Write("c.pem", "");
  Write("k.pem", "");
  const auto file = Write("gatepost.toml", "[[certificate]]\nchain = 'c.pem'\nkey = 'k.pem'\n" +
                                               std::string(kRest) + "[log]\nfile = 'new.log'\n" +
                                               "[admin]\nsocket = '/run/not-there-yet/socket'\n");
  const auto config = Load(file);
  ASSERT_TRUE(config) << Errors(config);
  EXPECT_EQ(config->certificates[0].chain, folder_ / "c.pem");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "new.log"));  // a check leaves nothing behind
}

TEST_F(LoaderFiles, ThatCannotBeReadAreErrorsWithTheReason) {
  const auto file = Write("gatepost.toml", R"([[certificate]]
chain = "/nonexistent/c.pem"
key = "/"
[[authority]]
kind = "passwords"
file = "/nonexistent/passwords"
[log]
file = "/nonexistent/log"
[admin]
socket = "/nonexistent/socket"
[process]
user = "no-such-user"
)" + std::string(kRest) + "tls = 'implicit'\nca_file = '/nonexistent/ca'\n");
  const auto config = Load(file);
  ASSERT_FALSE(config);
  const std::string at = file.string() + ":";
  EXPECT_EQ(Errors(config),
            at +
                "2:9: certificate[1].chain: \"/nonexistent/c.pem\" cannot be read: "
                "No such file or directory\n" +
                at + "3:7: certificate[1].key: \"/\" cannot be read: Is a directory\n" + at +
                "6:8: authority[1].file: \"/nonexistent/passwords\" cannot be read: "
                "No such file or directory\n" +
                at +
                "8:8: log.file: \"/nonexistent/log\" cannot be written: "
                "No such file or directory\n" +
                at +
                "10:10: admin.socket: \"/nonexistent/socket\" cannot be made: its folder is not "
                "there; make it, or use another one, for example: socket = "
                "\"/run/gatepost/control.sock\"\n" +
                at +
                "12:8: process.user: this machine has no user \"no-such-user\"; use one that "
                "it has, for example: user = \"nobody\"\n" +
                at +
                "20:11: pool.stores.ca_file: \"/nonexistent/ca\" cannot be read: "
                "No such file or directory\n");
}

TEST_F(LoaderFiles, TheConfigurationItselfMustBeReadable) {
  EXPECT_EQ(Errors(Load("/nonexistent/g.toml")),
            "/nonexistent/g.toml: cannot be read: No such file or directory\n");
  EXPECT_EQ(Errors(Load(folder_)), folder_.string() + ": cannot be read: Is a directory\n");
}

}  // namespace
}  // namespace gatepost::config
