// When a login may be tried at another member, case by case: what the backend says, and whether
// that is an answer to the credentials.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "gateway/backends/opening.h"
#include "protocols/engines.h"

namespace gatepost::backends {
namespace {

using protocols::Protocol;

enum class Then : uint8_t { kAnother, kEnd };

struct Case {
  Protocol protocol;
  std::vector<std::string_view> says;  // in its order, one each time that it is asked
  Then then;
};

constexpr Protocol kImap = Protocol::kImap;
constexpr Protocol kPop3 = Protocol::kPop3;
constexpr Protocol kSmtp = Protocol::kSmtp;
constexpr std::string_view kImapHello = "* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hello\r\n";
constexpr std::string_view kEhlo = "250-backend\r\n250 AUTH PLAIN\r\n";

// interfaces: RFC 5530 §3, RFC 3206 §4, RFC 2449 §8, RFC 4954 §6.
const std::vector<Case>& Cases() {
  static const std::vector<Case> kCases = {
      // before the login
      {kImap, {"* BYE full\r\n"}, Then::kAnother},
      {kImap, {"* BYE [UNAVAILABLE] shutting down\r\n"}, Then::kAnother},
      {kImap, {"* PREAUTH root\r\n"}, Then::kAnother},
      {kImap, {"HTTP/1.1 400 Bad Request\r\n"}, Then::kAnother},
      {kPop3, {"-ERR full\r\n"}, Then::kAnother},
      {kPop3, {"-ERR [SYS/TEMP] shutting down\r\n"}, Then::kAnother},
      {kPop3, {"hello\r\n"}, Then::kAnother},
      {kSmtp, {"421 4.3.2 shutting down\r\n"}, Then::kAnother},
      {kSmtp, {"554 5.3.2 no service here\r\n"}, Then::kAnother},
      {kSmtp, {"220 hello\r\n", "421 4.7.0 too many\r\n"}, Then::kAnother},
      {kSmtp, {"220 hello\r\n", "451 4.3.0 later\r\n"}, Then::kAnother},
      // no answer to the login
      {kImap, {kImapHello, "* BYE [UNAVAILABLE] shutting down\r\n"}, Then::kAnother},
      {kImap, {kImapHello, "G1 NO [UNAVAILABLE] database is away\r\n"}, Then::kAnother},
      {kImap, {kImapHello, "G1 BAD what\r\n"}, Then::kAnother},
      {kImap, {kImapHello, "G9 OK logged in\r\n"}, Then::kAnother},
      {kPop3,
       {"+OK hello\r\n", "-ERR\r\n", "-ERR [SYS/TEMP] database is away\r\n"},
       Then::kAnother},
      {kPop3, {"+OK\r\n", "-ERR\r\n", "+OK\r\n", "-ERR [SYS/TEMP] x\r\n"}, Then::kAnother},
      {kSmtp, {"220 hello\r\n", kEhlo, "454 4.7.0 database is away\r\n"}, Then::kAnother},
      {kSmtp, {"220 hello\r\n", kEhlo, "421 4.3.2 shutting down\r\n"}, Then::kAnother},
      {kSmtp, {"220 hello\r\n", kEhlo, "503 5.5.1 what\r\n"}, Then::kAnother},
      // answers
      {kImap, {kImapHello, "G1 NO wrong\r\n"}, Then::kEnd},
      {kImap, {kImapHello, "G1 NO [AUTHENTICATIONFAILED] wrong\r\n"}, Then::kEnd},
      {kImap, {kImapHello, "G1 NO [AUTHORIZATIONFAILED] no\r\n"}, Then::kEnd},
      {kImap, {kImapHello, "G1 NO [EXPIRED] old\r\n"}, Then::kEnd},
      {kImap, {kImapHello, "G1 NO [CONTACTADMIN] closed\r\n"}, Then::kEnd},
      {kImap, {kImapHello, "G1 NO [LIMIT] too many sessions\r\n"}, Then::kEnd},
      {kImap, {kImapHello, "G1 NO [INUSE] locked\r\n"}, Then::kEnd},
      {kImap, {kImapHello, "G1 NO [SERVERBUG] oops\r\n"}, Then::kEnd},
      {kImap, {kImapHello, "G1 NO [REFERRAL imap://other/] there\r\n"}, Then::kEnd},
      {kImap, {kImapHello, "G1 NO [PRIVACYREQUIRED] TLS\r\n"}, Then::kEnd},
      {kPop3, {"+OK\r\n", "-ERR\r\n", "-ERR no such user\r\n"}, Then::kEnd},
      {kPop3, {"+OK\r\n", "-ERR\r\n", "+OK\r\n", "-ERR [AUTH] wrong\r\n"}, Then::kEnd},
      {kPop3, {"+OK\r\n", "-ERR\r\n", "+OK\r\n", "-ERR [IN-USE] locked\r\n"}, Then::kEnd},
      {kPop3, {"+OK\r\n", "-ERR\r\n", "+OK\r\n", "-ERR [LOGIN-DELAY] wait\r\n"}, Then::kEnd},
      {kPop3, {"+OK\r\n", "-ERR\r\n", "+OK\r\n", "-ERR [SYS/PERM] broken\r\n"}, Then::kEnd},
      {kSmtp, {"220 hello\r\n", kEhlo, "535 5.7.8 wrong\r\n"}, Then::kEnd},
      {kSmtp, {"220 hello\r\n", kEhlo, "550 5.7.1 no\r\n"}, Then::kEnd},
      {kSmtp, {"220 hello\r\n", kEhlo, "525 5.7.13 closed\r\n"}, Then::kEnd},
      {kSmtp, {"220 hello\r\n", kEhlo, "432 4.7.12 transition\r\n"}, Then::kEnd},
      {kSmtp, {"220 hello\r\n", kEhlo, "534 5.7.9 weak\r\n"}, Then::kEnd},
      // another of the same pool is set up alike
      {kSmtp, {"220 hello\r\n", "250 backend\r\n"}, Then::kEnd},
      {kImap, {"* OK [CAPABILITY IMAP4rev1 LOGINDISABLED] hello\r\n"}, Then::kEnd},
  };
  return kCases;
}

TEST(Retry, AnotherMemberIsAskedOnlyWhereTheFirstGaveNoAnswer) {
  for (const Case& c : Cases()) {
    sasl::Credentials credentials;
    credentials.authentication_identity = "alice";
    credentials.password = sasl::Secret("secret");
    protocols::ClientFacts facts;
    facts.hostname = "gate.example.test";
    facts.credentials = &credentials;
    const auto engine = protocols::MakeClientEngine(c.protocol, std::move(facts));
    protocols::Buffer input;
    protocols::Buffer output;
    protocols::ClientAction action = engine->Next(input, output);
    for (const std::string_view text : c.says) {
      ASSERT_TRUE(std::holds_alternative<protocols::NeedInput>(action)) << c.says.back();
      input.Append(text);
      action = engine->Next(input, output);
    }
    const auto* failed = std::get_if<protocols::Failed>(&action);
    ASSERT_TRUE(failed != nullptr || std::holds_alternative<protocols::Refused>(action))
        << c.says.back();
    const bool another = failed != nullptr && MayRetry(failed->reason);
    EXPECT_EQ(another ? Then::kAnother : Then::kEnd, c.then) << c.says.back();
  }
}

}  // namespace
}  // namespace gatepost::backends
