// Mail from outside: what a recipient is, what MAIL may carry, what two backends have in common.
// The attempts to relay are dialogues: tests/dialogues/smtp/inbound_*.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "protocols/smtp/inbound.h"

namespace gatepost::smtp {
namespace {

const std::vector<std::string> kDomains = {"example.org", "b\u00fccher.example"};

TEST(SmtpRecipient, IsTakenApartAndWrittenAnew) {
  const Recipient recipient =
      ParseRecipient("to: <Alice@Example.ORG>  NOTIFY=SUCCESS ORCPT=rfc822;a@b", kDomains);
  EXPECT_EQ(recipient.kind, Recipient::Kind::kLocal);
  EXPECT_EQ(recipient.local_part, "Alice");
  EXPECT_EQ(recipient.domain, "Example.ORG");
  EXPECT_EQ(recipient.Command(), "RCPT TO:<Alice@Example.ORG> NOTIFY=SUCCESS ORCPT=rfc822;a@b\r\n");
  EXPECT_EQ(ParseRecipient("TO:<Postmaster>", kDomains).Command(), "RCPT TO:<Postmaster>\r\n");
}

TEST(SmtpRecipient, MayHaveOtherLetters) {
  const auto kind = [](std::string_view argument) {
    return ParseRecipient(argument, kDomains).kind;
  };
  EXPECT_EQ(kind("TO:<j\u00f6rg@b\u00fccher.example>"), Recipient::Kind::kLocal);
  EXPECT_EQ(kind("TO:<\U0001F4E7@example.org>"), Recipient::Kind::kLocal);
  for (const char* cut :
       {"TO:<j\xc3@example.org>", "TO:<\xff@example.org>", "TO:<\xc0\xa5@example.org>",
        "TO:<\xe0\x80\xa5@example.org>", "TO:<\xf0\x80\x80\xa5@example.org>",
        "TO:<\xed\xa0\x80@example.org>", "TO:<\xf4\x90\x80\x80@example.org>"}) {
    EXPECT_EQ(kind(cut), Recipient::Kind::kForeign) << cut;
  }
}

TEST(SmtpRecipient, HasAnEnd) {
  const std::string local(65, 'a');
  EXPECT_EQ(ParseRecipient("TO:<" + local + "@example.org>", kDomains).kind,
            Recipient::Kind::kForeign);
  EXPECT_EQ(ParseRecipient("TO:<" + local.substr(1) + "@example.org>", kDomains).kind,
            Recipient::Kind::kLocal);
}

TEST(SmtpInboundMail, LosesItsAuthParameter) {
  EXPECT_EQ(WithoutAuthParameter("FROM:<a@b> SIZE=10 AUTH=root@example.org BODY=8BITMIME"),
            "FROM:<a@b> SIZE=10 BODY=8BITMIME");
  EXPECT_EQ(WithoutAuthParameter("from:  <>   auth=<>"), "FROM:<>");
  EXPECT_EQ(WithoutAuthParameter("FROM:a@b AUTH SIZE=1"), "FROM:a@b SIZE=1");
  EXPECT_EQ(WithoutAuthParameter("FROM:<\"> AUTH=x\"@b> AUTH=y"), "FROM:<\"> AUTH=x\"@b>");
  EXPECT_EQ(WithoutAuthParameter("FROM:<a@b>"), "FROM:<a@b>");
  // What backends take for blanks, too.
  EXPECT_EQ(WithoutAuthParameter("FROM:<a@b>\fAUTH=x SIZE=1\vAUTH=y"), "FROM:<a@b> SIZE=1");
  EXPECT_TRUE(NamesSubmitter("FROM:<a@b>\fAUTH=x"));
  for (const char* none :
       {"", "FROM", "FROM:", "FROM:<a@b", "FROM:<\"a>b> AUTH=x", "TO:<a@b>", "FROM:<a@b>AUTH=x"}) {
    EXPECT_EQ(WithoutAuthParameter(none), std::nullopt) << none;
  }
}

TEST(SmtpInbound, TellsTheFirstWordOfAHelloName) {
  EXPECT_EQ(HelloName("client.example"), "client.example");
  EXPECT_EQ(HelloName("OFFICE PC"), "OFFICE");
  EXPECT_EQ(HelloName(""), "");
}

}  // namespace
}  // namespace gatepost::smtp
