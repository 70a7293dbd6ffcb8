// The relay after login against a server that believes everything, at every split.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "protocols/smtp/relay_scanner.h"
#include "tests/unit/protocols/smtp_relay_harness.h"

namespace gatepost::test {
namespace {

using protocols::BareNewline;
using protocols::Buffer;
using protocols::QuitReason;
using smtp::RelayScanner;
using Do = protocols::RelayScanner::Do;

const protocols::Capabilities kChunking = {"PIPELINING", "CHUNKING", "BINARYMIME"};
constexpr std::string_view kTransaction = "MAIL FROM:<a@x>\r\nRCPT TO:<b@x>\r\n";
constexpr std::string_view kBareReply =
    "550 5.6.11 Bare newline in mail data (RFC 5321 section 2.3.8); message refused\r\n";

struct Setting {
  BareNewline bare_newline = BareNewline::kReject;
  const protocols::Capabilities* capabilities = &kChunking;
  FakeBackend backend;
};

Relayed RunOnce(const Setting& setting, std::string_view client, const Pace& pace) {
  RelayScanner scanner(setting.bare_newline, {}, "mail.example.org", setting.capabilities);
  return RelayHarness(scanner, setting.backend).Run(client, pace);
}

// Relay returns what became of `client`, after checking that no way of arriving changes it.
Relayed Relay(const Setting& setting, std::string_view client) {
  const Relayed whole = RunOnce(setting, client, {});
  std::vector<Pace> paces;
  for (const bool slow : {false, true}) {
    for (const size_t piece : {size_t{1}, size_t{7}, SIZE_MAX}) {
      paces.push_back({{}, piece, slow});
      Pace bytewise{{}, piece, slow};
      for (size_t i = 1; i < client.size(); ++i) bytewise.client_cuts.push_back(i);
      paces.push_back(bytewise);
    }
    for (size_t i = 1; i < client.size(); ++i) paces.push_back({{i}, SIZE_MAX, slow});
  }
  for (const Pace& pace : paces) {
    const Relayed split = RunOnce(setting, client, pace);
    EXPECT_TRUE(split == whole) << "cut at " << (pace.client_cuts.empty() ? 0 : pace.client_cuts[0])
                                << " slow " << pace.backend_is_slow << " piece "
                                << pace.backend_piece << "\nclient got\n"
                                << split.to_client << "\ninstead of\n"
                                << whole.to_client << "\nbackend got\n"
                                << split.to_backend << "\ninstead of\n"
                                << whole.to_backend;
    if (!(split == whole)) break;
  }
  return whole;
}

std::string Message(std::string_view data) {
  return std::string(kTransaction) + "DATA\r\n" + std::string(data);
}

TEST(SmtpRelayScanner, PassesAPipelinedMessageUnchanged) {
  const std::string client = Message("Subject: x\r\n\r\n..stuffed\r\n.\r\n") + "QUIT\r\n";
  const Relayed relayed = Relay({}, client);
  EXPECT_EQ(relayed.to_backend, client);
  EXPECT_EQ(relayed.to_client,
            "250 2.1.0 ok\r\n250 2.1.5 ok\r\n354 go\r\n250 2.0.0 queued\r\n221 2.0.0 bye\r\n");
  EXPECT_TRUE(relayed.closed);
  EXPECT_EQ(relayed.reason, QuitReason::kLoggedOut);
  EXPECT_EQ(relayed.counts.messages_accepted, 1U);
  EXPECT_EQ(relayed.counts.recipients, 1U);
  EXPECT_EQ(relayed.counts.message_bytes, 28U);
}

TEST(SmtpRelayScanner, ReadsWhatStandsBehindARefusedDataAsCommands) {
  const Relayed relayed = Relay({}, "DATA\r\nXCLIENT LOGIN=x\r\nNOOP\r\n");
  EXPECT_EQ(relayed.to_backend, "DATA\r\nNOOP\r\n");
  EXPECT_EQ(relayed.to_client, "503 5.5.1 no recipients\r\n550 5.7.0 Not permitted\r\n250 ok\r\n");
}

TEST(SmtpRelayScanner, RefusesForbiddenCommandsInTheirPlaceAmongTheReplies) {
  const Relayed relayed =
      Relay({},
            "NOOP\r\nauth PLAIN AGEAYg==\r\nVRFY a\r\nStartTLS\r\nRSET\r\nXclient\tLOGIN=x\r\n"
            "XFORWARD NAME=x\r\nNOOP\r\n");
  EXPECT_EQ(relayed.commands, (std::vector<std::string>{"NOOP", "VRFY a", "RSET", "NOOP"}));
  EXPECT_EQ(relayed.to_client,
            "250 ok\r\n503 5.5.1 Already authenticated\r\n252 2.5.0 maybe\r\n"
            "503 5.5.1 STARTTLS is not possible after login\r\n250 ok\r\n"
            "550 5.7.0 Not permitted\r\n550 5.7.0 Not permitted\r\n250 ok\r\n");
  EXPECT_EQ(relayed.counts.commands_refused, 4U);
}

// RFC 4954 §5: the parameter is an extension of its own, which a backend without AUTH refuses.
TEST(SmtpRelayScanner, PassesNoSubmitterToABackendWithoutAuth) {
  const std::string client =
      "MAIL FROM:<a@x> SIZE=9 auth=<> BODY=8BITMIME\r\nRCPT TO:<b@x>\r\nDATA\r\nx\r\n.\r\n"
      "MAIL FROM:<author=AUTH@x>\r\nRSET\r\nMAIL FROM: <c@x> AUTH=d+40x\r\nQUIT\r\n";
  const Relayed without = Relay({}, client);
  EXPECT_EQ(without.to_backend,
            "MAIL FROM:<a@x> SIZE=9 BODY=8BITMIME\r\nRCPT TO:<b@x>\r\nDATA\r\nx\r\n.\r\n"
            "MAIL FROM:<author=AUTH@x>\r\nRSET\r\nMAIL FROM:<c@x>\r\nQUIT\r\n");
  EXPECT_EQ(without.counts.messages_accepted, 1U);
  EXPECT_EQ(without.counts.message_bytes, 6U);
  const protocols::Capabilities auth = {"PIPELINING", "AUTH PLAIN"};
  Setting with;
  with.capabilities = &auth;
  EXPECT_EQ(Relay(with, client).to_backend, client);
  // Not every server says it again once somebody has logged in.
  EXPECT_EQ(Relay(with, "EHLO c\r\n" + client).to_backend, "EHLO c\r\n" + client);
  const Relayed strange = Relay({}, "MAIL FROM:<a@x>AUTH=<>\r\n");
  EXPECT_EQ(strange.to_backend, "");
  EXPECT_EQ(strange.to_client, "501 5.1.7 Syntax: MAIL FROM:<address>\r\n");
}

TEST(SmtpRelayScanner, HidesTheSubmitterWhereTheBackendCouldNotCheckIt) {
  const protocols::Capabilities auth = {"AUTH PLAIN"};
  RelayScanner scanner(BareNewline::kReject, {}, "mail.example.org", &auth);
  scanner.HideSubmitter();
  scanner.SetBackend(auth);
  EXPECT_EQ(RelayHarness(scanner, {}).Run("MAIL FROM:<a@x> AUTH=c@x SIZE=1\r\n", {}).to_backend,
            "MAIL FROM:<a@x> SIZE=1\r\n");
}

// Between the end of a message and the reply to it; RFC 5321 §4.5.3.2.6.
TEST(SmtpRelayScanner, KnowsWhenTheBackendHasAMessageAndHasNotAnswered) {
  for (const std::string_view end : {"DATA\r\n|x\r\n.\r\n", "|BDAT 2 LAST\r\nab"}) {
    RelayScanner scanner(BareNewline::kReject, {}, "mail.example.org", &kChunking);
    const auto says = [&](std::string_view bytes) {
      Buffer ignored;
      while (!bytes.empty()) {
        const auto step = scanner.FromClient(bytes, ignored, ignored);
        if (step.what != Do::kForward && step.what != Do::kSwallow) break;
        bytes.remove_prefix(step.bytes);
      }
    };
    const auto hears = [&](std::string_view bytes) {
      Buffer ignored;
      while (!bytes.empty()) {
        const auto step = scanner.FromBackend(bytes, ignored);
        ASSERT_EQ(step.what, Do::kForward);
        bytes.remove_prefix(step.bytes);
      }
    };
    says(kTransaction);
    hears("250 ok\r\n250 ok\r\n");
    const size_t bar = end.find('|');
    says(end.substr(0, bar));
    if (bar > 0) hears("354 go\r\n");
    const std::string_view message = end.substr(bar + 1);
    says(message.substr(0, message.size() - 1));
    EXPECT_FALSE(scanner.AwaitsVerdict()) << end;
    const size_t left = end.starts_with('|') ? 1 : 3;
    says(message.substr(message.size() - left));
    EXPECT_TRUE(scanner.AwaitsVerdict()) << end;
    says("NOOP\r\n");
    EXPECT_TRUE(scanner.AwaitsVerdict()) << end;
    hears("250 queued\r\n");
    EXPECT_FALSE(scanner.AwaitsVerdict()) << end;
  }
}

// Before a login the same limit holds.
TEST(SmtpRelayScanner, EndsWithWhoeverSendsTooManyBadCommands) {
  std::string client;
  for (int i = 0; i < 9; ++i) client += "GET / HTTP/1.1\r\nSTARTTLS\r\nNOOP\r\n";
  const Relayed nine = Relay({}, client);
  EXPECT_FALSE(nine.closed);
  const Relayed ten = Relay({}, client + "Host: x\r\nMAIL FROM:<a@x>\r\n");
  EXPECT_TRUE(ten.closed);
  EXPECT_EQ(ten.reason, QuitReason::kTooManyErrors);
  EXPECT_TRUE(ten.to_client.ends_with(
      "500 5.5.2 Command not recognized\r\n421 4.7.0 Too many bad commands\r\n"));
  EXPECT_EQ(ten.commands, std::vector<std::string>(9, "NOOP"));
}

TEST(SmtpRelayScanner, RefusesLinesThatALenientBackendCouldReadOtherwise) {
  using std::string_literals::operator""s;
  for (const std::string& line :
       {"NOOP\nXCLIENT LOGIN=x\r\n"s, "NOOP\rXCLIENT LOGIN=x\r\n"s, "NOOP \0\r\n"s,
        " XCLIENT LOGIN=x\r\n"s, "\tXCLIENT LOGIN=x\r\n"s, "\r\n"s, "X\r\r\n"s,
        "XEXCH50 100 2\r\n"s, "TURN\r\n"s, "DATAX\r\n"s, "\xFFNOOP\r\n"s}) {
    const Relayed relayed = Relay({}, line + "NOOP\r\n");
    EXPECT_EQ(relayed.to_backend, "NOOP\r\n") << line;
    EXPECT_TRUE(relayed.to_client.starts_with("5")) << line;
    EXPECT_TRUE(relayed.to_client.ends_with("\r\n250 ok\r\n")) << line;
  }
}

TEST(SmtpRelayScanner, SwallowsALineThatIsTooLongAndGoesOn) {
  const std::string longest = "NOOP " + std::string(8192 - 5, 'x') + "\r\n";
  Setting setting;
  const Pace bytewise_end{{8192, 8193, 8194}, SIZE_MAX, false};
  EXPECT_EQ(RunOnce(setting, longest, bytewise_end).to_backend, longest);
  const std::string too_long = "NOOP " + std::string(8192 - 4, 'x') + "\r\nRSET\r\n";
  for (const size_t cut : {1U, 8191U, 8192U, 8193U, 8194U, 8195U, 8196U}) {
    const Relayed relayed = RunOnce(setting, "NOOP\r\n" + too_long, {{cut + 6}, SIZE_MAX, true});
    EXPECT_EQ(relayed.to_backend, "NOOP\r\nRSET\r\n") << cut;
    EXPECT_EQ(relayed.to_client, "250 ok\r\n500 5.5.2 Line too long\r\n250 ok\r\n") << cut;
  }
}

TEST(SmtpRelayScanner, FiltersTheEhloReply) {
  Setting setting;
  setting.backend.hello =
      "250-backend.internal\r\n250-SIZE 100\r\n250-STARTTLS\r\n250-AUTH PLAIN\r\n250-AUTH=PLAIN\r\n"
      "250-CHUNKING\r\n250-X-EXPS LOGIN\r\n250-XFORWARD NAME\r\n250 XCLIENT LOGIN\r\n";
  EXPECT_EQ(Relay(setting, "EHLO me\r\nNOOP\r\n").to_client,
            "250-mail.example.org\r\n250-SIZE 100\r\n250 CHUNKING\r\n250 ok\r\n");
  setting.bare_newline = BareNewline::kNormalize;
  EXPECT_EQ(Relay(setting, "EHLO me\r\n").to_client, "250-mail.example.org\r\n250 SIZE 100\r\n");
  setting.backend.hello = "250-backend\r\n250 XCLIENT LOGIN\r\n";
  EXPECT_EQ(Relay(setting, "EHLO me\r\n").to_client, "250 mail.example.org\r\n");
  setting.backend.hello = "250 backend\r\n";
  EXPECT_EQ(Relay(setting, "EHLO me\r\n").to_client, "250 mail.example.org\r\n");
  setting.backend.hello = "501 5.5.4 no\r\n";
  EXPECT_EQ(Relay(setting, "EHLO me\r\n").to_client, "501 5.5.4 no\r\n");
}

TEST(SmtpRelayScanner, RefusesMailDataWithABareNewlineAndStaysUsable) {
  for (const std::string_view data :
       {"a\n.\nb\r\n.\r\n", "a\r\n.\nb\r\n.\r\n", "a\n.\r\nb\r\n.\r\n", "a\r.\rb\r\n.\r\n",
        "a\r\n.\rb\r\n.\r\n", "a\r\r\n.\r\n", "\n.\r\n\r\n.\r\n", ".\n\r\n.\r\n", ".\r\r\n.\r\n",
        "a\r\n\n.\r\n\r\n.\r\n", "a\nMAIL FROM:<evil@x>\n\r\n.\r\n"}) {
    const Relayed relayed = Relay({}, Message(data) + Message("fine\r\n.\r\n"));
    EXPECT_EQ(relayed.messages, std::vector<std::string>{"fine\r\n.\r\n"}) << data;
    EXPECT_EQ(relayed.to_client,
              "250 2.1.0 ok\r\n250 2.1.5 ok\r\n354 go\r\n" + std::string(kBareReply) +
                  "250 2.1.0 ok\r\n250 2.1.5 ok\r\n354 go\r\n250 2.0.0 queued\r\n")
        << data;
    EXPECT_EQ(relayed.counts.smuggling_refused, 1U);
    EXPECT_EQ(relayed.counts.messages_accepted, 1U);
    EXPECT_EQ(relayed.counts.message_bytes, 9U);
    EXPECT_TRUE(relayed.at_boundary);
  }
}

// The naive reading of what normalising must do: bare newlines become CRLF, a dot behind one or a
// dot that a bare newline follows at a line's beginning is stuffed, CRLF.CRLF ends.
std::string NaiveNormalise(std::string_view data, size_t& end) {
  std::string out;
  bool line = true;
  bool replaced = false;
  for (size_t i = 0; i < data.size();) {
    const std::string_view rest = data.substr(i);
    if (line && rest.starts_with(".\r\n")) {
      end = i + 3;
      return out + ".\r\n";
    }
    if (rest.starts_with("\r\n")) {
      out += "\r\n";
      i += 2;
      line = true;
      replaced = false;
    } else if (rest[0] == '\r' || rest[0] == '\n') {
      out += "\r\n";
      ++i;
      line = false;
      replaced = true;
    } else {
      const bool lone = line && rest.size() > 1 && (rest[1] == '\r' || rest[1] == '\n');
      if (rest[0] == '.' && (replaced || lone)) out += '.';
      out += rest[0];
      ++i;
      line = replaced = false;
    }
  }
  end = std::string_view::npos;
  return out;
}

// Every string of up to 7 of the bytes that matter, at the beginning of the data and behind text.
TEST(SmtpRelayScanner, NormalisesEveryCombinationOfNewlinesAndDots) {
  constexpr std::string_view kBytes = "\r\n.a";
  Setting setting;
  setting.bare_newline = BareNewline::kNormalize;
  for (size_t length = 1; length <= 7; ++length) {
    const size_t combinations = size_t{1} << (2 * length);
    for (size_t code = 0; code < combinations; ++code) {
      std::string body;
      for (size_t i = 0; i < length; ++i) body += kBytes[code >> (2 * i) & 3];
      size_t end = 0;
      const std::string data = body + "z\r\n.\r\n";
      const std::string expected = NaiveNormalise(data, end);
      ASSERT_NE(end, std::string::npos);
      Pace bytewise;
      const std::string client = Message(data.substr(0, end));
      for (size_t i = 1; i < client.size(); ++i) bytewise.client_cuts.push_back(i);
      for (const Pace& pace : {Pace{}, bytewise}) {
        const Relayed relayed = RunOnce(setting, client, pace);
        ASSERT_EQ(relayed.messages, std::vector<std::string>{expected})
            << testing::PrintToString(data);
        // No end of data but the last, to no reader however lenient.
        ASSERT_EQ(expected.find("\r\n.\r\n"),
                  expected.size() < 5 ? std::string::npos : expected.size() - 5);
        ASSERT_TRUE(relayed.at_boundary);
      }
    }
  }
}

TEST(SmtpRelayScanner, NormalisesAtEverySplit) {
  Setting setting;
  setting.bare_newline = BareNewline::kNormalize;
  const Relayed relayed =
      Relay(setting, Message("a\n.\r\n.\n.\r.b\r\r\n..c\n\n.\n\r\n.\r\n") + "QUIT\r\n");
  EXPECT_EQ(relayed.messages, std::vector<std::string>{
                                  "a\r\n..\r\n..\r\n..\r\n..b\r\n\r\n..c\r\n\r\n..\r\n\r\n.\r\n"});
}

TEST(SmtpRelayScanner, PassesChunksBySizeOnly) {
  const Relayed relayed = Relay({}, std::string(kTransaction) +
                                        "BDAT 23\r\nXCLIENT LOGIN=x\r\n.\r\nab\r"
                                        "BDAT 4 LAST\r\n\nQUI"
                                        "RSET\r\n");
  EXPECT_EQ(relayed.messages, std::vector<std::string>{"XCLIENT LOGIN=x\r\n.\r\nab\r\nQUI"});
  EXPECT_EQ(relayed.commands, (std::vector<std::string>{"MAIL FROM:<a@x>", "RCPT TO:<b@x>",
                                                        "BDAT 23", "BDAT 4 LAST", "RSET"}));
  EXPECT_EQ(relayed.counts.message_bytes, 27U);
  EXPECT_EQ(relayed.counts.messages_accepted, 1U);
}

TEST(SmtpRelayScanner, RefusesChunksWithABareNewlineUnlessBinary) {
  const std::string next = Message("fine\r\n.\r\n");
  const std::string start = "250 2.1.0 ok\r\n250 2.1.5 ok\r\n";
  const std::string rest = start + "354 go\r\n250 2.0.0 queued\r\n";
  struct Case {
    std::string_view chunks;
    std::string replies;
  };
  const std::string bare(kBareReply);
  for (const Case& c :
       std::vector<Case>{{"BDAT 5 LAST\r\na\nbcd", bare},
                         {"BDAT 1 LAST\r\n\n", bare},
                         {"BDAT 2 LAST\r\na\r", bare},
                         {"BDAT 3\r\nab\rBDAT 0 LAST\r\n", "250 2.0.0 chunk\r\n" + bare},
                         {"BDAT 3\r\nab\rBDAT 3 LAST\r\nabc", "250 2.0.0 chunk\r\n" + bare},
                         {"BDAT 3\r\na\rbBDAT 4 LAST\r\nNOOPBDAT 0\r\n",
                          bare + "503 5.5.1 Message was refused; send RSET or MAIL\r\n"
                                 "503 5.5.1 Message was refused; send RSET or MAIL\r\n"}}) {
    const Relayed relayed = Relay({}, std::string(kTransaction) + std::string(c.chunks) + next);
    EXPECT_EQ(relayed.to_client, start + c.replies + rest) << c.chunks;
    EXPECT_EQ(relayed.messages, std::vector<std::string>{"fine\r\n.\r\n"}) << c.chunks;
    EXPECT_EQ(relayed.counts.smuggling_refused, 1U);
  }
  const Relayed binary =
      Relay({}, "MAIL FROM:<a@x> BODY=BINARYMIME\r\nRCPT TO:<b@x>\r\nBDAT 5 LAST\r\na\nb\rc");
  EXPECT_EQ(binary.messages, std::vector<std::string>{"a\nb\rc"});
}

TEST(SmtpRelayScanner, IsNotTalkedIntoBinaryByARefusedOrQuotedMail) {
  for (const std::string_view mail : {"MAIL FROM:<a@x>\r\nMAIL FROM:<b@x> BODY=BINARYMIME\r\n",
                                      "MAIL FROM:<\"> BODY=BINARYMIME \"@x>\r\n"}) {
    const Relayed relayed = Relay({}, std::string(mail) + "RCPT TO:<b@x>\r\nBDAT 3 LAST\r\na\nb");
    EXPECT_TRUE(relayed.messages.empty()) << mail;
    EXPECT_TRUE(relayed.to_client.ends_with(kBareReply)) << mail;
  }
}

TEST(SmtpRelayScanner, SwallowsThePayloadOfARefusedBdat) {
  const std::string client =
      std::string(kTransaction) + "BDAT 17\r\nXCLIENT LOGIN=x\r\nNOOP\r\nBDAT 0 LAST\r\n";
  const std::string replies =
      "250 2.1.0 ok\r\n250 2.1.5 ok\r\n502 5.5.1 BDAT is not offered\r\n250 ok\r\n"
      "502 5.5.1 BDAT is not offered\r\n";
  Setting setting;
  setting.capabilities = nullptr;  // would read the payload as commands
  Relayed relayed = Relay(setting, client);
  EXPECT_EQ(relayed.to_backend, std::string(kTransaction) + "NOOP\r\n");
  EXPECT_EQ(relayed.to_client, replies);
  setting.capabilities = &kChunking;
  setting.bare_newline = BareNewline::kNormalize;
  EXPECT_EQ(Relay(setting, client).to_client, replies);
  // An EHLO reply decides anew.
  setting.bare_newline = BareNewline::kReject;
  setting.backend.hello = "250 backend\r\n";
  relayed = Relay(setting, "EHLO me\r\n" + client);
  EXPECT_EQ(relayed.to_client, "250 mail.example.org\r\n" + replies);
}

TEST(SmtpRelayScanner, ClosesOnABdatWithoutASize) {
  for (const std::string_view line :
       {"BDAT\r\n", "BDAT x\r\n", "BDAT 12x LAST\r\n", "BDAT 1  LAST\r\n", "BDAT -1\r\n",
        "BDAT 1 LAST x\r\n", "BDAT 99999999999999999999\r\n"}) {
    const Relayed relayed = Relay({}, "NOOP\r\n" + std::string(line) + "RSET\r\n");
    EXPECT_TRUE(relayed.closed);
    EXPECT_EQ(relayed.reason, QuitReason::kProtocolViolation);
    EXPECT_EQ(relayed.to_backend, "NOOP\r\n");
    EXPECT_EQ(relayed.to_client,
              "250 ok\r\n501 5.5.4 Syntax: BDAT size [LAST]; closing connection\r\n");
  }
}

// Found by the fuzzer: a CR at the end of a refused chunk was forgotten if the refusal came early.
TEST(SmtpRelayScanner, RemembersTheCrOfAChunkWhateverTheBackendSaysToIt) {
  const Relayed relayed = Relay({}, "BDAT 3\r\nab\rBDAT 2 LAST\r\n\naNOOP\r\n");
  EXPECT_EQ(relayed.to_client, "503 5.5.1 no recipients\r\n503 5.5.1 no recipients\r\n250 ok\r\n");
}

TEST(SmtpRelayScanner, JoinsNoChunkThatEndsInCrWithMailData) {
  const Relayed relayed = Relay(
      {}, std::string(kTransaction) + "BDAT 3\r\nab\rDATA\r\nRSET\r\n" + Message("fine\r\n.\r\n"));
  EXPECT_EQ(relayed.messages, std::vector<std::string>{"fine\r\n.\r\n"});
  EXPECT_NE(relayed.to_client.find("503 5.5.1 DATA behind BDAT\r\n250 ok\r\n"), std::string::npos);
}

TEST(SmtpRelayScanner, WritesBdatInItsPlainestForm) {
  EXPECT_EQ(Relay({}, "bdat  0010 last \r\n0123456789").to_backend, "BDAT 10 LAST\r\n0123456789");
}

// A backend may answer a BDAT that it refuses before the payload has ended.
TEST(SmtpRelayScanner, AnswersAChunkOnceIfTheBackendRefusedItEarly) {
  RelayScanner scanner(BareNewline::kReject, {}, "mail.example.org", &kChunking);
  Buffer to_client;
  Buffer to_backend;
  EXPECT_EQ(scanner.FromClient("BDAT 6 LAST\r\n", to_client, to_backend).what, Do::kSwallow);
  EXPECT_EQ(to_backend.view(), "BDAT 6 LAST\r\n");
  EXPECT_EQ(scanner.FromClient("ab", to_client, to_backend).bytes, 2U);
  EXPECT_EQ(scanner.FromBackend("503 no\r\n", to_client).what, Do::kForward);
  EXPECT_EQ(scanner.FromClient("\ncde", to_client, to_backend).bytes, 3U);
  EXPECT_EQ(scanner.FromClient("e", to_client, to_backend).what, Do::kResetBackend);
  EXPECT_TRUE(to_client.empty());
  EXPECT_EQ(scanner.FromClient("e", to_client, to_backend).what, Do::kWaitForBackend);
  scanner.BackendReset();
  EXPECT_EQ(scanner.FromClient("e", to_client, to_backend).what, Do::kSwallow);
  EXPECT_TRUE(scanner.AtBoundary());
}

TEST(SmtpRelayScanner, DoesNotBelieveRepliesBeforeTheirQuestion) {
  struct Case {
    std::string_view client;
    std::string_view backend;
  };
  for (const Case& c : std::vector<Case>{{"", "250 ok\r\n"},
                                         {"NOOP\r\n", "354 go\r\n"},
                                         {"DATA\r\n", "334 go\r\n"},
                                         {"NOOP\r\n", "100 ok\r\n"},
                                         {"NOOP\r\n", "hello\r\n"},
                                         {"BDAT 3\r\n", "250 ok\r\n"}}) {
    RelayScanner scanner(BareNewline::kReject, {}, "mail.example.org", &kChunking);
    Buffer to_client;
    Buffer to_backend;
    if (!c.client.empty()) (void)scanner.FromClient(c.client, to_client, to_backend);
    const auto step = scanner.FromBackend(c.backend, to_client);
    EXPECT_EQ(step.what, Do::kClose) << c.backend;
    EXPECT_EQ(step.reason, QuitReason::kProtocolViolation);
    EXPECT_EQ(to_client.view().find("250"), std::string_view::npos);
  }
  RelayScanner scanner(BareNewline::kReject, {}, "mail.example.org", &kChunking);
  Buffer to_client;
  Buffer to_backend;
  (void)scanner.FromClient("NOOP\r\n", to_client, to_backend);
  EXPECT_EQ(scanner.FromBackend("250 ok\r\n250 and more\r\n", to_client).bytes, 8U);
  EXPECT_EQ(scanner.FromBackend("250 and more\r\n", to_client).what, Do::kClose);
}

TEST(SmtpRelayScanner, PassesThe421OfTheBackendAndCloses) {
  for (const std::string_view client : {"", "NOOP\r\n"}) {
    RelayScanner scanner(BareNewline::kReject, {}, "mail.example.org", &kChunking);
    Buffer to_client;
    Buffer to_backend;
    if (!client.empty()) (void)scanner.FromClient(client, to_client, to_backend);
    EXPECT_EQ(scanner.FromBackend("421 4.3.2 bye\r\n", to_client).what, Do::kClose);
    EXPECT_EQ(to_client.view(), "421 4.3.2 bye\r\n");
  }
}

TEST(SmtpRelayScanner, KnowsWhereASessionMayEndAndWhereWeMaySpeak) {
  RelayScanner scanner(BareNewline::kReject, {}, "mail.example.org", &kChunking);
  Buffer to_client;
  Buffer to_backend;
  const auto client = [&](std::string_view bytes) {
    (void)scanner.FromClient(bytes, to_client, to_backend);
  };
  const auto backend = [&](std::string_view bytes) { (void)scanner.FromBackend(bytes, to_client); };
  EXPECT_TRUE(scanner.AtBoundary());
  EXPECT_TRUE(scanner.CanSpeak());
  client("MAIL FROM:<a@x>\r\n");
  EXPECT_FALSE(scanner.AtBoundary());
  backend("250-ok\r\n");
  EXPECT_FALSE(scanner.CanSpeak());
  backend("250 ok\r\n");
  EXPECT_FALSE(scanner.AtBoundary());  // a transaction is open
  EXPECT_TRUE(scanner.CanSpeak());
  client("RSET\r\n");
  backend("250 ok\r\n");
  EXPECT_TRUE(scanner.AtBoundary());
  client("MAIL FROM:<a@x>\r\n");
  backend("250 ok\r\n");
  client("DATA\r\n");
  backend("354 go\r\n");
  EXPECT_FALSE(scanner.AtBoundary());
  EXPECT_FALSE(scanner.CanSpeak());
  client("x\r\n.\r\n");
  EXPECT_TRUE(scanner.CanSpeak());
  EXPECT_FALSE(scanner.AtBoundary());
  backend("452 4.3.1 full\r\n");
  EXPECT_TRUE(scanner.AtBoundary());
  EXPECT_EQ(scanner.counts().messages_refused, 1U);
  client("MAIL FROM:<a@x>\r\n");
  backend("550 no\r\n");
  EXPECT_TRUE(scanner.AtBoundary());
  to_client.Clear();
  scanner.Say(protocols::Notice::kShuttingDown, to_client);
  EXPECT_EQ(to_client.view(), "421 4.3.2 mail.example.org Service shutting down\r\n");
}

TEST(SmtpRelayScanner, LetsMoreCommandsWaitThanItRemembers) {
  std::string client;
  std::string replies;
  for (int i = 0; i < 300; ++i) {
    client += "NOOP\r\n";
    replies += "250 ok\r\n";
  }
  for (const bool slow : {false, true}) {
    const Relayed relayed = RunOnce({}, client + "AUTH LOGIN\r\n", {{}, SIZE_MAX, slow});
    EXPECT_EQ(relayed.to_backend, client);
    EXPECT_EQ(relayed.to_client, replies + "503 5.5.1 Already authenticated\r\n");
  }
}

}  // namespace
}  // namespace gatepost::test
