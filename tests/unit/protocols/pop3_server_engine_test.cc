// What dialogues (tests/dialogues/pop3) can't say: limits, counts, notices.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <string>

#include "protocols/pop3/server_engine.h"
#include "protocols/relay_scanner.h"

namespace gatepost::pop3 {
namespace {

using protocols::Authenticate;
using protocols::Buffer;
using protocols::NeedInput;
using protocols::Notice;
using protocols::Quit;
using protocols::QuitReason;
using protocols::ServerFacts;

ServerFacts TlsFacts() {
  ServerFacts facts;
  facts.hostname = "mx.test";
  facts.tls_active = true;
  return facts;
}

TEST(Pop3ServerEngine, LeavesWhatStandsBehindTheLogin) {
  ServerEngine engine(TlsFacts());
  Buffer input;
  Buffer output;
  input << "USER bob\r\nPASS x\r\nSTAT\r\nRET";
  const auto action = engine.Next(input, output);
  ASSERT_TRUE(std::holds_alternative<Authenticate>(action));
  EXPECT_EQ(input.view(), "STAT\r\nRET");
  EXPECT_EQ(output.view(), "+OK\r\n");
  engine.LoginSucceeded({"", "+OK 2 messages\r\n"}, output);
  EXPECT_EQ(output.view(), "+OK\r\n+OK 2 messages\r\n");
}

TEST(Pop3ServerEngine, GreetsWithoutATimestampForApop) {
  ServerEngine engine(TlsFacts());
  Buffer output;
  engine.Greet(output);
  EXPECT_EQ(output.view(), "+OK mx.test ready\r\n");
}

TEST(Pop3ServerEngine, EndsWithALineThatIsTooLong) {
  for (const std::string start : {"", "AUTH PLAIN\r\n"}) {
    ServerFacts facts = TlsFacts();
    facts.limits.max_line_bytes = 20;
    ServerEngine engine(facts);
    Buffer input;
    Buffer output;
    input << start << std::string(20, 'A') << "\r";
    EXPECT_TRUE(std::holds_alternative<NeedInput>(engine.Next(input, output)));
    input << "A";
    const auto action = engine.Next(input, output);
    ASSERT_TRUE(std::holds_alternative<Quit>(action));
    EXPECT_EQ(std::get<Quit>(action).reason, QuitReason::kLineTooLong);
    EXPECT_EQ(engine.counts().lines_too_long, 1U);
  }
}

TEST(Pop3ServerEngine, LetsNoControlCharacterOfARefusalThrough) {
  ServerEngine engine(TlsFacts());
  Buffer input;
  Buffer output;
  input << "AUTH PLAIN AGJvYgBzZWNyZXQ=\r\n";
  ASSERT_TRUE(std::holds_alternative<Authenticate>(engine.Next(input, output)));
  engine.LoginFailed(protocols::LoginFailure::kAccountDisabled, "no\r\n+OK", output);
  EXPECT_EQ(output.view(), "-ERR [AUTH] no??+OK\r\n");
}

TEST(Pop3ServerEngine, CountsWhatHappened) {
  ServerFacts facts = TlsFacts();
  facts.tls_active = false;
  facts.starttls_offered = true;
  ServerEngine engine(facts);
  Buffer input;
  Buffer output;
  input << "USER b\r\nAUTH\r\nXYZZY\r\nSTLS x\r\nSTLS\r\n";
  EXPECT_TRUE(std::holds_alternative<protocols::StartTls>(engine.Next(input, output)));
  EXPECT_EQ(engine.counts().tls_required, 2U);
  EXPECT_EQ(engine.counts().bad_commands, 2U);
  EXPECT_EQ(engine.counts().starttls_refused, 1U);
  engine.TlsStarted({});
  input << "AUTH X\r\nAUTH PLAIN\r\n*\r\nAUTH PLAIN !\r\n";
  EXPECT_TRUE(std::holds_alternative<NeedInput>(engine.Next(input, output)));
  EXPECT_EQ(engine.counts().unknown_mechanisms, 1U);
  EXPECT_EQ(engine.counts().aborted_auth, 1U);
  EXPECT_EQ(engine.counts().bad_base64, 1U);
}

TEST(Pop3ServerEngine, SaysEachNotice) {
  ServerEngine engine(TlsFacts());
  for (uint8_t i = 0; i < static_cast<uint8_t>(Notice::kCount); ++i) {
    Buffer output;
    engine.Say(static_cast<Notice>(i), output);
    EXPECT_TRUE(output.view().starts_with("-ERR ")) << output.view();
    EXPECT_TRUE(output.view().ends_with("\r\n"));
    EXPECT_GT(output.size(), 15U);
  }
  EXPECT_EQ(engine.MakeScanner(), nullptr);
}

}  // namespace
}  // namespace gatepost::pop3
