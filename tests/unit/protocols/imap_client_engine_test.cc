// The backend's part is played line by line; each test is one thing a backend may do.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "protocols/imap/client_engine.h"

namespace gatepost::imap {
namespace {

using namespace std::string_view_literals;
using protocols::BackendFailure;
using protocols::BackendTls;
using protocols::Buffer;
using protocols::Capabilities;
using protocols::ClientAction;
using protocols::Failed;
using protocols::LoggedIn;
using protocols::LoginFailure;
using protocols::NeedInput;
using protocols::Refused;
using protocols::StartTls;

constexpr std::string_view kPlainGreeting =
    "* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\r\n";
constexpr std::string_view kLoginGreeting = "* OK [CAPABILITY IMAP4rev1] ready\r\n";
constexpr std::string_view kBobPlain = "AGJvYgBzZWNyZXQ=";  // NUL bob NUL secret

sasl::Credentials Bob(std::string_view password = "secret") {
  return {sasl::Mechanism::kProtocol, "", "bob", sasl::Secret(password)};
}

// Backend drives an engine and keeps what it sent since the last call.
class Backend {
 public:
  explicit Backend(const sasl::Credentials* credentials, BackendTls tls = BackendTls::kNone)
      : engine(Facts(credentials, tls)) {}

  ClientAction Says(std::string_view bytes) {
    input << bytes;
    Buffer output;
    ClientAction action = engine.Next(input, output);
    sent = output.view();
    return action;
  }

  static protocols::ClientFacts Facts(const sasl::Credentials* credentials, BackendTls tls) {
    protocols::ClientFacts facts;
    facts.tls = tls;
    facts.credentials = credentials;
    return facts;
  }

