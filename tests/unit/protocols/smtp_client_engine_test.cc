// Our own login at a backend, as a conversation in memory.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "protocols/smtp/client_engine.h"

namespace gatepost::smtp {
namespace {

using protocols::BackendFailure;
using protocols::BackendTls;
using protocols::Buffer;
using protocols::ClientAction;
using protocols::ClientFacts;
using protocols::Failed;
using protocols::LoggedIn;
using protocols::LoginFailure;
using protocols::NeedInput;
using protocols::Refused;
using protocols::StartTls;

sasl::Credentials User(std::string_view authorization = {}) {
  return {sasl::Mechanism::kPlain, std::string(authorization), "user", sasl::Secret("pass")};
}

// Talk feeds the backend's replies one by one, each whole or byte by byte.
class Talk {
 public:
  explicit Talk(ClientFacts facts, bool bytewise = false)
      : engine_(std::move(facts)), bytewise_(bytewise) {
    Call();
  }

  // Hear feeds `bytes` and returns what the engine said to it.
  std::string Hear(std::string_view bytes) {
    if (bytes.empty()) Call();
    for (size_t i = 0; i < bytes.size(); i += bytewise_ ? 1 : bytes.size()) {
      input_ << bytes.substr(i, bytewise_ ? 1 : bytes.size());
      Call();
    }
    return Said();
  }

  std::string TlsStarted() {
    engine_.TlsStarted();
    Call();
    return Said();
  }

  template <typename Action>
  const Action* Is() const {
    return std::get_if<Action>(&*action_);
  }
  ClientEngine& engine() { return engine_; }
  Buffer& input() { return input_; }

 private:
  void Call() { action_.emplace(engine_.Next(input_, output_)); }

  std::string Said() {
    std::string said(output_.view());
    output_.Clear();
    return said;
  }

