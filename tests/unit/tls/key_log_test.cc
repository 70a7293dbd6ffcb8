// The key log: one line a secret, and no file that others could read.
// SPDX-License-Identifier: Apache-2.0
#include "tls/key_log.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <iterator>
#include <string>

#include "tests/unit/tls/channel_pair.h"
#include "tests/unit/tls/fixtures.h"
#include "tests/unit/tls/raw_client.h"

namespace gatepost::tls::test {
namespace {

std::string Content(const std::filesystem::path& file) {
  std::ifstream stream(file);
  return {std::istreambuf_iterator<char>(stream), {}};
}

TEST(KeyLog, HasTheSecretsOfBothSides) {
  const Folder folder;
  const auto log = KeyLog::Open(folder.path() / "keys");
  ASSERT_TRUE(log) << log.error().text;
  ServerOptions server;
  server.certificates = SimpleStore();
  server.key_log = *log;
  ClientOptions client;
  client.verify = false;
  client.key_log = *log;
  Pair pair(*ClientContext::Make(client), *ServerContext::Make(server));
  ASSERT_TRUE(pair.Handshake());
  const std::string text = Content(folder.path() / "keys");
  for (const std::string label : {"CLIENT_HANDSHAKE_TRAFFIC_SECRET ", "CLIENT_TRAFFIC_SECRET_0 "}) {
    const size_t first = text.find(label);
    ASSERT_NE(first, std::string::npos) << text;
    const std::string line = text.substr(first, text.find('\n', first) - first);
    EXPECT_NE(text.find(line, first + 1), std::string::npos) << "the other side said otherwise";
    EXPECT_GE(line.size(), label.size() + 64 + 1 + 64);  // the client random, a hash's length
  }
  struct stat status {};
  ASSERT_EQ(stat((folder.path() / "keys").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
}

TEST(KeyLog, AppendsToAFileOfItsOwnerOnly) {
  const Folder folder;
  const auto file = folder.Write("keys", "before\n");
  chmod(file.c_str(), 0640);
  const auto open_to_others = KeyLog::Open(file);
  ASSERT_FALSE(open_to_others);
  EXPECT_EQ(
      open_to_others.error().text,
      file.string() + ": others than its owner may read or write it; remove it, or chmod 600");
  chmod(file.c_str(), 0600);
  (*KeyLog::Open(file))->Write("line");
  EXPECT_EQ(Content(file), "before\nline\n");
}

TEST(KeyLog, WritesToNothingElseThanAFile) {
  const Folder folder;
  std::filesystem::create_symlink("target", folder.path() / "link");
  EXPECT_FALSE(KeyLog::Open(folder.path() / "link"));
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "target"));
  EXPECT_FALSE(KeyLog::Open(folder.path()));
  EXPECT_FALSE(KeyLog::Open("/dev/null"));
  EXPECT_FALSE(KeyLog::Open(folder.path() / "none" / "keys"));
}

}  // namespace
}  // namespace gatepost::tls::test