  ClientEngine engine;
  Buffer input;
  std::string sent;
};

bool Waits(const ClientAction& action) {
  return std::holds_alternative<NeedInput>(action);
}
std::optional<BackendFailure> FailureOf(const ClientAction& action) {
  const auto* failed = std::get_if<Failed>(&action);
  return failed ? std::optional(failed->reason) : std::nullopt;
}
std::optional<LoginFailure> RefusalOf(const ClientAction& action) {
  const auto* refused = std::get_if<Refused>(&action);
  return refused ? std::optional(refused->reason) : std::nullopt;
}

TEST(ImapClientEngine, LogsInWithPlainAndInitialResponse) {
  const auto bob = Bob();
  Backend backend(&bob);
  EXPECT_TRUE(Waits(backend.Says("")));
  EXPECT_EQ(backend.sent, "");
  EXPECT_TRUE(Waits(backend.Says(kPlainGreeting)));
  EXPECT_EQ(backend.sent, "G1 AUTHENTICATE PLAIN " + std::string(kBobPlain) + "\r\n");
  const auto action = backend.Says("G1 OK [CAPABILITY IMAP4rev1 IDLE] in\r\n* 3 EXISTS\r\n");
  ASSERT_TRUE(std::holds_alternative<LoggedIn>(action));
  EXPECT_EQ(std::get<LoggedIn>(action).reply.status, "OK [CAPABILITY IMAP4rev1 IDLE] in\r\n");
  EXPECT_EQ(std::get<LoggedIn>(action).reply.untagged, "");
  // What the backend says behind it belongs to the client.
  EXPECT_EQ(backend.input.view(), "* 3 EXISTS\r\n");
  EXPECT_EQ(backend.engine.capabilities(), (Capabilities{"IMAP4rev1", "SASL-IR", "AUTH=PLAIN"}));
}

TEST(ImapClientEngine, WaitsForTheChallengeWithoutSaslIr) {
  auto bob = Bob();
  bob.authorization_identity = "alice";
  Backend backend(&bob);
  EXPECT_TRUE(Waits(backend.Says("* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] ready\r\n")));
  EXPECT_EQ(backend.sent, "G1 AUTHENTICATE PLAIN\r\n");
  EXPECT_TRUE(Waits(backend.Says("+\r\n")));
  EXPECT_EQ(backend.sent, "YWxpY2UAYm9iAHNlY3JldA==\r\n");
  EXPECT_TRUE(std::holds_alternative<LoggedIn>(backend.Says("G1 OK\r\n")));
}

TEST(ImapClientEngine, AsksForCapabilitiesThatTheGreetingLacks) {
  const auto bob = Bob();
  Backend backend(&bob);
  EXPECT_TRUE(Waits(backend.Says("* OK Exchange ready\r\n")));
  EXPECT_EQ(backend.sent, "G1 CAPABILITY\r\n");
  EXPECT_TRUE(Waits(backend.Says("* CAPABILITY IMAP4rev1 IDLE\r\n")));
  EXPECT_EQ(backend.sent, "");
  EXPECT_TRUE(Waits(backend.Says("G1 OK done\r\n")));
  EXPECT_EQ(backend.sent, "G2 LOGIN \"bob\" \"secret\"\r\n");
  EXPECT_TRUE(std::holds_alternative<LoggedIn>(backend.Says("G2 OK\r\n")));
}

TEST(ImapClientEngine, KeepsUntaggedResponsesThatComeWithTheLogin) {
  const auto bob = Bob();
  Backend backend(&bob);
  EXPECT_TRUE(Waits(backend.Says("* OK hello\r\n")));
  EXPECT_TRUE(Waits(backend.Says("* OK [ALERT] before\r\n* CAPABILITY IMAP4rev1\r\nG1 OK\r\n")));
  EXPECT_TRUE(Waits(backend.Says("* CAPABILITY IMAP4rev1 IDLE\r\n* ID (\"name\" {2}\r\n")));
  EXPECT_TRUE(Waits(backend.Says("\r\n)\r\n* NO [ALERT] full\n")));
  const auto action = backend.Says("G2 OK in\r\n");
  ASSERT_TRUE(std::holds_alternative<LoggedIn>(action));
  EXPECT_EQ(std::get<LoggedIn>(action).reply.untagged,
            "* CAPABILITY IMAP4rev1 IDLE\r\n* ID (\"name\" {2}\r\n\r\n)\r\n* NO [ALERT] full\r\n");
}

TEST(ImapClientEngine, QuotesWhatItCanAndSendsTheRestAsLiterals) {
  const auto quoted = Bob("a\"b\\c");
  Backend first(&quoted);
  first.Says(kLoginGreeting);
  EXPECT_EQ(first.sent, "G1 LOGIN \"bob\" \"a\\\"b\\\\c\"\r\n");

  const auto eight_bit = Bob("\xC3\xA9");
  Backend plus(&eight_bit);
  plus.Says("* OK [CAPABILITY IMAP4rev1 LITERAL+] ready\r\n");
  EXPECT_EQ(plus.sent, "G1 LOGIN \"bob\" {2+}\r\n\xC3\xA9\r\n");

  Backend waiting(&eight_bit);
  waiting.Says(kLoginGreeting);
  EXPECT_EQ(waiting.sent, "G1 LOGIN \"bob\" {2}\r\n");
  EXPECT_TRUE(Waits(waiting.Says("* OK patience\r\n+ go\r\n")));
  EXPECT_EQ(waiting.sent, "\xC3\xA9\r\n");
  EXPECT_TRUE(std::holds_alternative<LoggedIn>(waiting.Says("G1 OK in\r\n")));

  const auto large = Bob("\xC3" + std::string(4096, 'x'));  // RFC 7888 §5
  Backend minus(&large);
  minus.Says("* OK [CAPABILITY IMAP4rev1 LITERAL-] ready\r\n");
  EXPECT_EQ(minus.sent, "G1 LOGIN \"bob\" {4097}\r\n");
}

TEST(ImapClientEngine, WritesNoControlCharacterIntoALine) {
  for (const std::string_view bad : {"a\rb"sv, "a\nb"sv, "a\0b"sv}) {
    for (const std::string_view greeting : {kPlainGreeting, kLoginGreeting}) {
      const auto password = Bob(bad);
      Backend first(&password);
      EXPECT_EQ(FailureOf(first.Says(greeting)), BackendFailure::kUnencodable);
      EXPECT_EQ(first.sent, "");
      auto user = Bob();
      user.authentication_identity = bad;
      Backend second(&user);
      EXPECT_EQ(FailureOf(second.Says(greeting)), BackendFailure::kUnencodable);
      auto other = Bob();
      other.authorization_identity = bad;
      Backend third(&other);
      EXPECT_EQ(FailureOf(third.Says(greeting)), BackendFailure::kUnencodable);
    }
  }
}

TEST(ImapClientEngine, NeverDropsAnAuthorizationIdentity) {
  auto bob = Bob();
  bob.authorization_identity = "alice";
  Backend backend(&bob);
  EXPECT_EQ(FailureOf(backend.Says(kLoginGreeting)), BackendFailure::kNoAuthorization);
  EXPECT_EQ(backend.sent, "");
}

TEST(ImapClientEngine, SendsNoLoginWhereItIsDisabled) {
  const auto bob = Bob();
  Backend backend(&bob);
  EXPECT_EQ(FailureOf(backend.Says("* OK [CAPABILITY IMAP4rev1 LOGINDISABLED] ready\r\n")),
            BackendFailure::kNoMechanism);
  EXPECT_EQ(backend.sent, "");
}

TEST(ImapClientEngine, TellsRefusalsApart) {
  const auto answer = [](std::string_view response) {
    const auto bob = Bob();
    Backend backend(&bob);
    backend.Says(kPlainGreeting);
    return backend.Says(response);
  };
  EXPECT_EQ(RefusalOf(answer("G1 NO bad\r\n")), LoginFailure::kBadCredentials);
  EXPECT_EQ(RefusalOf(answer("G1 NO [AUTHENTICATIONFAILED] x\r\n")), LoginFailure::kBadCredentials);
  EXPECT_EQ(RefusalOf(answer("G1 NO [AUTHORIZATIONFAILED] x\r\n")),
            LoginFailure::kAuthorizationDenied);
  EXPECT_EQ(RefusalOf(answer("G1 NO [EXPIRED] x\r\n")), LoginFailure::kPasswordExpired);
  EXPECT_EQ(RefusalOf(answer("G1 NO [ContactAdmin] x\r\n")), LoginFailure::kAccountDisabled);
  EXPECT_EQ(RefusalOf(answer("G1 NO [LIMIT] x\r\n")), LoginFailure::kTooManyConnections);
  EXPECT_EQ(FailureOf(answer("G1 NO [UNAVAILABLE] x\r\n")), BackendFailure::kUnavailable);
  EXPECT_EQ(RefusalOf(answer("G1 NO [INUSE] x\r\n")), LoginFailure::kTooManyConnections);
  EXPECT_EQ(RefusalOf(answer("G1 NO [CORRUPTION] x\r\n")), LoginFailure::kUnavailable);
  EXPECT_EQ(RefusalOf(answer("G1 NO [NOPERM] x\r\n")), LoginFailure::kAuthorizationDenied);
  EXPECT_EQ(FailureOf(answer("G1 NO [PRIVACYREQUIRED] x\r\n")), BackendFailure::kNoMechanism);
  EXPECT_EQ(FailureOf(answer("G1 BAD x\r\n")), BackendFailure::kProtocolError);
  EXPECT_EQ(FailureOf(answer("* BYE x\r\n")), BackendFailure::kRefusedService);
  EXPECT_EQ(FailureOf(answer("* BAD internal server error\r\n")), BackendFailure::kProtocolError);
  EXPECT_EQ(std::get<Refused>(answer("G1 NO [LIMIT] too many\r\n")).text, "too many");
}

TEST(ImapClientEngine, TakesOnlyAGreetingForAGreeting) {
  const auto bob = Bob();
  const auto answer = [&](std::string_view greeting) {
    Backend backend(&bob);
    const auto action = backend.Says(greeting);
    EXPECT_EQ(backend.sent, "");
    return FailureOf(action);
  };
  EXPECT_EQ(answer("* PREAUTH welcome\r\n"), BackendFailure::kProtocolError);
  EXPECT_EQ(answer("* BYE full\r\n"), BackendFailure::kRefusedService);
  EXPECT_EQ(answer("* BYE [UNAVAILABLE] down\r\n"), BackendFailure::kShuttingDown);
  EXPECT_EQ(answer("+OK pop3\r\n"), BackendFailure::kProtocolError);
  EXPECT_EQ(answer("220 smtp\r\n"), BackendFailure::kProtocolError);
  EXPECT_EQ(answer("G1 OK\r\n"), BackendFailure::kProtocolError);
  EXPECT_EQ(answer("* OK " + std::string(8200, 'x')), BackendFailure::kProtocolError);
}

TEST(ImapClientEngine, BelievesNoAnswerBeforeItsQuestion) {
  const auto bob = Bob();
  Backend login(&bob);
  EXPECT_EQ(FailureOf(login.Says(std::string(kPlainGreeting) + "G1 OK in\r\n")),
            BackendFailure::kProtocolError);
  EXPECT_EQ(login.sent, "");
  Backend hidden(&bob);
  EXPECT_EQ(FailureOf(hidden.Says(std::string(kPlainGreeting) + "* OK x\r\nG1 OK in\r\n")),
            BackendFailure::kProtocolError);
  Backend partial(&bob);
  EXPECT_EQ(FailureOf(partial.Says(std::string(kPlainGreeting) + "G")),
            BackendFailure::kProtocolError);
  Backend tag(&bob);
  tag.Says(kPlainGreeting);
  EXPECT_EQ(FailureOf(tag.Says("G2 OK in\r\n")), BackendFailure::kProtocolError);
  Backend continuation(&bob);
  continuation.Says(kPlainGreeting);
  EXPECT_EQ(FailureOf(continuation.Says("+ more\r\n")), BackendFailure::kProtocolError);
  // A login is not over before the password was sent.
  Backend early(&bob);
  early.Says("* OK [CAPABILITY AUTH=PLAIN] ready\r\n");
  EXPECT_EQ(FailureOf(early.Says("G1 OK in\r\n")), BackendFailure::kProtocolError);
}

TEST(ImapClientEngine, StartsTlsAndForgetsWhatItLearntBefore) {
  const auto bob = Bob();
  Backend backend(&bob, BackendTls::kStartTls);
  EXPECT_TRUE(Waits(backend.Says("* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] hi\r\n")));
  EXPECT_EQ(backend.sent, "G1 STARTTLS\r\n");
  EXPECT_TRUE(std::holds_alternative<StartTls>(backend.Says("* OK x\r\nG1 OK begin\r\n")));
  backend.engine.TlsStarted();
  EXPECT_TRUE(backend.engine.capabilities().empty());
  EXPECT_TRUE(Waits(backend.Says("")));
  EXPECT_EQ(backend.sent, "G2 CAPABILITY\r\n");
  EXPECT_TRUE(Waits(backend.Says("* CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN\r\nG2 OK\r\n")));
  EXPECT_EQ(backend.sent, "G3 AUTHENTICATE PLAIN " + std::string(kBobPlain) + "\r\n");
}

TEST(ImapClientEngine, RefusesResponsesBehindStartTls) {
  const auto bob = Bob();
  for (const std::string_view injected : {"G1 OK begin\r\n* CAPABILITY AUTH=PLAIN\r\nG2 OK\r\n",
                                          "G1 OK begin\r\n*", "G1 OK begin\r\n\r\n"}) {
    Backend backend(&bob, BackendTls::kStartTls);
    backend.Says("* OK hi\r\n");
    EXPECT_EQ(backend.sent, "G1 STARTTLS\r\n");
    EXPECT_EQ(FailureOf(backend.Says(injected)), BackendFailure::kInjection);
  }
}

TEST(ImapClientEngine, DoesNotGoOnWithoutStartTls) {
  const auto bob = Bob();
  Backend absent(&bob, BackendTls::kStartTls);
  EXPECT_EQ(FailureOf(absent.Says(kPlainGreeting)), BackendFailure::kNoStartTls);
  EXPECT_EQ(absent.sent, "");
  for (const std::string_view refusal : {"G1 BAD what\r\n", "G1 NO not now\r\n"}) {
    Backend refused(&bob, BackendTls::kStartTls);
    refused.Says("* OK hi\r\n");
    EXPECT_EQ(FailureOf(refused.Says(refusal)), BackendFailure::kNoStartTls);
  }
}

TEST(ImapClientEngine, StopsBeforeTheLoginWithoutCredentials) {
  Backend backend(nullptr);
  EXPECT_TRUE(Waits(backend.Says("* OK hi\r\n")));
  const auto action = backend.Says("* CAPABILITY IMAP4rev1 IDLE\r\nG1 OK\r\n");
  ASSERT_TRUE(std::holds_alternative<protocols::Ready>(action));
  EXPECT_EQ(backend.sent, "");
  EXPECT_EQ(backend.engine.capabilities(), (Capabilities{"IMAP4rev1", "IDLE"}));
  Buffer farewell;
  backend.engine.LogOut(farewell);
  EXPECT_EQ(farewell.view(), "G2 LOGOUT\r\n");
}

TEST(ImapClientEngine, LogsInOnAConnectionThatWasReady) {
  const auto bob = Bob();
  Backend backend(nullptr);
  EXPECT_TRUE(std::holds_alternative<protocols::Ready>(backend.Says(kPlainGreeting)));
  EXPECT_TRUE(std::holds_alternative<protocols::Ready>(backend.Says("* OK still here\r\n")));
  backend.engine.LogIn(bob);
  EXPECT_TRUE(Waits(backend.Says("")));
  EXPECT_EQ(backend.sent, "G1 AUTHENTICATE PLAIN " + std::string(kBobPlain) + "\r\n");
  EXPECT_TRUE(std::holds_alternative<LoggedIn>(backend.Says("G1 OK done\r\n")));
}

TEST(ImapClientEngine, AReadyConnectionMayBeGivenUpByTheBackend) {
  Backend backend(nullptr);
  backend.Says(kPlainGreeting);
  EXPECT_EQ(FailureOf(backend.Says("* BYE idle for too long\r\n")),
            BackendFailure::kRefusedService);
}

TEST(ImapClientEngine, DoesNotAskForWhatIsKnown) {
  const auto bob = Bob();
  protocols::ClientFacts facts = Backend::Facts(&bob, BackendTls::kNone);
  facts.known_capabilities =
      std::make_shared<const Capabilities>(Capabilities{"IMAP4rev1", "AUTH=PLAIN", "SASL-IR"});
  ClientEngine engine(std::move(facts));
  Buffer input;
  Buffer output;
  input << "* OK hi\r\n";
  EXPECT_TRUE(Waits(engine.Next(input, output)));
  EXPECT_EQ(output.view(), "G1 AUTHENTICATE PLAIN " + std::string(kBobPlain) + "\r\n");
}

TEST(ImapClientEngine, BoundsWhatComesBeforeTheAnswer) {
  const auto bob = Bob();
  Backend backend(&bob);
  backend.Says(kPlainGreeting);
  const std::string line = "* OK " + std::string(1000, 'x') + "\r\n";
  size_t sent = 0;
  std::optional<BackendFailure> failure;
  while (!failure && sent < 100'000) {
    failure = FailureOf(backend.Says(line));
    sent += line.size();
  }
  EXPECT_EQ(failure, BackendFailure::kProtocolError);
  EXPECT_GT(sent, 60'000U);
}

std::shared_ptr<const protocols::Introduction> Client() {
  protocols::Introduction client;
  client.client_host = "192.0.2.7";
  client.client_port = 49152;
  client.ttl = 6;
  client.id = {{"name", "a \"b\\"}};
  return std::make_shared<const protocols::Introduction>(std::move(client));
}

constexpr std::string_view kIdGreeting =
    "* OK [CAPABILITY IMAP4rev1 ID SASL-IR AUTH=PLAIN] ready\r\n";

// The ID goes in the login's flight: it costs no round trip.
TEST(ImapClientEngine, IntroducesTheClientBeforeItLogsIn) {
  const sasl::Credentials bob = Bob();
  Backend backend(&bob);
  backend.engine.Introduce(Client());
  EXPECT_TRUE(std::holds_alternative<NeedInput>(backend.Says(kIdGreeting)));
  EXPECT_EQ(backend.sent,
            "G1 ID (\"x-originating-ip\" \"192.0.2.7\" \"x-originating-port\" \"49152\" "
            "\"x-proxy-ttl\" \"6\" \"name\" \"a \\\"b\\\\\")\r\n"
            "G2 AUTHENTICATE PLAIN " +
                std::string(kBobPlain) + "\r\n");
  EXPECT_TRUE(std::holds_alternative<NeedInput>(
      backend.Says("* ID (\"name\" \"Dovecot\")\r\nG1 OK Trusted ID completed.\r\n")));
  EXPECT_EQ(backend.engine.trust(), protocols::Trust::kGiven);
  const ClientAction action = backend.Says("* X\r\nG2 OK in\r\n");
  const auto* in = std::get_if<LoggedIn>(&action);
  ASSERT_NE(in, nullptr);
  EXPECT_EQ(in->reply.untagged, "* X\r\n");  // the backend's ID is not the client's to see
}

TEST(ImapClientEngine, NoticesThatItIsNotBelieved) {
  for (const auto& [answer, trust] :
       {std::pair{"G1 OK ID completed.\r\n"sv,
                  protocols::Trust::kUnknown},  // Dovecot 2.3, to anybody
        std::pair{"G1 NO Invalid\r\n"sv, protocols::Trust::kRefused},
        std::pair{"G1 BAD Trusted what?\r\n"sv, protocols::Trust::kRefused}}) {
    const sasl::Credentials bob = Bob();
    Backend backend(&bob);
    backend.engine.Introduce(Client());
    (void)backend.Says(kIdGreeting);
    EXPECT_EQ(backend.engine.trust(), protocols::Trust::kUnknown);
    (void)backend.Says(answer);
    EXPECT_EQ(backend.engine.trust(), trust) << answer;
    EXPECT_TRUE(std::holds_alternative<LoggedIn>(backend.Says("G2 OK in\r\n")));
  }
  const sasl::Credentials bob = Bob();
  Backend backend(&bob);
  backend.engine.Introduce(Client());
  (void)backend.Says(kPlainGreeting);
  EXPECT_EQ(backend.sent.substr(0, 15), "G1 AUTHENTICATE");
  EXPECT_EQ(backend.engine.trust(), protocols::Trust::kRefused);
}

TEST(ImapClientEngine, AnswersInTheWrongOrderAreNone) {
  const sasl::Credentials bob = Bob();
  Backend backend(&bob);
  backend.engine.Introduce(Client());
  (void)backend.Says(kIdGreeting);
  EXPECT_TRUE(std::holds_alternative<Failed>(backend.Says("G2 OK in\r\nG1 OK ID\r\n")));
}

}  // namespace
}  // namespace gatepost::imap
