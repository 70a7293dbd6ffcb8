// SPDX-License-Identifier: Apache-2.0
#include "config/values.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace gatepost::config {
namespace {

TEST(Duration, ReadsEachUnit) {
  EXPECT_EQ(ParseDuration("500ms"), milliseconds(500));
  EXPECT_EQ(ParseDuration("30s"), milliseconds(30'000));
  EXPECT_EQ(ParseDuration("5m"), milliseconds(300'000));
  EXPECT_EQ(ParseDuration("1h"), milliseconds(3'600'000));
  EXPECT_EQ(ParseDuration("0s"), milliseconds(0));
  EXPECT_EQ(ParseDuration("4294967295h"), milliseconds(4294967295 * 3'600'000));
}

TEST(Duration, RefusesWhatIsNotANumberAndAUnit) {
  for (const char* text : {"", "s", "5", "5 s", " 5s", "5s ", "-5s", "+5s", "1.5s", "5sec", "5S",
                           "4294967296s", "1m30s", "0x5s"}) {
    EXPECT_FALSE(ParseDuration(text)) << text;
  }
}

TEST(Duration, IsWrittenWithTheLargestUnitThatLosesNothing) {
  for (const char* text : {"0s", "1ms", "1500ms", "30s", "90s", "31m", "2m", "1h", "24h"}) {
    EXPECT_EQ(FormatDuration(*ParseDuration(text)), text);
  }
  EXPECT_EQ(FormatDuration(milliseconds(120'000)), "2m");
}

TEST(SocketAddress, ReadsLiteralsOnly) {
  EXPECT_EQ(ParseSocketAddress("0.0.0.0:143"), (SocketAddress{"0.0.0.0", 143}));
  EXPECT_EQ(ParseSocketAddress("[::]:0"), (SocketAddress{"::", 0}));
  EXPECT_EQ(ParseSocketAddress("[2001:DB8:0::1]:65535"), (SocketAddress{"2001:db8::1", 65535}));
  for (const std::string text :
       {"", ":143", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:1x",
        "127.1:25", "::1:25", "[127.0.0.1]:25", "[::1]25", "[::1:25", "localhost:25", "*:25"}) {
    EXPECT_FALSE(ParseSocketAddress(text)) << text;
  }
  EXPECT_FALSE(ParseSocketAddress(std::string("127.0.0.1\0x:25", 14)));
}

TEST(SocketAddress, TextIsTheReverse) {
  for (const char* text : {"127.0.0.1:143", "[::1]:143", "[2001:db8::1]:0"}) {
    EXPECT_EQ(Text(*ParseSocketAddress(text)), text);
  }
}

TEST(MailDomain, IsANameInLowerCase) {
  EXPECT_EQ(ParseMailDomain("Example.ORG"), "example.org");
  EXPECT_EQ(ParseMailDomain("b\u00fccher.example"), "b\u00fccher.example");
  for (const char* text : {"", "example.org.", "*.example.org", ".example.org", "a@example.org",
                           "[127.0.0.1]", "127.0.0.1", "example org"}) {
    EXPECT_FALSE(ParseMailDomain(text)) << text;
  }
}

TEST(Member, IsANameOrALiteral) {
  EXPECT_EQ(ParseMember("store1.internal:143"), (Member{"store1.internal", 143}));
  EXPECT_EQ(ParseMember("mail_store:143"), (Member{"mail_store", 143}));
  EXPECT_EQ(ParseMember("127.0.0.1:143"), (Member{"127.0.0.1", 143}));
  EXPECT_EQ(ParseMember("[::1]:143"), (Member{"::1", 143}));
  for (const char* text : {"store", "store:0", "store:", ":143", "::1:143", "127.0.0.256:143",
                           "[store]:143", "a b:143", "imap://store:143"}) {
    EXPECT_FALSE(ParseMember(text)) << text;
  }
}

TEST(Network, IsAnAddressAndThePrefixOfIt) {
  EXPECT_EQ(ParseNetwork("10.0.0.0/8")->bits, 104);
  EXPECT_EQ(ParseNetwork("192.0.2.1")->bits, 128);
  EXPECT_EQ(ParseNetwork("2001:db8::/32")->bits, 32);
  EXPECT_EQ(ParseNetwork("::/0")->bits, 0);
  EXPECT_EQ(ParseNetwork("0.0.0.0/0")->bits, 96);
  EXPECT_EQ(ParseNetwork("::ffff:10.0.0.0/104"), ParseNetwork("10.0.0.0/8"));
  EXPECT_EQ(ParseNetwork("::1")->address[15], 1);
  for (const std::string text :
       {"", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/8/8", "10.0.0.1/8", "10.0/8",
        "2001:db8::/129", "2001:db8::1/64", "[::1]/128", "localhost", "10.0.0.0/8 "}) {
    EXPECT_FALSE(ParseNetwork(text)) << text;
  }
  EXPECT_FALSE(ParseNetwork(std::string("10.0.0.0\0/8", 11)));
}

TEST(PoolMember, MayBeANameOfSeveral) {
  EXPECT_EQ(ParsePoolMember("dns:store.mail.svc:143 weight=2"),
            (PoolMember{{"store.mail.svc", 143}, MemberKind::kDns, 2}));
  EXPECT_EQ(ParsePoolMember("srv:_imap._tcp.example.org"),
            (PoolMember{{"_imap._tcp.example.org", 0}, MemberKind::kSrv, 1}));
  for (const char* text : {"dns:", "dns:a", "dns:a:0", "dns:192.0.2.1:143", "dns:[::1]:143", "srv:",
                           "srv:a:143", "srv:a weight=2", "srv:a b", "DNS:a:143", "dns:dns:a:1"}) {
    EXPECT_FALSE(ParsePoolMember(text)) << text;
  }
}

TEST(PoolMember, MayHaveAWeight) {
  EXPECT_EQ(ParsePoolMember("store1.internal:143"), (PoolMember{{"store1.internal", 143}}));
  EXPECT_EQ(ParsePoolMember("[::1]:143 weight=100"),
            (PoolMember{{"::1", 143}, MemberKind::kHost, 100}));
  for (const char* text :
       {"", "a:143 ", "a:143 weight=", "a:143 weight=0", "a:143 weight=101", "a:143 weight=1.5",
        "a:143 weight=2 ", "a:143  weight=2", "a:143 2", "weight=2", " a:143", "a:143 Weight=2"}) {
    EXPECT_FALSE(ParsePoolMember(text)) << text;
  }
}

TEST(HostName, FollowsRfc1123) {
  EXPECT_TRUE(IsHostName("localhost"));
  EXPECT_TRUE(IsHostName("3com.example"));
  EXPECT_TRUE(IsHostName(std::string(63, 'a') + ".b"));
  for (const std::string& text :
       {std::string(), std::string("."), std::string("a."), std::string(".a"), std::string("a..b"),
        std::string("-a"), std::string("a-.b"), std::string("a b"), std::string("10.0.0.1"),
        std::string(64, 'a'), std::string("m\xc3\xa4il"), std::string("a\r\n")}) {
    EXPECT_FALSE(IsHostName(text)) << text;
  }
  std::string longest;
  while (longest.size() < 252) longest += "a.";
  EXPECT_TRUE(IsHostName(longest + "a"));    // 253
  EXPECT_FALSE(IsHostName(longest + "aa"));  // 254
}

TEST(Label, IsSafeInLogsAndMetrics) {
  EXPECT_TRUE(IsLabel("imap-143"));
  EXPECT_TRUE(IsLabel(std::string(64, 'a')));
  for (const std::string& text : {std::string(), std::string("a.b"), std::string("a\"b"),
                                  std::string("a b"), std::string(65, 'a')}) {
    EXPECT_FALSE(IsLabel(text)) << text;
  }
}

TEST(HttpUrl, IsTakenApart) {
  EXPECT_EQ(ParseHttpUrl("http://127.0.0.1:8080/auth?a=b"),
            (HttpUrl{false, {"127.0.0.1", 8080}, "/auth?a=b"}));
  EXPECT_EQ(ParseHttpUrl("https://auth.internal"), (HttpUrl{true, {"auth.internal", 443}, "/"}));
  EXPECT_EQ(ParseHttpUrl("http://[::1]/x"), (HttpUrl{false, {"::1", 80}, "/x"}));
  EXPECT_EQ(ParseHttpUrl("http://[::1]:81"), (HttpUrl{false, {"::1", 81}, "/"}));
  for (const char* wrong :
       {"", "http://", "http:///x", "ftp://a/", "a.example/x", "http://user@a/", "http://a:0/",
        "http://a:99999/", "http://a b/", "http://a/ b", "http://a/#f", "http://a/\r\nX: y",
        "http://[::1/", "HTTP://a/", "http://a:/"}) {
    EXPECT_FALSE(ParseHttpUrl(wrong)) << wrong;
  }
  EXPECT_EQ(Text(*ParseHttpUrl("https://[2001:db8::1]/secret")), "https://[2001:db8::1]:443");
}

TEST(HttpHeader, IsOneFieldOnOneLine) {
  EXPECT_EQ(ParseHttpHeader("X-Key:  a b"), "X-Key: a b");
  EXPECT_EQ(ParseHttpHeader("X:y"), "X: y");
  for (const char* wrong :
       {"", "X", ": a", "X:", "X: ", "X Y: a", "X: a\r\nY: b", "X: a ", "X\n: a"}) {
    EXPECT_FALSE(ParseHttpHeader(wrong)) << wrong;
  }
}

TEST(ReferralHost, IsAllowedByItsWholeNameOrALabelAbove) {
  EXPECT_EQ(ParseReferralHost("*.Stores.Internal"), "*.stores.internal");
  EXPECT_EQ(ParseReferralHost("2001:db8::1"), "2001:db8::1");
  EXPECT_FALSE(ParseReferralHost("*"));
  EXPECT_FALSE(ParseReferralHost("10.0.0.0/8"));
  const std::vector<std::string> allowed = {"*.stores.internal", "old.example.org", "10.0.0.1"};
  for (const char* host :
       {"a.stores.internal", "a.b.stores.internal", "old.example.org", "10.0.0.1"}) {
    EXPECT_TRUE(IsReferralHost(host, allowed)) << host;
  }
  for (const char* host : {"", "stores.internal", ".stores.internal", "astores.internal",
                           "a.stores.internal.example.org", "a..stores.internal",
                           "x.old.example.org", "10.0.0.10", "::ffff:10.0.0.1"}) {
    EXPECT_FALSE(IsReferralHost(host, allowed)) << host;
  }
}

TEST(Loopback, IsThisMachineAlone) {
  for (const char* address : {"127.0.0.1", "127.255.0.9", "::1"}) {
    EXPECT_TRUE(IsLoopback(address)) << address;
  }
  for (const char* address : {"", "0.0.0.0", "::", "10.0.0.1", "128.0.0.1", "127.0.0.1.example"}) {
    EXPECT_FALSE(IsLoopback(address)) << address;
  }
}

}  // namespace
}  // namespace gatepost::config
