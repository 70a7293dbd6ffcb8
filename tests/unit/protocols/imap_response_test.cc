// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <string>

#include "protocols/imap/response.h"

namespace gatepost::imap {
namespace {

using Result = ResponseFramer::Result;

TEST(ImapResponseFramer, FollowsLiteralsInDataOnly) {
  const std::string data = "* ID (\"name\" {4}\r\nD\r\nt)\r\n";
  for (size_t size = 0; size <= data.size(); ++size) {
    ResponseFramer framer(100, 1000);
    EXPECT_EQ(framer.Scan(data.substr(0, size)),
              size < data.size() ? Result::kNeedInput : Result::kComplete)
        << size;
  }
  for (const char* line : {"* OK see {4}\r\n", "G1 NO see {4}\r\n", "+ {4}\r\n"}) {
    ResponseFramer framer(100, 1000);
    EXPECT_EQ(framer.Scan(line), Result::kComplete) << line;
    EXPECT_EQ(framer.response_bytes(), std::string_view(line).size());
  }
}

TEST(ImapResponseFramer, HasLimits) {
  ResponseFramer framer(10, 40);
  EXPECT_EQ(framer.Scan("* OK 67890\r\n"), Result::kComplete);
  framer.Reset();
  EXPECT_EQ(framer.Scan("* OK 678901\r\n"), Result::kTooLong);
  framer.Reset();
  EXPECT_EQ(framer.Scan("* OK 6789012"), Result::kTooLong);
  framer.Reset();
  EXPECT_EQ(framer.Scan("* X {30}\r\n"), Result::kNeedInput);
  framer.Reset();
  EXPECT_EQ(framer.Scan("* X {31}\r\n"), Result::kTooLong);
  framer.Reset();
  EXPECT_EQ(framer.Scan("* X {99999999999999999999}\r\n"), Result::kTooLong);
}

TEST(ImapResponse, ParsesStatusResponses) {
  const auto tagged = ParseResponse("G1 no [AUTHENTICATIONFAILED] Go away\r\n");
  ASSERT_TRUE(tagged);
  EXPECT_EQ(tagged->kind, ResponseKind::kTagged);
  EXPECT_EQ(tagged->tag, "G1");
  EXPECT_EQ(tagged->condition, Condition::kNo);
  EXPECT_EQ(tagged->code, "AUTHENTICATIONFAILED");
  EXPECT_EQ(tagged->text, "Go away");
  const auto greeting = ParseResponse("* OK [CAPABILITY IMAP4rev1 IDLE] hello [x]\r\n");
  ASSERT_TRUE(greeting);
  EXPECT_EQ(greeting->code, "CAPABILITY");
  EXPECT_EQ(greeting->code_arguments, "IMAP4rev1 IDLE");
  EXPECT_EQ(greeting->text, "hello [x]");
  EXPECT_EQ(greeting->data, "OK [CAPABILITY IMAP4rev1 IDLE] hello [x]");
  const auto bare = ParseResponse("G1 OK\r\n");
  ASSERT_TRUE(bare);
  EXPECT_EQ(bare->condition, Condition::kOk);
  EXPECT_EQ(bare->text, "");
  EXPECT_EQ(ParseResponse("* OK [ALERT\r\n")->code, "");
}

TEST(ImapResponse, ParsesTheOtherKinds) {
  EXPECT_EQ(ParseResponse("+ go on\r\n")->kind, ResponseKind::kContinuation);
  EXPECT_EQ(ParseResponse("+\r\n")->kind, ResponseKind::kContinuation);
  const auto data = ParseResponse("* CAPABILITY IMAP4rev1\r\n");
  EXPECT_EQ(data->kind, ResponseKind::kUntagged);
  EXPECT_EQ(data->condition, Condition::kNone);
  EXPECT_EQ(data->data, "CAPABILITY IMAP4rev1");
  for (const char* none : {"\r\n", "*\r\n", "G1\r\n", " OK\r\n", "G1 FOO bar\r\n", "G1  OK\r\n"}) {
    EXPECT_FALSE(ParseResponse(none)) << none;
  }
}

TEST(ImapResponse, LeavesOutCapabilitiesThatAreNoAtoms) {
  const protocols::Capabilities expected = {"IMAP4rev1", "AUTH=PLAIN", "LITERAL+"};
  EXPECT_EQ(ParseCapabilities("IMAP4rev1  AUTH=PLAIN X\"Y a\x01 LITERAL+ "), expected);
}

}  // namespace
}  // namespace gatepost::imap
