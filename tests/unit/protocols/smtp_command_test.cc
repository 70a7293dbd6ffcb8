// Command lines and reply lines taken apart.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "protocols/smtp/command.h"
#include "protocols/smtp/reply.h"

namespace gatepost::smtp {
namespace {

using std::string_view_literals::operator""sv;

TEST(SmtpCommand, KnowsVerbsInAnyCase) {
  EXPECT_EQ(ParseCommand("MAIL FROM:<a>").verb, Verb::kMail);
  EXPECT_EQ(ParseCommand("mail FROM:<a> ").argument, "FROM:<a>");
  EXPECT_EQ(ParseCommand("QuIt").verb, Verb::kQuit);
  EXPECT_EQ(ParseCommand("XCLIENT\tLOGIN=a").verb, Verb::kXclient);
  EXPECT_EQ(ParseCommand("xforward").verb, Verb::kXforward);
  EXPECT_EQ(ParseCommand("STARTTLS").verb, Verb::kStartTls);
}

TEST(SmtpCommand, TakesEverythingElseForUnknown) {
  for (const std::string_view line :
       {""sv, " NOOP"sv, "\tNOOP"sv, "NOOPX"sv, "NOO"sv, "N\0OOP"sv, "MAIL:"sv, "250 ok"sv}) {
    EXPECT_EQ(ParseCommand(line).verb, Verb::kUnknown) << line;
  }
}

TEST(SmtpCommand, CallsALineCleanThatHasOneLineEnd) {
  EXPECT_TRUE(IsCleanLine("NOOP\r\n"));
  for (const std::string_view line :
       {"NOOP\n"sv, "NO\rOP\r\n"sv, "NO\0OP\r\n"sv, "NOOP\r\r\n"sv, "A\nB\r\n"sv, "NOOP"sv}) {
    EXPECT_FALSE(IsCleanLine(line)) << line;
  }
}

TEST(SmtpCommand, ParsesChunkSizesStrictly) {
  EXPECT_EQ(ParseChunk("0")->bytes, 0U);
  EXPECT_FALSE(ParseChunk("12")->last);
  EXPECT_TRUE(ParseChunk("12 last")->last);
  EXPECT_EQ(ParseChunk("4611686018427387904")->bytes, uint64_t{1} << 62);
  for (const std::string_view argument :
       {"", " 1", "x", "1x", "1 LAST ", "1  LAST", "1\tLAST", "+1", "-1", "0x10", "LAST", "1 LASTS",
        "4611686018427387905", "18446744073709551617", "99999999999999999999999"}) {
    EXPECT_FALSE(ParseChunk(argument)) << argument;
  }
}

TEST(SmtpCommand, FindsBinaryMimeAmongTheParametersOnly) {
  EXPECT_TRUE(AsksForBinaryMime("FROM:<a> SIZE=1 body=binarymime"));
  EXPECT_FALSE(AsksForBinaryMime("FROM:<a> BODY=8BITMIME"));
  EXPECT_FALSE(AsksForBinaryMime("FROM:<a> BODY=BINARYMIMES"));
  EXPECT_FALSE(AsksForBinaryMime("FROM:<\" BODY=BINARYMIME \"@x>"));
  EXPECT_FALSE(AsksForBinaryMime("FROM:a BODY=BINARYMIME"));
}

TEST(SmtpCommand, NeverOffersWhatIsOursOrForTrustedPeers) {
  for (const std::string_view line :
       {"STARTTLS", "starttls", "AUTH PLAIN", "AUTH=PLAIN", "XCLIENT NAME", "XFORWARD", "XEXCH50",
        "X-EXPS LOGIN", "x-anonymoustls", "BURL imap", "TURN", "ATRN", "", " SIZE", "SIZE\x01"}) {
    EXPECT_FALSE(MayOffer(line, true)) << line;
  }
  EXPECT_TRUE(MayOffer("SIZE 100", false));
  EXPECT_TRUE(MayOffer("CHUNKING", true));
  EXPECT_FALSE(MayOffer("chunking", false));
  EXPECT_FALSE(MayOffer("BINARYMIME", false));
}

TEST(SmtpReply, ParsesReplyLines) {
  EXPECT_EQ(ParseReplyLine("250 ok")->code, 250U);
  EXPECT_TRUE(ParseReplyLine("250 ok")->last);
  EXPECT_TRUE(ParseReplyLine("250")->last);
  EXPECT_FALSE(ParseReplyLine("250-ok")->last);
  EXPECT_EQ(ParseReplyLine("250-ok")->text, "ok");
  for (const std::string_view line : {"", "25", "25x ok", "2500", "250+ok", "150 x", "650 x"}) {
    EXPECT_FALSE(ParseReplyLine(line)) << line;
  }
}

TEST(SmtpReply, CollectsOneReplyAtATimeAtEverySplit) {
  constexpr std::string_view kReplies = "250-a\r\n250-\r\n250 c\r\n354 go\r\n";
  for (size_t cut = 0; cut <= kReplies.size(); ++cut) {
    ReplyParser parser(512);
    protocols::Buffer input;
    std::vector<std::pair<unsigned, std::vector<std::string>>> replies;
    for (const std::string_view piece : {kReplies.substr(0, cut), kReplies.substr(cut)}) {
      input << piece;
      while (parser.Next(input) == ReplyParser::Status::kComplete) {
        replies.emplace_back(parser.code(), parser.lines());
      }
    }
    ASSERT_EQ(replies.size(), 2U) << cut;
    EXPECT_EQ(replies[0].second, (std::vector<std::string>{"a", "", "c"}));
    EXPECT_EQ(replies[1].first, 354U);
  }
}

TEST(SmtpReply, RefusesTwoCodesInOneReply) {
  ReplyParser parser(512);
  protocols::Buffer input;
  input << "250-a\r\n251 b\r\n";
  EXPECT_EQ(parser.Next(input), ReplyParser::Status::kMalformed);
}

}  // namespace
}  // namespace gatepost::smtp
