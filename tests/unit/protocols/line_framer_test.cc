// Lines, first bytes, and what may be shown.
// SPDX-License-Identifier: Apache-2.0
#include "protocols/line_framer.h"

#include <gtest/gtest.h>

namespace gatepost::protocols {
namespace {

using std::string_view_literals::operator""sv;

TEST(LineFramer, FindsTheFirstLine) {
  EXPECT_FALSE(FindLine(""));
  EXPECT_FALSE(FindLine("abc\r"));
  EXPECT_EQ(FindLine("abc\r\ndef")->text, "abc");
  EXPECT_EQ(FindLine("abc\r\ndef")->wire_bytes, 5U);
  EXPECT_EQ(FindLine("abc\ndef\r\n")->text, "abc");
  EXPECT_EQ(FindLine("abc\ndef\r\n")->wire_bytes, 4U);
  EXPECT_EQ(FindLine("abc\r\r\n")->text, "abc\r");
  EXPECT_EQ(FindLine("\r\n")->text, "");
  EXPECT_EQ(FindLine("\n")->wire_bytes, 1U);
}

TEST(LineFramer, RecognisesForeignProtocols) {
  EXPECT_EQ(ForeignProtocol("GET / HTTP/1.0\r\n"), QuitReason::kHttp);
  EXPECT_EQ(ForeignProtocol("PRI * HTTP/2.0"), QuitReason::kHttp);
  EXPECT_EQ(ForeignProtocol("CONNECT a:25 HTTP/1.1"), QuitReason::kHttp);
  EXPECT_EQ(ForeignProtocol("\x16\x03\x01"), QuitReason::kTls);
  EXPECT_EQ(ForeignProtocol("SSH-2.0-x"), QuitReason::kSsh);
  for (const std::string_view mail : {"", "G", "GET", "EHLO x\r\n", "a1 LOGIN x y\r\n",
                                      "USER x\r\n", "\x16", "\x16\x02", "SSH", "get / http"}) {
    EXPECT_FALSE(ForeignProtocol(mail)) << mail;
  }
}

TEST(LineFramer, ShowsPrintableAsciiOnly) {
  EXPECT_EQ(Printable("a\r\nb\0c\x7F\xC3\xA4 ~"sv, 100), "a??b?c??? ~");
  EXPECT_EQ(Printable("abcdef", 3), "abc");
  EXPECT_EQ(Printable("", 3), "");
}

TEST(LineFramer, ComparesAsciiCaseInsensitively) {
  EXPECT_TRUE(EqualsIgnoreCase("StartTLS", "STARTTLS"));
  EXPECT_TRUE(EqualsIgnoreCase("", ""));
  EXPECT_FALSE(EqualsIgnoreCase("a", "ab"));
  EXPECT_FALSE(EqualsIgnoreCase("@", "`"));  // differ by the case bit only
  EXPECT_FALSE(EqualsIgnoreCase("\xC3", "\xE3"));
}

TEST(LineFramer, SeesControlCharacters) {
  EXPECT_TRUE(HasControl("a\tb"));
  EXPECT_TRUE(HasControl("\x7F"));
  EXPECT_TRUE(HasControl("\0"sv));
  EXPECT_FALSE(HasControl("a b~\xC3\xA4"));
}

}  // namespace
}  // namespace gatepost::protocols
