// What dialogues (tests/dialogues/imap) can't say: limits, counts, notices, long lines.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <string>

#include "protocols/imap/server_engine.h"
#include "protocols/relay_scanner.h"

namespace gatepost::imap {
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

std::string Text(const Buffer& buffer) {
  return std::string(buffer.view());
}

TEST(ImapServerEngine, LeavesWhatStandsBehindTheLogin) {
  ServerEngine engine(TlsFacts());
  Buffer input;
  Buffer output;
  input << "a LOGIN bob {1+}\r\nx\r\nb SELECT INBOX\r\nc FETCH 1 {";
  const auto action = engine.Next(input, output);
  ASSERT_TRUE(std::holds_alternative<Authenticate>(action));
  EXPECT_EQ(input.view(), "b SELECT INBOX\r\nc FETCH 1 {");
  EXPECT_TRUE(output.empty());
}

TEST(ImapServerEngine, PutsTheBackendsUntaggedResponsesFirst) {
  ServerEngine engine(TlsFacts());
  Buffer input;
  Buffer output;
  input << "a.1 LOGIN bob x\r\n";
  ASSERT_TRUE(std::holds_alternative<Authenticate>(engine.Next(input, output)));
  engine.LoginSucceeded({"* OK [ALERT] Quota\r\n", "OK [CAPABILITY IDLE] hi\r\n"}, output);
  EXPECT_EQ(output.view(), "* OK [ALERT] Quota\r\na.1 OK [CAPABILITY IDLE] hi\r\n");
}

// RFC 8437: whoever logs in anew behind a login does so unseen.
TEST(ImapServerEngine, DoesNotPassOnThatABackendHasUnauthenticate) {
  const auto shown = [](std::string_view untagged, std::string_view status) {
    ServerEngine engine(TlsFacts());
    Buffer input;
    Buffer output;
    input << "a LOGIN bob x\r\n";
    EXPECT_TRUE(std::holds_alternative<Authenticate>(engine.Next(input, output)));
    engine.LoginSucceeded({std::string(untagged), std::string(status)}, output);
    return std::string(output.view());
  };
  EXPECT_EQ(shown("* capability IMAP4rev1 UNAUTHENTICATE IDLE\r\n* CAPABILITY unauthenticate\r\n",
                  "OK [CAPABILITY UNAUTHENTICATE IMAP4rev1 Unauthenticate] UNAUTHENTICATE it\r\n"),
            "* capability IMAP4rev1 IDLE\r\n* CAPABILITY\r\n"
            "a OK [CAPABILITY IMAP4rev1] UNAUTHENTICATE it\r\n");
  EXPECT_EQ(
      shown("* OK [CAPABILITY A UNAUTHENTICATE  B]\r\n* OK UNAUTHENTICATE CAPABILITY \r\n", ""),
      "* OK [CAPABILITY A  B]\r\n* OK UNAUTHENTICATE CAPABILITY \r\na OK Logged in\r\n");
  const std::string literal = "* X {29}\r\n* CAPABILITY UNAUTHENTICATE\r\n\r\n";
  EXPECT_EQ(shown(literal, ""), literal + "a OK Logged in\r\n");
}

TEST(ImapServerEngine, LetsNoControlCharacterOfARefusalThrough) {
  ServerEngine engine(TlsFacts());
  Buffer input;
  Buffer output;
  input << "a LOGIN bob x\r\n";
  ASSERT_TRUE(std::holds_alternative<Authenticate>(engine.Next(input, output)));
  engine.LoginFailed(protocols::LoginFailure::kBadCredentials, "no\r\n* BYE", output);
  EXPECT_EQ(output.view(), "a NO [AUTHENTICATIONFAILED] no??* BYE\r\n");
}

TEST(ImapServerEngine, EndsWithALineThatIsTooLong) {
  for (const std::string start : {"", "a AUTHENTICATE PLAIN\r\n"}) {
    ServerFacts facts = TlsFacts();
    facts.limits.max_line_bytes = 30;
    ServerEngine engine(facts);
    Buffer input;
    Buffer output;
    input << start << std::string(30, 'A') << "\r";
    EXPECT_TRUE(std::holds_alternative<NeedInput>(engine.Next(input, output)));
    input << "A";
    const auto action = engine.Next(input, output);
    ASSERT_TRUE(std::holds_alternative<Quit>(action));
    EXPECT_EQ(std::get<Quit>(action).reason, QuitReason::kLineTooLong);
    EXPECT_TRUE(Text(output).ends_with(" line too long\r\n"));
    EXPECT_EQ(engine.counts().lines_too_long, 1U);
  }
}

TEST(ImapServerEngine, CountsWhatHappened) {
  ServerFacts facts = TlsFacts();
  facts.tls_active = false;
  facts.starttls_offered = true;
  ServerEngine engine(facts);
  Buffer input;
  Buffer output;
  input << "a LOGIN b c\r\nb AUTHENTICATE PLAIN\r\nc XYZZY\r\nd STARTTLS x\r\n";
  EXPECT_TRUE(std::holds_alternative<NeedInput>(engine.Next(input, output)));
  EXPECT_EQ(engine.counts().tls_required, 2U);
  EXPECT_EQ(engine.counts().bad_commands, 2U);
  EXPECT_EQ(engine.counts().starttls_refused, 1U);
  input << "e STARTTLS\r\n";
  EXPECT_TRUE(std::holds_alternative<protocols::StartTls>(engine.Next(input, output)));
  engine.TlsStarted({});
  input << "f AUTHENTICATE X\r\ng AUTHENTICATE PLAIN\r\n*\r\nh AUTHENTICATE PLAIN !\r\n";
  EXPECT_TRUE(std::holds_alternative<NeedInput>(engine.Next(input, output)));
  EXPECT_EQ(engine.counts().unknown_mechanisms, 1U);
  EXPECT_EQ(engine.counts().aborted_auth, 1U);
  EXPECT_EQ(engine.counts().bad_base64, 1U);
}

TEST(ImapServerEngine, ForgetsBadCommandsNeverNotEvenThroughStartTls) {
  ServerFacts facts = TlsFacts();
  facts.tls_active = false;
  facts.starttls_offered = true;
  facts.limits.max_bad_commands = 2;
  ServerEngine engine(facts);
  Buffer input;
  Buffer output;
  input << "a XYZZY\r\nb STARTTLS\r\n";
  EXPECT_TRUE(std::holds_alternative<protocols::StartTls>(engine.Next(input, output)));
  engine.TlsStarted({});
  input << "c XYZZY\r\nd NOOP\r\n";
  const auto action = engine.Next(input, output);
  ASSERT_TRUE(std::holds_alternative<Quit>(action));
  EXPECT_EQ(std::get<Quit>(action).reason, QuitReason::kTooManyErrors);
}

TEST(ImapServerEngine, LetsNoNonsenseOfTheBackendIntoItsCapabilities) {
  ServerFacts facts = TlsFacts();
  facts.backend_capabilities = std::make_shared<const protocols::Capabilities>(
      protocols::Capabilities{"IDLE\r\n* BYE", "", "X Y", "X]", "auth=anonymous", "IDLE"});
  ServerEngine engine(facts);
  Buffer output;
  engine.Greet(output);
  // The backend is known to have neither kind of LITERAL+, so that none is promised.
  EXPECT_EQ(output.view(),
            "* OK [CAPABILITY IMAP4rev1 IDLE SASL-IR ID AUTH=PLAIN AUTH=LOGIN] mx.test ready\r\n");
}

TEST(ImapServerEngine, SaysEachNotice) {
  ServerEngine engine(TlsFacts());
  for (uint8_t i = 0; i < static_cast<uint8_t>(Notice::kCount); ++i) {
    Buffer output;
    engine.Say(static_cast<Notice>(i), output);
    EXPECT_TRUE(output.view().starts_with("* BYE ")) << output.view();
    EXPECT_TRUE(output.view().ends_with("\r\n"));
    EXPECT_GT(output.size(), 15U);
  }
  Buffer output;
  engine.Say(Notice::kShuttingDown, output);
  EXPECT_EQ(output.view(), "* BYE [UNAVAILABLE] Server shutting down\r\n");
  EXPECT_EQ(engine.MakeScanner(), nullptr);
}

}  // namespace
}  // namespace gatepost::imap
