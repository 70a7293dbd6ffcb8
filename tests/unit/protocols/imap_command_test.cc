// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "protocols/imap/command.h"

namespace gatepost::imap {
namespace {

using Result = CommandFramer::Result;
using protocols::Buffer;

TEST(ImapCommand, FindsLiteralsAtTheEndOfALine) {
  const auto plain = FindLiteral("a LOGIN {12}");
  ASSERT_TRUE(plain);
  EXPECT_EQ(plain->size, 12U);
  EXPECT_TRUE(plain->synchronising);
  const auto plus = FindLiteral("a LOGIN {0+}");
  ASSERT_TRUE(plus);
  EXPECT_EQ(plus->size, 0U);
  EXPECT_FALSE(plus->synchronising);
  EXPECT_EQ(FindLiteral("{18446744073709551615}")->size, UINT64_MAX);
  EXPECT_EQ(FindLiteral("{18446744073709551616}")->size, UINT64_MAX);
  EXPECT_EQ(FindLiteral("{99999999999999999999999999999999}")->size, UINT64_MAX);
  for (const char* none : {"", "}", "{}", "{+}", "{-1}", "{1 }", "{1}x", "{1-}", "1}", "{a}"}) {
    EXPECT_FALSE(FindLiteral(none)) << none;
  }
}

TEST(ImapCommandFramer, FramesACommandWithLiterals) {
  const std::string command = "a LOGIN {3+}\r\nb\r\n {2+}\r\nxy\r\n";
  const std::string input = command + "b NOOP\r\n";
  for (size_t size = 0; size < command.size(); ++size) {
    CommandFramer framer(100, 100);
    EXPECT_EQ(framer.Scan(input.substr(0, size)), Result::kNeedInput) << size;
    EXPECT_EQ(framer.Scan(input), Result::kComplete) << size;
    EXPECT_EQ(framer.command_bytes(), command.size());
  }
}

TEST(ImapCommandFramer, AsksOnceForASynchronisingLiteral) {
  CommandFramer framer(100, 100);
  EXPECT_EQ(framer.Scan("a LOGIN {3}\r\n"), Result::kSynchronisingLiteral);
  EXPECT_EQ(framer.command_bytes(), 13U);
  EXPECT_EQ(framer.Scan("a LOGIN {3}\r\n"), Result::kNeedInput);
  EXPECT_EQ(framer.Scan("a LOGIN {3}\r\nbob x\r\n"), Result::kComplete);
  framer.Reset();
  EXPECT_EQ(framer.Scan("b NOOP\r\n"), Result::kComplete);
}

TEST(ImapCommandFramer, LimitsTheLinesOfACommandTogether) {
  CommandFramer framer(10, 100);
  EXPECT_EQ(framer.Scan("a234567890\r\n"), Result::kComplete);
  framer.Reset();
  EXPECT_EQ(framer.Scan("a2345678901\r\n"), Result::kLineTooLong);
  framer.Reset();
  EXPECT_EQ(framer.Scan("a234567890\r"), Result::kNeedInput);
  EXPECT_EQ(framer.Scan("a2345678901."), Result::kLineTooLong);
  framer.Reset();
  // Many small literals are no way around the limit.
  EXPECT_EQ(framer.Scan("a {1+}\r\nx{1+}\r\nx\r\n"), Result::kComplete);
  framer.Reset();
  EXPECT_EQ(framer.Scan("a {1+}\r\nx{1+}\r\nx.\r\n"), Result::kLineTooLong);
}

TEST(ImapCommandFramer, LimitsTheLiteralsOfACommandTogether) {
  CommandFramer framer(100, 10);
  EXPECT_EQ(framer.Scan("a {10+}\r\n"), Result::kNeedInput);
  framer.Reset();
  EXPECT_EQ(framer.Scan("a {11+}\r\n"), Result::kUnrefusableLiteral);
  framer.Reset();
  EXPECT_EQ(framer.Scan("a {11}\r\n"), Result::kLiteralTooLarge);
  framer.Reset();
  EXPECT_EQ(framer.Scan("a {6+}\r\n123456 {5}\r\n"), Result::kLiteralTooLarge);
  framer.Reset();
  EXPECT_EQ(framer.Scan("a {6+}\r\n123456 {18446744073709551615+}\r\n"),
            Result::kUnrefusableLiteral);
}

TEST(ImapCommandReader, ReadsTagsAndAtoms) {
  CommandReader reader("a]1 NOOP\r\n");
  EXPECT_EQ(reader.Tag(), "a]1");
  EXPECT_TRUE(reader.Skip(' '));
  EXPECT_FALSE(reader.Skip(' '));
  EXPECT_EQ(reader.Atom(), "NOOP");
  EXPECT_TRUE(reader.AtEnd());
  for (const char* none : {"a+b x", "", " a", "*", "a\"b c", "a(b c", "\x01 x", "\x80 x", "a{ x"}) {
    EXPECT_EQ(CommandReader(none).Tag(), "") << none;
  }
}

TEST(ImapCommandReader, ReadsStrings) {
  const auto read = [](std::string_view text) -> std::string {
    CommandReader reader(text);
    Buffer value;
    if (!reader.AString(value)) return "(none)";
    return std::string(value.view()) + (reader.AtEnd() ? "" : "(more)");
  };
  EXPECT_EQ(read("abc\r\n"), "abc");
  EXPECT_EQ(read("a\\b%*]~\r\n"), "a\\b%*]~");
  EXPECT_EQ(read("abc def\r\n"), "abc(more)");
  EXPECT_EQ(read("\"a \\\"b\\\\\"\r\n"), "a \"b\\");
  EXPECT_EQ(read("\"\"\r\n"), "");
  EXPECT_EQ(read("{5}\r\na\r\nbc\r\n"), "a\r\nbc");
  EXPECT_EQ(read("{5+}\nabcde\n"), "abcde");
  EXPECT_EQ(read("{0}\r\n\r\n"), "");
  for (const char* none :
       {"\"abc\r\n", "\"a\\b\"\r\n", "\"a\\", "\r\n", "(\r\n", "{6}\r\nabcde", "{5\r\nabcde\r\n"}) {
    EXPECT_EQ(read(none), "(none)") << none;
  }
}

TEST(ImapCommandReader, ConsumesNothingOfWhatIsNotThere) {
  CommandReader reader("\"open\r\n");
  Buffer value;
  EXPECT_FALSE(reader.AString(value));
  EXPECT_TRUE(value.empty());
  EXPECT_TRUE(reader.Skip('"'));
}

}  // namespace
}  // namespace gatepost::imap
