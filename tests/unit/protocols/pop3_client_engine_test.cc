// The backend's part is played line by line; each test is one thing a backend may do.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "protocols/pop3/client_engine.h"

namespace gatepost::pop3 {
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

constexpr std::string_view kUserCapa = "+OK list\r\nTOP\r\nUSER\r\n.\r\n";
constexpr std::string_view kPlainCapa = "+OK list\r\nSASL LOGIN PLAIN\r\n.\r\n";
constexpr std::string_view kBothCapa = "+OK list\r\nUSER\r\nSASL LOGIN PLAIN\r\n.\r\n";

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

// What the engine sends first after greeting and CAPA.
std::string FirstCommand(const sasl::Credentials& credentials, std::string_view capa) {
  Backend backend(&credentials);
  backend.Says("+OK hi\r\n");
  const auto action = backend.Says(capa);
  if (FailureOf(action) == BackendFailure::kUnencodable) return "unencodable" + backend.sent;
  if (FailureOf(action) == BackendFailure::kNoMechanism) return "no mechanism" + backend.sent;
  if (FailureOf(action) == BackendFailure::kNoAuthorization) return "not for her" + backend.sent;
  return backend.sent;
}

TEST(Pop3ClientEngine, LogsInWithUserAndPass) {
  const auto bob = Bob("two words");
  Backend backend(&bob);
  EXPECT_TRUE(Waits(backend.Says("")));
  EXPECT_TRUE(Waits(backend.Says("+OK hi <1.2@x>\r\n")));
  EXPECT_EQ(backend.sent, "CAPA\r\n");
  EXPECT_TRUE(Waits(backend.Says(kUserCapa)));
  EXPECT_EQ(backend.sent, "USER bob\r\n");
  EXPECT_TRUE(Waits(backend.Says("+OK\r\n")));
  EXPECT_EQ(backend.sent, "PASS two words\r\n");
  const auto action = backend.Says("+OK 3 messages\r\n+more");
  ASSERT_TRUE(std::holds_alternative<LoggedIn>(action));
  EXPECT_EQ(std::get<LoggedIn>(action).reply.status, "+OK 3 messages\r\n");
  EXPECT_EQ(backend.input.view(), "+more");  // the client's
  EXPECT_EQ(backend.engine.capabilities(), (Capabilities{"TOP", "USER"}));
}

TEST(Pop3ClientEngine, LogsInWithPlainOnBehalfOfAnother) {
  auto bob = Bob();
  bob.authorization_identity = "alice";
  Backend backend(&bob);
  backend.Says("+OK hi\r\n");
  EXPECT_TRUE(Waits(backend.Says(kBothCapa)));
  EXPECT_EQ(backend.sent, "AUTH PLAIN\r\n");
  EXPECT_TRUE(Waits(backend.Says("+ \r\n")));
  EXPECT_EQ(backend.sent, "YWxpY2UAYm9iAHNlY3JldA==\r\n");
  const auto action = backend.Says("+OK in\r\n");
  ASSERT_TRUE(std::holds_alternative<LoggedIn>(action));
  EXPECT_EQ(std::get<LoggedIn>(action).reply.status, "+OK in\r\n");
}

TEST(Pop3ClientEngine, ChoosesHowToLogIn) {
  auto alice = Bob();
  alice.authorization_identity = "alice";
  EXPECT_EQ(FirstCommand(Bob(), kBothCapa), "USER bob\r\n");
  EXPECT_EQ(FirstCommand(Bob(), kPlainCapa), "AUTH PLAIN\r\n");
  EXPECT_EQ(FirstCommand(Bob(), "-ERR what\r\n"), "USER bob\r\n");
  EXPECT_EQ(FirstCommand(Bob(), "+OK\r\nTOP\r\n.\r\n"), "no mechanism");
  EXPECT_EQ(FirstCommand(Bob(), "+OK\r\nSASL PLAINER\r\n.\r\n"), "no mechanism");
  EXPECT_EQ(FirstCommand(alice, kUserCapa), "not for her");
  EXPECT_EQ(FirstCommand(Bob(" spaces "), kBothCapa), "AUTH PLAIN\r\n");
  EXPECT_EQ(FirstCommand(Bob(" spaces "), kUserCapa), "USER bob\r\n");
  EXPECT_EQ(FirstCommand(Bob("a\tb"), kBothCapa), "AUTH PLAIN\r\n");
  EXPECT_EQ(FirstCommand(Bob("a\tb"), kUserCapa), "unencodable");
}

TEST(Pop3ClientEngine, WritesNoControlCharacterIntoALine) {
  for (const std::string_view bad : {"a\rb"sv, "a\nb"sv, "a\0b"sv}) {
    for (const std::string_view capa : {kUserCapa, kPlainCapa}) {
      EXPECT_EQ(FirstCommand(Bob(bad), capa), "unencodable");
      auto user = Bob();
      user.authentication_identity = bad;
      EXPECT_EQ(FirstCommand(user, capa), "unencodable");
      auto other = Bob();
      other.authorization_identity = bad;
      EXPECT_EQ(FirstCommand(other, capa), "unencodable");
    }
  }
}

// What a response to PASS leads to.
ClientAction Answer(std::string_view response) {
  const auto bob = Bob();
  Backend backend(&bob);
  backend.Says("+OK hi\r\n");
  backend.Says(kUserCapa);
  backend.Says("+OK\r\n");
  return backend.Says(response);
}

TEST(Pop3ClientEngine, TellsRefusalsApart) {
  EXPECT_EQ(RefusalOf(Answer("-ERR no\r\n")), LoginFailure::kBadCredentials);
  EXPECT_EQ(RefusalOf(Answer("-ERR\r\n")), LoginFailure::kBadCredentials);
  EXPECT_EQ(RefusalOf(Answer("-ERR [AUTH] no\r\n")), LoginFailure::kBadCredentials);
  EXPECT_EQ(RefusalOf(Answer("-ERR [IN-USE] no\r\n")), LoginFailure::kTooManyConnections);
  EXPECT_EQ(RefusalOf(Answer("-ERR [login-delay] no\r\n")), LoginFailure::kRateLimited);
  EXPECT_EQ(FailureOf(Answer("-ERR [SYS/TEMP] no\r\n")), BackendFailure::kUnavailable);
  EXPECT_EQ(FailureOf(Answer("-ERR [sys/temp/disk] no\r\n")), BackendFailure::kUnavailable);
  EXPECT_EQ(RefusalOf(Answer("-ERR [SYS/TEMPORARY] no\r\n")), LoginFailure::kBadCredentials);
  EXPECT_EQ(FailureOf(Answer("-ERR [SYS/PERM] no\r\n")), BackendFailure::kNoMechanism);
  EXPECT_EQ(FailureOf(Answer("+OKAY\r\n")), BackendFailure::kProtocolError);
  EXPECT_EQ(FailureOf(Answer("+ \r\n")), BackendFailure::kProtocolError);
  EXPECT_EQ(std::get<Refused>(Answer("-ERR [AUTH] go away\r\n")).text, "go away");
}

// Servers from before RFC 2449, and those that never learnt its codes.
TEST(Pop3ClientEngine, ReadsTheWordsOfARefusalWithoutACode) {
  const auto answer = [](std::string_view words) {
    return RefusalOf(Answer("-ERR " + std::string(words) + "\r\n"));
  };
  for (const std::string_view words :
       {"unable to lock maildrop", "maildrop already locked", "Your mailbox is locked",
        "Unable to LOCK mailbox", "Mailbox in use", "maildrop is In Use by another session",
        ".bob.pop lock busy! Is another session active?"}) {
    EXPECT_EQ(answer(words), LoginFailure::kTooManyConnections) << words;
  }
  EXPECT_EQ(answer("Logins must be at least 15 minutes apart"), LoginFailure::kRateLimited);
  for (const std::string_view words :
       {"invalid password", "Account is locked", "your account was locked", "you are locked out",
        "user blocked", "clock skew", "unlock first", "[AUTH] maildrop locked", "[X] in use",
        "Password supplied for \"lock\" is incorrect", "no such mailbox in user database",
        "mailbox j.locke has another password", "lock is in use"}) {
    EXPECT_EQ(answer(words), LoginFailure::kBadCredentials) << words;
  }
}

TEST(Pop3ClientEngine, TakesOnlyAGreetingForAGreeting) {
  const auto bob = Bob();
  const auto answer = [&](std::string_view greeting) {
    Backend backend(&bob);
    return FailureOf(backend.Says(greeting));
  };
  EXPECT_EQ(answer("-ERR full\r\n"), BackendFailure::kRefusedService);
  EXPECT_EQ(answer("-ERR [SYS/TEMP] full\r\n"), BackendFailure::kShuttingDown);
  EXPECT_EQ(answer("* OK imap\r\n"), BackendFailure::kProtocolError);
  EXPECT_EQ(answer("+" + std::string(8200, 'x')), BackendFailure::kProtocolError);
}

TEST(Pop3ClientEngine, BelievesNoAnswerBeforeItsQuestion) {
  const auto bob = Bob();
  Backend greeting(&bob);
  EXPECT_EQ(FailureOf(greeting.Says("+OK hi\r\n+OK\r\n")), BackendFailure::kProtocolError);
  Backend capa(&bob);
  capa.Says("+OK hi\r\n");
  EXPECT_EQ(FailureOf(capa.Says(std::string(kUserCapa) + "+OK\r\n+OK in\r\n")),
            BackendFailure::kProtocolError);
  Backend partial(&bob);
  partial.Says("+OK hi\r\n");
  EXPECT_EQ(FailureOf(partial.Says(std::string(kUserCapa) + "+")), BackendFailure::kProtocolError);
}

TEST(Pop3ClientEngine, StartsTlsBeforeAnythingElse) {
  const auto bob = Bob();
  Backend backend(&bob, BackendTls::kStartTls);
  EXPECT_TRUE(Waits(backend.Says("+OK hi\r\n")));
  EXPECT_EQ(backend.sent, "STLS\r\n");
  EXPECT_TRUE(std::holds_alternative<StartTls>(backend.Says("+OK begin\r\n")));
  backend.engine.TlsStarted();
  EXPECT_TRUE(Waits(backend.Says("")));
  EXPECT_EQ(backend.sent, "CAPA\r\n");
  EXPECT_TRUE(Waits(backend.Says(kUserCapa)));
  EXPECT_EQ(backend.sent, "USER bob\r\n");
}

TEST(Pop3ClientEngine, RefusesWhatIsWrongWithStls) {
  const auto bob = Bob();
  const auto answer = [&](std::string_view response) {
    Backend backend(&bob, BackendTls::kStartTls);
    backend.Says("+OK hi\r\n");
    return FailureOf(backend.Says(response));
  };
  EXPECT_EQ(answer("-ERR what\r\n"), BackendFailure::kNoStartTls);
  EXPECT_EQ(answer("+OK begin\r\n+"), BackendFailure::kInjection);
  EXPECT_EQ(answer("+OK begin\r\n+OK list\r\n.\r\n"), BackendFailure::kInjection);
}

TEST(Pop3ClientEngine, StopsBeforeTheLoginWithoutCredentials) {
  Backend backend(nullptr);
  backend.Says("+OK hi\r\n");
  const auto action = backend.Says("+OK list\r\nTOP\r\n..odd\r\n.\r\n");
  ASSERT_TRUE(std::holds_alternative<protocols::Ready>(action));
  EXPECT_EQ(backend.sent, "");
  EXPECT_EQ(backend.engine.capabilities(), (Capabilities{"TOP", ".odd"}));
  Buffer farewell;
  backend.engine.LogOut(farewell);
  EXPECT_EQ(farewell.view(), "QUIT\r\n");
}

TEST(Pop3ClientEngine, LogsInOnAConnectionThatWasReady) {
  const auto bob = Bob();
  Backend backend(nullptr);
  backend.Says("+OK hi\r\n");
  EXPECT_TRUE(std::holds_alternative<protocols::Ready>(backend.Says(kUserCapa)));
  backend.engine.LogIn(bob);
  backend.Says("");
  EXPECT_EQ(backend.sent, "USER bob\r\n");
}

TEST(Pop3ClientEngine, BelievesNothingThatAReadyConnectionSays) {
  Backend backend(nullptr);
  backend.Says("+OK hi\r\n");
  backend.Says(kUserCapa);
  EXPECT_EQ(FailureOf(backend.Says("+OK Logged in.\r\n")), BackendFailure::kProtocolError);
  Backend hasty(nullptr);
  hasty.Says("+OK hi\r\n");
  EXPECT_EQ(FailureOf(hasty.Says(std::string(kUserCapa) + "+OK Logged in.\r\n")),
            BackendFailure::kProtocolError);
}

TEST(Pop3ClientEngine, DoesNotAskForWhatIsKnownAndPipelines) {
  const auto bob = Bob();
  protocols::ClientFacts facts = Backend::Facts(&bob, BackendTls::kNone);
  facts.known_capabilities =
      std::make_shared<const Capabilities>(Capabilities{"USER", "PIPELINING"});
  ClientEngine engine(std::move(facts));
  Buffer input;
  Buffer output;
  input << "+OK hi\r\n";
  EXPECT_TRUE(std::holds_alternative<NeedInput>(engine.Next(input, output)));
  EXPECT_EQ(output.view(), "USER bob\r\nPASS secret\r\n");
  output.Clear();
  input << "+OK\r\n+OK Logged in.\r\n";
  const auto action = engine.Next(input, output);
  ASSERT_TRUE(std::holds_alternative<LoggedIn>(action));
  EXPECT_EQ(std::get<LoggedIn>(action).reply.status, "+OK Logged in.\r\n");
  EXPECT_EQ(output.view(), "");
}

TEST(Pop3ClientEngine, BoundsTheCapabilityList) {
  const auto bob = Bob();
  Backend backend(&bob);
  backend.Says("+OK hi\r\n");
  backend.Says("+OK list\r\n");
  const std::string line = std::string(1000, 'x') + "\r\n";
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
  client.client_host = "2001:db8::7";
  client.client_port = 49152;
  client.ttl = 6;
  client.server_name = "mail.example.org";
  return std::make_shared<const protocols::Introduction>(std::move(client));
}

// Dovecot's XCLIENT: offered in the greeting, sent before the login.
TEST(Pop3ClientEngine, IntroducesTheClientWhereTheGreetingOffersIt) {
  for (const auto& [answer, trust] :
       {std::pair{"+OK Updated\r\n"sv, protocols::Trust::kGiven},
        std::pair{"+OK You are not from trusted IP - ignoring\r\n"sv, protocols::Trust::kRefused},
        std::pair{"-ERR Invalid parameters\r\n"sv, protocols::Trust::kRefused}}) {
    const sasl::Credentials bob = Bob();
    Backend backend(&bob);
    backend.engine.Introduce(Client());
    (void)backend.Says("+OK [XCLIENT] ready\r\n");
    (void)backend.Says(kUserCapa);
    EXPECT_EQ(backend.sent,
              "XCLIENT TTL=6 DESTNAME=mail.example.org PORT=49152 ADDR=2001:db8::7\r\n");
    EXPECT_EQ(backend.engine.trust(), protocols::Trust::kUnknown);
    (void)backend.Says(answer);
    EXPECT_EQ(backend.engine.trust(), trust) << answer;
    EXPECT_EQ(backend.sent, "USER bob\r\n");
  }
}

TEST(Pop3ClientEngine, IntroducesNobodyWhereNobodyAsks) {
  const sasl::Credentials bob = Bob();
  Backend backend(&bob);
  backend.engine.Introduce(Client());
  (void)backend.Says("+OK ready\r\n");
  (void)backend.Says(kUserCapa);
  EXPECT_EQ(backend.sent, "USER bob\r\n");
  EXPECT_EQ(backend.engine.trust(), protocols::Trust::kRefused);
}

}  // namespace
}  // namespace gatepost::pop3
