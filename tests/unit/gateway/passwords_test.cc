// SPDX-License-Identifier: Apache-2.0
#include "gateway/auth/passwords.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/unit/gateway/authorities.h"

namespace gatepost::auth {
namespace {

using test::Ask;
using test::Asked;
using test::Login;

// "secret", by openssl passwd -6.
constexpr char kSha512[] =
    "$6$saltsalt$TVLlQcbpFVof5W3Yz4DTP6gRstiNuHwwTt6GLc1E5n0U0aDehy0S5knV8wiOQSpT0Y77vwPZN.Pq."
    "H91p5h"
    "VO1";

class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& text)
      : path_(std::filesystem::temp_directory_path() /
              ("gatepost-passwords-" + std::to_string(getpid()))) {
    std::ofstream(path_) << text;
  }
  ~TemporaryFile() { std::filesystem::remove(path_); }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

TEST(PasswordFile, AHashThatNoPasswordHasIsAnError) {
  const std::string sha512 = kSha512;
  const std::string bcrypt = "$2b$05$abcdefghijklmnopqrstuuVUGu4bYzVp4gbcfJtxxGJcmdzLPs4Wu";
  const std::string yescrypt =
      "$y$j9T$abcdefghijklmnopqrstu.$abcdefghijklmnopqrstuvwxyzabcdefghijklmnopq";
  for (const std::string& good : {sha512, bcrypt, yescrypt}) {
    EXPECT_TRUE(PasswordFile::Load(TemporaryFile("u:" + good + "\n").path(), {})) << good;
    for (const std::string& wrong :
         {good.substr(0, good.size() - 1), good + "x", good.substr(0, good.size() - 1) + "!",
          good.substr(0, good.size() - 40)}) {
      const TemporaryFile file("u:" + wrong + "\n");
      const auto loaded = PasswordFile::Load(file.path(), {});
      ASSERT_FALSE(loaded) << wrong;
      EXPECT_EQ(
          loaded.error()[0].rfind(file.path().string() + ":1: the password hash of \"u\" is", 0),
          0U)
          << loaded.error()[0];
    }
  }
  EXPECT_FALSE(PasswordFile::Load(TemporaryFile("u:$6$abc$xyz\n").path(), {}));
}

TEST(PasswordFile, NamesThatItCannotHold) {
  for (const std::string_view user : {"", "#x", "a:b", ":", "a\nb", "a\r", "\x7f"}) {
    EXPECT_NE(WrongInPasswordFile(user), "") << user;
  }
  for (const std::string_view user : {"u", "a#b", "größe@example.org", "a b"}) {
    EXPECT_EQ(WrongInPasswordFile(user), "") << user;
  }
}

TEST(PasswordFile, EveryErrorNamesItsLine) {
  const TemporaryFile file(
      "# comment\n\nnocolon\nweak:$1$abc$def\nplain:password\n"
      "a:$y$j9T$abcdefghijklmnopqrstu.$abcdefghijklmnopqrstuvwxyzabcdefghijklmnopq:pool=nowhere\n"
      "b:$y$j9T$abcdefghijklmnopqrstu.$abcdefghijklmnopqrstuvwxyzabcdefghijklmnopq:backend=x\n"
      "c:$y$j9T$abcdefghijklmnopqrstu.$abcdefghijklmnopqrstuvwxyzabcdefghijklmnopq:login=other\n"
      "d:$y$j9T$abcdefghijklmnopqrstu.$abcdefghijklmnopqrstuvwxyzabcdefghijklmnopq:colour=red\n");
  const auto loaded = PasswordFile::Load(file.path(), {"stores"});
  ASSERT_FALSE(loaded.has_value());
  const auto& errors = loaded.error();
  ASSERT_EQ(errors.size(), 7U);
  const std::string at = file.path().string() + ":";
  EXPECT_EQ(errors[0].rfind(at + "3: expected user:hash", 0), 0U) << errors[0];
  EXPECT_EQ(errors[1].rfind(at + "4: the password hash of \"weak\"", 0), 0U) << errors[1];
  EXPECT_EQ(errors[2].rfind(at + "5: the password hash of \"plain\"", 0), 0U) << errors[2];
  EXPECT_EQ(errors[3], at + "6: there is no pool \"nowhere\"");
  EXPECT_EQ(errors[4].rfind(at + "7: backend must be HOST:PORT", 0), 0U) << errors[4];
  EXPECT_EQ(errors[5].rfind(at + "8: login needs password", 0), 0U) << errors[5];
  EXPECT_EQ(errors[6].rfind(at + "9: unknown key \"colour\"", 0), 0U) << errors[6];
}

TEST(PasswordFile, AMissingFileIsNamed) {
  const auto loaded = PasswordFile::Load("/nonexistent/passwords", {});
  ASSERT_FALSE(loaded.has_value());
  EXPECT_EQ(loaded.error().front(),
            "/nonexistent/passwords: can't be read: No such file or directory");
}

TEST(PasswordAuthority, TellsRightFromWrongAndUnknownWithoutBlocking) {
  const std::string hash = HashPassword(sasl::Secret("secret"));
  ASSERT_TRUE(hash.starts_with("$y$"));
  const TemporaryFile file("alice:" + hash +
                           ":pool=stores backend=[::1]:143 login=al password=a b=c\n" +
                           "bob:" + std::string(kSha512) + "\n");
  const auto loaded = PasswordFile::Load(file.path(), {"stores"});
  ASSERT_TRUE(loaded.has_value()) << loaded.error().front();
  uv_loop_t loop;
  uv_loop_init(&loop);
  Asked asked;
  {
    PasswordAuthority authority(&loop, *loaded, asked);
    EXPECT_FALSE(Ask(authority, 1, Login("alice", "secret")).has_value());
    EXPECT_FALSE(Ask(authority, 2, Login("alice", "Secret")).has_value());
    // The first user's hash serves as the decoy: knowing its password must not help anybody else.
    EXPECT_FALSE(Ask(authority, 3, Login("mallory", "secret")).has_value());
    EXPECT_FALSE(Ask(authority, 4, Login("bob", "secret")).has_value());
    sasl::Credentials other = Login("bob", "secret");
    other.authorization_identity = "alice";
    EXPECT_FALSE(Ask(authority, 5, other).has_value());
    uv_run(&loop, UV_RUN_DEFAULT);
  }
  ASSERT_EQ(asked.verdicts.size(), 5U);
  const Verdict& alice = asked.verdicts.at(1);
  EXPECT_TRUE(alice.accepted);
  EXPECT_EQ(alice.pool, "stores");
  EXPECT_EQ(alice.backend, (config::Member{"::1", 143}));
  EXPECT_EQ(alice.backend_credentials->authentication_identity, "al");
  EXPECT_EQ(alice.backend_credentials->password.Reveal(), "a b=c");
  EXPECT_FALSE(asked.verdicts.at(2).accepted);
  EXPECT_EQ(asked.verdicts.at(2).reason, protocols::LoginFailure::kBadCredentials);
  EXPECT_FALSE(asked.verdicts.at(3).accepted);
  EXPECT_TRUE(asked.verdicts.at(4).accepted);
  // The client's own, or the pool's master user's.
  EXPECT_FALSE(asked.verdicts.at(4).backend_credentials.has_value());
  EXPECT_FALSE(asked.verdicts.at(5).accepted);
  EXPECT_EQ(asked.verdicts.at(5).reason, protocols::LoginFailure::kAuthorizationDenied);
  uv_loop_close(&loop);
}

TEST(PasswordAuthority, ACertificateNeedsAnEntryAndNoPassword) {
  const TemporaryFile file("alice:" + std::string(kSha512) +
                           ":pool=stores login=al password=a b=c\nbob:" + kSha512 + "\n");
  const auto loaded = PasswordFile::Load(file.path(), {"stores"});
  ASSERT_TRUE(loaded.has_value());
  uv_loop_t loop;
  uv_loop_init(&loop);
  Asked asked;
  {
    PasswordAuthority authority(&loop, *loaded, asked);
    const auto check = [&](const std::string& user, sasl::Mechanism mechanism) {
      sasl::Credentials credentials = Login(user, "");
      credentials.mechanism = mechanism;
      return Ask(authority, 1, credentials);
    };
    auto verdict = check("alice", sasl::Mechanism::kExternal);
    ASSERT_TRUE(verdict && verdict->accepted && !verdict->backend_decides);
    EXPECT_EQ(verdict->pool, "stores");
    EXPECT_EQ(verdict->backend_credentials->authentication_identity, "al");
    EXPECT_EQ(verdict->backend_credentials->password.Reveal(), "a b=c");
    verdict = check("bob", sasl::Mechanism::kExternal);
    ASSERT_TRUE(verdict && verdict->accepted && !verdict->backend_decides);
    EXPECT_FALSE(verdict->backend_credentials);
    verdict = check("Alice", sasl::Mechanism::kExternal);
    ASSERT_TRUE(verdict && !verdict->accepted);
    EXPECT_EQ(verdict->reason, protocols::LoginFailure::kAuthorizationDenied);
    // No other mechanism is believed without its password.
    for (const auto mechanism :
         {sasl::Mechanism::kPlain, sasl::Mechanism::kLogin, sasl::Mechanism::kProtocol}) {
      EXPECT_FALSE(check("bob", mechanism).has_value());
      uv_run(&loop, UV_RUN_DEFAULT);
      EXPECT_FALSE(asked.verdicts.at(1).accepted);
      asked.verdicts.clear();
    }
  }
  uv_loop_close(&loop);
}

TEST(BackendAuthority, VouchesForCertificatesAlone) {
  BackendAuthority authority;
  for (const auto mechanism :
       {sasl::Mechanism::kPlain, sasl::Mechanism::kLogin, sasl::Mechanism::kProtocol}) {
    sasl::Credentials credentials = Login("bob", "secret");
    credentials.mechanism = mechanism;
    EXPECT_TRUE(Ask(authority, 1, credentials)->backend_decides);
  }
  sasl::Credentials credentials = Login("bob", "");
  credentials.mechanism = sasl::Mechanism::kExternal;
  const auto verdict = Ask(authority, 1, credentials);
  EXPECT_TRUE(verdict->accepted && !verdict->backend_decides);
}

TEST(PasswordAuthority, RefusesTemporarilyWhenTooManyWaitAndForgetsWhenDestroyed) {
  const TemporaryFile file("bob:" + std::string(kSha512) + "\n");
  const auto loaded = PasswordFile::Load(file.path(), {});
  ASSERT_TRUE(loaded.has_value());
  uv_loop_t loop;
  uv_loop_init(&loop);
  Asked asked;
  {
    PasswordAuthority authority(&loop, *loaded, asked);
    std::optional<Verdict> verdict;
    uint32_t asked_for = 0;
    while (!verdict) verdict = Ask(authority, asked_for++, Login("bob", "secret"));
    EXPECT_EQ(asked_for, PasswordAuthority::kConcurrent + PasswordAuthority::kWaiting + 1);
    EXPECT_FALSE(verdict->accepted);
    EXPECT_EQ(verdict->reason, protocols::LoginFailure::kUnavailable);
    authority.Cancel({PasswordAuthority::kConcurrent, 0});  // who leaves makes room for one
    EXPECT_FALSE(Ask(authority, asked_for, Login("bob", "secret")));
    EXPECT_TRUE(Ask(authority, asked_for, Login("bob", "secret")));
  }
  uv_run(&loop, UV_RUN_DEFAULT);
  EXPECT_TRUE(asked.verdicts.empty());
  EXPECT_EQ(uv_loop_close(&loop), 0);
}

}  // namespace
}  // namespace gatepost::auth