  ClientEngine engine_;
  bool bytewise_;
  Buffer input_;
  Buffer output_;
  std::optional<ClientAction> action_;
};

ClientFacts Facts(const sasl::Credentials* credentials, BackendTls tls = BackendTls::kNone) {
  return {.hostname = "gate.example", .tls = tls, .credentials = credentials};
}

constexpr std::string_view kPlainUserPass = "AHVzZXIAcGFzcw==";

TEST(SmtpClientEngine, LogsInWithPlain) {
  const auto credentials = User();
  for (const bool bytewise : {false, true}) {
    Talk talk(Facts(&credentials), bytewise);
    EXPECT_EQ(talk.Hear("220-backend\r\n220 ready\r\n"), "EHLO gate.example\r\n");
    EXPECT_EQ(talk.Hear("250-backend\r\n250-SIZE 9\r\n250 AUTH LOGIN PLAIN\r\n"),
              "AUTH PLAIN " + std::string(kPlainUserPass) + "\r\n");
    EXPECT_EQ(talk.Hear("235 2.7.0 welc\x01ome\r\n"), "");
    ASSERT_TRUE(talk.Is<LoggedIn>());
    EXPECT_EQ(talk.Is<LoggedIn>()->reply.status, "235 2.7.0 welc?ome\r\n");
    EXPECT_EQ(talk.engine().capabilities(),
              (protocols::Capabilities{"SIZE 9", "AUTH LOGIN PLAIN"}));
  }
}

TEST(SmtpClientEngine, LogsInWithLoginWherePlainIsNotOffered) {
  const auto credentials = User();
  for (const std::string_view offer : {"250 AUTH LOGIN\r\n", "250 AUTH=LOGIN CRAM-MD5\r\n"}) {
    Talk talk(Facts(&credentials));
    talk.Hear("220 ready\r\n");
    EXPECT_EQ(talk.Hear("250-backend\r\n" + std::string(offer)), "AUTH LOGIN\r\n");
    EXPECT_EQ(talk.Hear("334 VXNlcm5hbWU6\r\n"), "dXNlcg==\r\n");
    EXPECT_EQ(talk.Hear("334 UGFzc3dvcmQ6\r\n"), "cGFzcw==\r\n");
    talk.Hear("235 ok\r\n");
    EXPECT_TRUE(talk.Is<LoggedIn>());
  }
}

// RFC 4954 §4: the command with its initial response obeys the command line's limit.
TEST(SmtpClientEngine, SendsALongPlainMessageWithoutInitialResponse) {
  auto credentials = User();
  credentials.password = sasl::Secret(std::string(500, 'p'));
  Talk talk(Facts(&credentials));
  talk.Hear("220 ready\r\n");
  EXPECT_EQ(talk.Hear("250-backend\r\n250 AUTH PLAIN\r\n"), "AUTH PLAIN\r\n");
  const std::string response = talk.Hear("334 \r\n");
  EXPECT_EQ(response.size(), 676U + 2);  // base64 of NUL, user, NUL and 500 bytes, and CRLF
  credentials.password = sasl::Secret(std::string(10000, 'p'));
  Talk longer(Facts(&credentials));
  longer.Hear("220 ready\r\n");
  EXPECT_EQ(longer.Hear("250-backend\r\n250 AUTH PLAIN\r\n"), "");
  ASSERT_TRUE(longer.Is<Failed>());
  EXPECT_EQ(longer.Is<Failed>()->reason, BackendFailure::kUnencodable);
}

TEST(SmtpClientEngine, CarriesAnAuthorizationIdentityInPlainOnly) {
  const auto credentials = User("other");
  Talk plain(Facts(&credentials));
  plain.Hear("220 ready\r\n");
  EXPECT_EQ(plain.Hear("250-b\r\n250 AUTH PLAIN\r\n"), "AUTH PLAIN b3RoZXIAdXNlcgBwYXNz\r\n");
  Talk login(Facts(&credentials));
  login.Hear("220 ready\r\n");
  EXPECT_EQ(login.Hear("250-b\r\n250 AUTH LOGIN\r\n"), "");
  ASSERT_TRUE(login.Is<Failed>());
  EXPECT_EQ(login.Is<Failed>()->reason, BackendFailure::kNoAuthorization);
}

TEST(SmtpClientEngine, StartsTlsAndAsksForCapabilitiesAgain) {
  const auto credentials = User();
  Talk talk(Facts(&credentials, BackendTls::kStartTls));
  talk.Hear("220 ready\r\n");
  EXPECT_EQ(talk.Hear("250-b\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n"), "STARTTLS\r\n");
  EXPECT_EQ(talk.Hear("220 go\r\n"), "");
  ASSERT_TRUE(talk.Is<StartTls>());
  EXPECT_EQ(talk.TlsStarted(), "EHLO gate.example\r\n");
  EXPECT_TRUE(talk.engine().capabilities().empty());
  // What stood before TLS counts no more: PLAIN was offered there.
  EXPECT_EQ(talk.Hear("250-b\r\n250 AUTH LOGIN\r\n"), "AUTH LOGIN\r\n");
}

TEST(SmtpClientEngine, InsistsOnStartTls) {
  const auto credentials = User();
  Talk missing(Facts(&credentials, BackendTls::kStartTls));
  missing.Hear("220 ready\r\n");
  EXPECT_EQ(missing.Hear("250-b\r\n250 AUTH PLAIN\r\n"), "");
  ASSERT_TRUE(missing.Is<Failed>());
  EXPECT_EQ(missing.Is<Failed>()->reason, BackendFailure::kNoStartTls);

  Talk refused(Facts(&credentials, BackendTls::kStartTls));
  refused.Hear("220 ready\r\n");
  refused.Hear("250-b\r\n250 STARTTLS\r\n");
  refused.Hear("454 not now\r\n");
  ASSERT_TRUE(refused.Is<Failed>());
  EXPECT_EQ(refused.Is<Failed>()->reason, BackendFailure::kNoStartTls);
}

TEST(SmtpClientEngine, RefusesBytesBehindTheReplyToStartTls) {
  const auto credentials = User();
  Talk talk(Facts(&credentials, BackendTls::kStartTls));
  talk.Hear("220 ready\r\n");
  talk.Hear("250-b\r\n250 STARTTLS\r\n");
  EXPECT_EQ(talk.Hear("220 go\r\n250-b\r\n250 AUTH PLAIN\r\n"), "");
  ASSERT_TRUE(talk.Is<Failed>());
  EXPECT_EQ(talk.Is<Failed>()->reason, BackendFailure::kInjection);
}

TEST(SmtpClientEngine, BelievesNoReplyBeforeItsQuestion) {
  const auto credentials = User();
  Talk greeting(Facts(&credentials));
  greeting.Hear("220 ready\r\n250-b\r\n250 AUTH PLAIN\r\n");
  ASSERT_TRUE(greeting.Is<Failed>());
  EXPECT_EQ(greeting.Is<Failed>()->reason, BackendFailure::kProtocolError);
  Talk ehlo(Facts(&credentials));
  ehlo.Hear("220 ready\r\n");
  ehlo.Hear("250-b\r\n250 AUTH PLAIN\r\n235 welcome\r\n");
  ASSERT_TRUE(ehlo.Is<Failed>());
  EXPECT_EQ(ehlo.Is<Failed>()->reason, BackendFailure::kProtocolError);
}

TEST(SmtpClientEngine, TellsRefusedCredentialsFromEverythingElse) {
  const auto credentials = User();
  struct Case {
    std::string_view reply;
    std::optional<LoginFailure> refused;
    std::optional<BackendFailure> failed;
  };
  for (const Case& c : std::vector<Case>{
           {"535 5.7.8 no\r\n", LoginFailure::kBadCredentials, {}},
           {"535-5.7.8 no\r\n535 5.7.8 really\r\n", LoginFailure::kBadCredentials, {}},
           {"550 5.7.1 no\r\n", LoginFailure::kBadCredentials, {}},
           {"525 5.7.13 no\r\n", LoginFailure::kAccountDisabled, {}},
           {"454 4.7.0 later\r\n", {}, BackendFailure::kUnavailable},
           {"535 4.7.8 later\r\n", {}, BackendFailure::kUnavailable},
           {"421 4.3.2 bye\r\n", {}, BackendFailure::kShuttingDown},
           {"421 4.7.0 bye\r\n", {}, BackendFailure::kUnavailable},
           {"432 4.7.12 transition\r\n", LoginFailure::kPasswordExpired, {}},
           {"535 5.7.13 disabled\r\n", LoginFailure::kAccountDisabled, {}},
           {"504 5.5.4 what\r\n", {}, BackendFailure::kNoMechanism},
           {"530 5.7.0 TLS\r\n", {}, BackendFailure::kNoMechanism},
           {"534 5.7.9 weak\r\n", {}, BackendFailure::kNoMechanism},
           {"538 5.7.11 TLS\r\n", {}, BackendFailure::kNoMechanism},
           {"503 5.5.1 what\r\n", {}, BackendFailure::kProtocolError},
           {"250 hm\r\n", {}, BackendFailure::kProtocolError},
           {"334 more\r\n", {}, BackendFailure::kProtocolError},
           {"235-a\r\n236 b\r\n", {}, BackendFailure::kProtocolError},
           {"garbage\r\n", {}, BackendFailure::kProtocolError}}) {
    Talk talk(Facts(&credentials));
    talk.Hear("220 ready\r\n");
    talk.Hear("250-b\r\n250 AUTH PLAIN\r\n");
    EXPECT_EQ(talk.Hear(c.reply), "") << c.reply;
    if (c.refused) {
      ASSERT_TRUE(talk.Is<Refused>()) << c.reply;
      EXPECT_EQ(talk.Is<Refused>()->reason, *c.refused) << c.reply;
    } else {
      ASSERT_TRUE(talk.Is<Failed>()) << c.reply;
      EXPECT_EQ(talk.Is<Failed>()->reason, *c.failed) << c.reply;
    }
  }
}

TEST(SmtpClientEngine, UnderstandsAGreetingThatRefuses) {
  const auto credentials = User();
  for (const auto& [greeting, reason] : std::vector<std::pair<std::string_view, BackendFailure>>{
           {"421 busy\r\n", BackendFailure::kRefusedService},
           {"421 4.3.2 busy\r\n", BackendFailure::kShuttingDown},
           {"554 no\r\n", BackendFailure::kRefusedService},
           {"250 hm\r\n", BackendFailure::kProtocolError},
           {"* OK IMAP\r\n", BackendFailure::kProtocolError},
           {"+OK POP3\r\n", BackendFailure::kProtocolError}}) {
    Talk talk(Facts(&credentials));
    EXPECT_EQ(talk.Hear(greeting), "");
    ASSERT_TRUE(talk.Is<Failed>()) << greeting;
    EXPECT_EQ(talk.Is<Failed>()->reason, reason) << greeting;
  }
}

TEST(SmtpClientEngine, FallsBackToHeloOnlyWhereNoLoginIsWanted) {
  const auto credentials = User();
  ClientFacts facts = Facts(&credentials);
  facts.authenticate = false;
  Talk without(facts);
  without.Hear("220 ready\r\n");
  EXPECT_EQ(without.Hear("502 what\r\n"), "HELO gate.example\r\n");
  without.Hear("250 hello\r\n");
  ASSERT_TRUE(without.Is<LoggedIn>());
  EXPECT_EQ(without.Is<LoggedIn>()->reply.status, "");

  Talk with(Facts(&credentials));
  with.Hear("220 ready\r\n");
  EXPECT_EQ(with.Hear("502 what\r\n"), "");
  EXPECT_TRUE(with.Is<Failed>());
}

TEST(SmtpClientEngine, IsDoneBehindEhloWhereNoLoginIsWanted) {
  const auto credentials = User();
  ClientFacts facts = Facts(&credentials);
  facts.authenticate = false;
  Talk talk(facts);
  talk.Hear("220 ready\r\n");
  EXPECT_EQ(talk.Hear("250-b\r\n250 AUTH PLAIN\r\n"), "");
  ASSERT_TRUE(talk.Is<LoggedIn>());
  EXPECT_EQ(talk.Is<LoggedIn>()->reply.status, "");
}

TEST(SmtpClientEngine, StopsBeforeTheLoginWithoutCredentials) {
  Talk talk(Facts(nullptr, BackendTls::kStartTls));
  talk.Hear("220 ready\r\n");
  EXPECT_EQ(talk.Hear("250-b\r\n250 STARTTLS\r\n"), "STARTTLS\r\n");
  talk.Hear("220 go\r\n");
  EXPECT_EQ(talk.TlsStarted(), "EHLO gate.example\r\n");
  EXPECT_EQ(talk.Hear("250-b\r\n250-AUTH PLAIN\r\n250 SIZE 7\r\n"), "");
  EXPECT_TRUE(talk.Is<protocols::Ready>());
  EXPECT_EQ(talk.engine().capabilities(), (protocols::Capabilities{"AUTH PLAIN", "SIZE 7"}));
  const auto credentials = User();
  talk.engine().LogIn(credentials);
  EXPECT_EQ(talk.Hear(""), "AUTH PLAIN " + std::string(kPlainUserPass) + "\r\n");
}

TEST(SmtpClientEngine, AReadyConnectionMayBeGivenUpByTheBackend) {
  Talk talk(Facts(nullptr));
  talk.Hear("220 ready\r\n");
  talk.Hear("250 b\r\n");
  EXPECT_TRUE(talk.Is<protocols::Ready>());
  talk.Hear("421 4.4.2 idle\r\n");
  ASSERT_TRUE(talk.Is<Failed>());
  EXPECT_EQ(talk.Is<Failed>()->reason, BackendFailure::kRefusedService);
}

TEST(SmtpClientEngine, BoundsAReply) {
  const auto credentials = User();
  Talk line(Facts(&credentials));
  line.Hear("220 " + std::string(9000, 'x'));
  EXPECT_TRUE(line.Is<Failed>());
  Talk lines(Facts(&credentials));
  for (int i = 0; i < 128; ++i) lines.Hear("220-x\r\n");
  EXPECT_TRUE(lines.Is<NeedInput>());
  lines.Hear("220-x\r\n");
  EXPECT_TRUE(lines.Is<Failed>());
}

TEST(SmtpClientEngine, WritesNoNulIntoPlain) {
  auto credentials = User();
  credentials.authentication_identity = std::string("a\0b", 3);
  Talk talk(Facts(&credentials));
  talk.Hear("220 ready\r\n");
  EXPECT_EQ(talk.Hear("250-b\r\n250 AUTH PLAIN\r\n"), "");
  ASSERT_TRUE(talk.Is<Failed>());
  EXPECT_EQ(talk.Is<Failed>()->reason, BackendFailure::kUnencodable);
}

std::shared_ptr<const protocols::Introduction> Client(std::string_view helo = "client.example") {
  protocols::Introduction client;
  client.client_host = "2001:db8::7";
  client.client_port = 49152;
  client.server_host = "2001:db8::1";
  client.session_id = "s1";
  client.helo = helo;
  return std::make_shared<const protocols::Introduction>(std::move(client));
}

std::string Ehlo(std::string_view xclient) {
  return "250-backend\r\n250-" + std::string(xclient) + "\r\n250 AUTH PLAIN\r\n";
}

// Postfix's XCLIENT_README: what is wanted and nothing else, the address last, and all anew behind
// it.
TEST(SmtpClientEngine, IntroducesTheClientAsFarAsTheBackendListens) {
  for (const bool bytewise : {false, true}) {
    const sasl::Credentials user = User();
    Talk talk(Facts(&user), bytewise);
    talk.engine().Introduce(Client());
    talk.Hear("220 backend\r\n");
    EXPECT_EQ(talk.Hear(Ehlo("XCLIENT NAME ADDR PROTO HELO PORT DESTADDR")),
              "XCLIENT DESTADDR=IPV6:2001:db8::1 HELO=client.example PORT=49152 PROTO=ESMTP "
              "NAME=[UNAVAILABLE] "
              "ADDR=IPV6:2001:db8::7\r\n");
    EXPECT_EQ(talk.Hear("220 backend\r\n"), "EHLO client.example\r\n");
    EXPECT_EQ(talk.engine().trust(), protocols::Trust::kGiven);
    EXPECT_EQ(talk.Hear(Ehlo("XCLIENT ADDR")),
              "AUTH PLAIN " + std::string(kPlainUserPass) + "\r\n");
    talk.Hear("235 in\r\n");
    EXPECT_NE(talk.Is<LoggedIn>(), nullptr);
  }
}

TEST(SmtpClientEngine, SplitsALongIntroduction) {
  const sasl::Credentials user = User();
  Talk talk(Facts(&user));
  talk.engine().Introduce(Client(std::string(254, '+')));
  talk.Hear("220 backend\r\n");
  std::string said = talk.Hear(Ehlo("XCLIENT ADDR HELO PORT"));
  EXPECT_EQ(said, "XCLIENT PORT=49152 ADDR=IPV6:2001:db8::7\r\n");  // no room for HELO at all
  Talk other(Facts(&user));
  other.engine().Introduce(Client(std::string(165, '+')));  // 495 bytes in xtext
  other.Hear("220 backend\r\n");
  said = other.Hear(Ehlo("XCLIENT ADDR HELO PORT SESSION"));
  EXPECT_EQ(said, "XCLIENT SESSION=s1\r\n");
  said = other.Hear("220 go on\r\n");
  EXPECT_EQ(said.substr(0, 14), "XCLIENT HELO=+");
  EXPECT_LE(said.size(), 512U);
  EXPECT_EQ(other.Hear("220 go on\r\n"), "XCLIENT PORT=49152 ADDR=IPV6:2001:db8::7\r\n");
  EXPECT_EQ(other.Hear("220 go on\r\n").substr(0, 6), "EHLO +");
}

TEST(SmtpClientEngine, GoesOnWhereItIsNotBelieved) {
  const sasl::Credentials user = User();
  Talk talk(Facts(&user));
  talk.engine().Introduce(Client());
  talk.Hear("220 backend\r\n");
  EXPECT_EQ(talk.Hear("250-backend\r\n250 AUTH PLAIN\r\n").substr(0, 4), "AUTH");
  EXPECT_EQ(talk.engine().trust(), protocols::Trust::kRefused);
  for (const std::string_view answer : {"550 not you\r\n", "501 what\r\n", "503 not now\r\n"}) {
    Talk other(Facts(&user));
    other.engine().Introduce(Client());
    other.Hear("220 backend\r\n");
    other.Hear(Ehlo("XCLIENT ADDR"));
    EXPECT_EQ(other.Hear(answer), "EHLO gate.example\r\n");
    EXPECT_EQ(other.engine().trust(), protocols::Trust::kRefused);
    EXPECT_EQ(other.Hear(Ehlo("XCLIENT ADDR")).substr(0, 4), "AUTH");
  }
}

TEST(SmtpClientEngine, TheBackendMayRefuseTheClient) {
  const sasl::Credentials user = User();
  Talk talk(Facts(&user));
  talk.engine().Introduce(Client());
  talk.Hear("220 backend\r\n");
  talk.Hear(Ehlo("XCLIENT ADDR"));
  talk.Hear("554 5.7.1 that address is on a list\r\n");
  ASSERT_NE(talk.Is<Refused>(), nullptr);
  EXPECT_EQ(talk.Is<Refused>()->reason, LoginFailure::kAuthorizationDenied);
  Talk other(Facts(&user));
  other.engine().Introduce(Client());
  other.Hear("220 backend\r\n");
  other.Hear(Ehlo("XCLIENT ADDR"));
  other.Hear("421 4.7.0 too many connections of it\r\n");
  EXPECT_NE(other.Is<Failed>(), nullptr);
}

TEST(SmtpClientEngine, NamesTheUserWhereThatIsItsLogin) {
  const auto begin = [](std::string_view offer, std::string_view answer) {
    const sasl::Credentials user = User();
    ClientFacts facts = Facts(&user);
    facts.authenticate = false;
    Talk talk(std::move(facts));
    protocols::Introduction client = *Client();
    client.login = "al+ice";
    talk.engine().Introduce(std::make_shared<const protocols::Introduction>(std::move(client)));
    talk.Hear("220 backend\r\n");
    std::string said = talk.Hear(Ehlo(offer));
    if (!answer.empty()) {
      talk.Hear(answer);
      talk.Hear(Ehlo(offer));
    }
    return said + (talk.Is<LoggedIn>() != nullptr ? "in"
                   : talk.Is<Failed>() != nullptr ? "failed"
                                                  : "");
  };
  EXPECT_EQ(begin("XCLIENT ADDR LOGIN", "220 go on\r\n"),
            "XCLIENT LOGIN=al+2Bice ADDR=IPV6:2001:db8::7\r\nin");
  EXPECT_EQ(begin("XCLIENT ADDR LOGIN", "550 not you\r\n"),
            "XCLIENT LOGIN=al+2Bice ADDR=IPV6:2001:db8::7\r\nfailed");
  EXPECT_EQ(begin("XCLIENT ADDR", "220 go on\r\n"), "XCLIENT ADDR=IPV6:2001:db8::7\r\nfailed");
  EXPECT_EQ(begin("SIZE", ""), "failed");
}

}  // namespace
}  // namespace gatepost::smtp
