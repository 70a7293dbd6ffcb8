// What tests/dialogues/smtp can't say: limits, counts, notices, swallowed payload, the scanner.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <array>
#include <string>

#include "protocols/smtp/server_engine.h"

namespace gatepost::smtp {
namespace {

using protocols::Authenticate;
using protocols::Buffer;
using protocols::LoginFailure;
using protocols::NeedInput;
using protocols::Notice;
using protocols::Quit;
using protocols::QuitReason;
using protocols::ServerAction;
using protocols::ServerFacts;
using protocols::StartTls;

ServerFacts Facts() {
  ServerFacts facts;
  facts.hostname = "mail.example.org";
  facts.starttls_offered = true;
  facts.cleartext_login_allowed = true;
  return facts;
}

struct Heard {
  ServerAction action;
  std::string output;
};

// Say feeds `bytes` in pieces of `piece` bytes and returns the last action and all output.
Heard Say(ServerEngine& engine, std::string_view bytes, size_t piece = SIZE_MAX) {
  Buffer input;
  Buffer output;
  ServerAction action = NeedInput{};
  while (!bytes.empty() && std::holds_alternative<NeedInput>(action)) {
    const std::string_view next = bytes.substr(0, piece);
    input << next;
    bytes.remove_prefix(next.size());
    action = engine.Next(input, output);
  }
  return {std::move(action), std::string(output.view())};
}

// How the action is told in a failed expectation.
std::optional<QuitReason> QuitOf(const ServerAction& action) {
  const auto* quit = std::get_if<Quit>(&action);
  return quit ? std::optional(quit->reason) : std::nullopt;
}

TEST(SmtpServerEngine, ClosesOnBytesBehindStartTls) {
  for (const std::string_view behind : {"R", "RSET\r\n", "\x16\x03\x01", "\r\n"}) {
    ServerEngine engine(Facts());
    const Heard heard = Say(engine, "STARTTLS\r\n" + std::string(behind));
    EXPECT_EQ(QuitOf(heard.action), QuitReason::kCommandInjection);
    EXPECT_TRUE(heard.output.starts_with("554 5.5.1 ")) << heard.output;
  }
}

// RFC 3207 §4.2
TEST(SmtpServerEngine, ForgetsTheDialogueBeforeTls) {
  ServerEngine engine(Facts());
  EXPECT_TRUE(std::holds_alternative<StartTls>(Say(engine, "EHLO me\r\nSTARTTLS\r\n").action));
  EXPECT_EQ(engine.client_name(), "me");
  engine.TlsStarted({});
  EXPECT_EQ(engine.client_name(), "");
  EXPECT_EQ(Say(engine, "AUTH LOGIN\r\n").output, "503 5.5.1 Send EHLO first\r\n");
}

TEST(SmtpServerEngine, RecognisesForeignProtocolsInCleartextAndInsideTls) {
  struct Case {
    std::string_view bytes;
    QuitReason reason;
  };
  for (const bool inside_tls : {false, true}) {
    for (const Case& c :
         {Case{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", QuitReason::kHttp},
          Case{"POST / HTTP/1.1\r\n", QuitReason::kHttp},
          Case{"\x16\x03\x01\x02", QuitReason::kTls}, Case{"SSH-2.0-x\r\n", QuitReason::kSsh}}) {
      for (const size_t piece : {size_t{1}, SIZE_MAX}) {
        ServerEngine engine(Facts());
        if (inside_tls) {
          Say(engine, "STARTTLS\r\n");
          engine.TlsStarted({});
        }
        const Heard heard = Say(engine, c.bytes, piece);
        EXPECT_EQ(QuitOf(heard.action), c.reason) << c.bytes;
        EXPECT_EQ(heard.output,
                  c.reason == QuitReason::kTls ? "" : "421 4.7.0 This is an SMTP server\r\n");
      }
    }
  }
  // Later it is only a bad command.
  ServerEngine engine(Facts());
  EXPECT_EQ(Say(engine, "NOOP\r\nGET / HTTP/1.1\r\n").output,
            "250 2.0.0 OK\r\n500 5.5.2 Command not recognized\r\n");
}

TEST(SmtpServerEngine, ResynchronisesBehindALineThatIsTooLong) {
  ServerFacts facts = Facts();
  facts.limits.max_line_bytes = 64;
  const std::string fits = "NOOP " + std::string(59, 'x') + "\r\n";
  const std::string too_long = "NOOP " + std::string(60, 'x') + "\r\n";
  for (size_t piece = 1; piece < 80; ++piece) {
    ServerEngine engine(facts);
    EXPECT_EQ(
        Say(engine, fits + too_long + "NOOP\r\n" + std::string(500, 'y') + "\r\nRSET\r\n", piece)
            .output,
        "250 2.0.0 OK\r\n500 5.5.2 Line too long\r\n250 2.0.0 OK\r\n"
        "500 5.5.2 Line too long\r\n250 2.0.0 OK\r\n")
        << piece;
    EXPECT_EQ(engine.counts().lines_too_long, 2U);
  }
}

// RFC 4954 §4: 12288 octets with CRLF.
TEST(SmtpServerEngine, TakesAuthResponsesOf12288Octets) {
  const std::string login = "AUTH LOGIN dXNlcg==\r\n";
  const std::string prompt = "334 UGFzc3dvcmQ6\r\n";
  for (const size_t piece : {size_t{100}, size_t{4096}, SIZE_MAX}) {
    ServerEngine engine(Facts());
    Say(engine, "EHLO me\r\n");
    EXPECT_EQ(Say(engine, login + std::string(12287, 'A') + "\r\nNOOP\r\n", piece).output,
              prompt + "500 5.5.6 Authentication exchange line is too long\r\n250 2.0.0 OK\r\n");
    // Short enough to be read, but full of NULs.
    EXPECT_EQ(Say(engine, login + std::string(12284, 'A') + "\r\n", piece).output,
              prompt + "501 5.5.2 Malformed authentication message\r\n");
  }
}

TEST(SmtpServerEngine, SwallowsThePayloadOfBdatBeforeLogin) {
  const std::string client = "BDAT 17 LAST\r\nAUTH PLAIN AAAA\r\nNOOP\r\nBDAT 0 LAST\r\n";
  for (size_t piece = 1; piece <= client.size(); ++piece) {
    ServerEngine engine(Facts());
    EXPECT_EQ(Say(engine, client, piece).output,
              "530 5.7.0 Authentication required\r\n250 2.0.0 OK\r\n"
              "530 5.7.0 Authentication required\r\n");
    EXPECT_EQ(engine.counts().auth_required, 2U);
  }
  ServerEngine engine(Facts());
  const Heard heard = Say(engine, "BDAT many\r\nNOOP\r\n");
  EXPECT_EQ(QuitOf(heard.action), QuitReason::kLineTooLong);
  EXPECT_EQ(heard.output, "501 5.5.4 Syntax: BDAT size [LAST]; closing connection\r\n");
}

TEST(SmtpServerEngine, ClosesAfterTooManyBadCommands) {
  ServerFacts facts = Facts();
  facts.limits.max_bad_commands = 3;
  ServerEngine engine(facts);
  const Heard heard = Say(engine, "X\r\nMAIL FROM:<a>\r\nY\r\nNOOP\r\nZ\r\nNOOP\r\n");
  EXPECT_EQ(QuitOf(heard.action), QuitReason::kTooManyErrors);
  EXPECT_TRUE(heard.output.ends_with(
      "250 2.0.0 OK\r\n500 5.5.2 Command not recognized\r\n421 4.7.0 Too many bad commands\r\n"));
  EXPECT_EQ(engine.counts().bad_commands, 3U);
}

TEST(SmtpServerEngine, LeavesWhatIsPipelinedBehindTheLogin) {
  ServerEngine engine(Facts());
  Buffer input;
  Buffer output;
  input << "EHLO me\r\nAUTH PLAIN AHUAcA==\r\nMAIL FROM:<a@x>\r\n";
  EXPECT_TRUE(std::holds_alternative<Authenticate>(engine.Next(input, output)));
  EXPECT_EQ(input.view(), "MAIL FROM:<a@x>\r\n");
}

TEST(SmtpServerEngine, ShowsTheClientNameWithoutControlCharacters) {
  ServerEngine engine(Facts());
  EXPECT_TRUE(Say(engine, "EHLO my b\xC3\xBCro\r\n").output.starts_with("250-mail.example.org"));
  EXPECT_EQ(engine.client_name(), "my b??ro");
  EXPECT_TRUE(Say(engine, "EHLO a\x01z\r\n").output.starts_with("501 5.5.4"));
  EXPECT_TRUE(Say(engine, "EHLO\r\n").output.starts_with("501 5.5.4"));
  EXPECT_EQ(engine.client_name(), "my b??ro");
  Say(engine, "HELO " + std::string(1000, 'x') + "\r\n");
  EXPECT_EQ(engine.client_name().size(), 255U);
}

TEST(SmtpServerEngine, HasAReplyForEachFailure) {
  constexpr std::array<std::string_view, static_cast<size_t>(LoginFailure::kCount)> kCodes = {
      "535 5.7.8 ", "535 5.7.8 ",  "454 4.7.0 ", "454 4.7.0 ", "454 4.7.0 ",
      "454 4.7.0 ", "525 5.7.13 ", "535 5.7.8 ", "535 5.7.8 "};
  for (size_t i = 0; i < kCodes.size(); ++i) {
    ServerEngine engine(Facts());
    Buffer output;
    engine.LoginFailed(static_cast<LoginFailure>(i), {}, output);
    EXPECT_TRUE(output.view().starts_with(kCodes[i])) << output.view();
    EXPECT_EQ(output.view().find("\r\n"), output.size() - 2);
    output.Clear();
    engine.LoginFailed(static_cast<LoginFailure>(i), "no\r\n250 yes", output);
    EXPECT_EQ(output.view(), std::string(kCodes[i]) + "no??250 yes\r\n");
  }
}

TEST(SmtpServerEngine, HasAReplyForEachNotice) {
  constexpr std::array<std::string_view, static_cast<size_t>(Notice::kCount)> kCodes = {
      "421 4.3.2 ", "421 4.7.0 ", "421 4.3.2 ", "421 4.4.2 ", "421 4.4.2 ",
      "421 4.4.2 ", "421 4.7.0 ", "421 4.3.0 ", "421 4.3.2 "};
  for (size_t i = 0; i < kCodes.size(); ++i) {
    ServerEngine engine(Facts());
    Buffer output;
    engine.Say(static_cast<Notice>(i), output);
    EXPECT_TRUE(output.view().starts_with(std::string(kCodes[i]) + "mail.example.org "));
    EXPECT_EQ(output.view().find("\r\n"), output.size() - 2);
  }
}

TEST(SmtpServerEngine, AnswersASuccessfulLogin) {
  ServerEngine engine(Facts());
  Buffer output;
  engine.LoginSucceeded({}, output);
  EXPECT_EQ(output.view(), "235 2.7.0 Authentication successful\r\n");
  output.Clear();
  engine.LoginSucceeded({.untagged = {}, .status = "235 welcome\r\n"}, output);
  EXPECT_EQ(output.view(), "235 welcome\r\n");
}

TEST(SmtpServerEngine, GivesItsScannerThePoolsCapabilities) {
  ServerFacts facts = Facts();
  for (const bool chunking : {false, true}) {
    facts.backend_capabilities = std::make_shared<const protocols::Capabilities>(
        chunking ? protocols::Capabilities{"CHUNKING"} : protocols::Capabilities{});
    const auto scanner = ServerEngine(facts).MakeScanner();
    Buffer to_client;
    Buffer to_backend;
    (void)scanner->FromClient("BDAT 1 LAST\r\n", to_client, to_backend);
    EXPECT_EQ(to_backend.view(), chunking ? "BDAT 1 LAST\r\n" : "");
  }
}

TEST(SmtpServerEngine, CountsWhatWentWrong) {
  ServerFacts facts = Facts();
  facts.cleartext_login_allowed = false;
  facts.starttls_offered = false;
  ServerEngine engine(facts);
  Say(engine, "EHLO me\r\nAUTH LOGIN\r\nMAIL FROM:<a>\r\nSTARTTLS\r\n");
  EXPECT_EQ(engine.counts().tls_required, 2U);
  EXPECT_EQ(engine.counts().starttls_refused, 1U);
  ServerEngine other(Facts());
  Say(other, "EHLO me\r\nAUTH LOGIN\r\n*\r\nAUTH PLAIN ?\r\nAUTH CRAM-MD5\r\n");
  EXPECT_EQ(other.counts().aborted_auth, 1U);
  EXPECT_EQ(other.counts().bad_base64, 1U);
  EXPECT_EQ(other.counts().unknown_mechanisms, 1U);
}

TEST(SmtpServerEngine, ARefusalMayBringItsOwnReplyCode) {
  const std::pair<std::string, std::string> cases[] = {
      {"454 4.3.0 Later", "454 4.3.0 Later\r\n"},
      {"550 no", "550 no\r\n"},
      {"250 yes", "535 5.7.8 250 yes\r\n"},
      {"5350 no", "535 5.7.8 5350 no\r\n"},
      {"535 ", "535 5.7.8 535 \r\n"},
      {"550 a\r\n250 b", "550 a??250 b\r\n"},
  };
  for (const auto& [text, expected] : cases) {
    ServerEngine engine({});
    protocols::Buffer output;
    engine.LoginFailed(LoginFailure::kBadCredentials, text, output);
    EXPECT_EQ(output.view(), expected);
  }
}

}  // namespace
}  // namespace gatepost::smtp
