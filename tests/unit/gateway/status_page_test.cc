// What the status page is made of, without a browser: tests/integration/test_status_page.py has
// one.
// SPDX-License-Identifier: Apache-2.0
#include "gateway/observe/status_page.h"

#include <gtest/gtest.h>

#include <string>

#include "gateway/backends/member.h"
#include "gateway/observe/failed_logins.h"

namespace gatepost::observe {
namespace {

TEST(StatusPage, HasItsNonceWhereverOneBelongs) {
  const std::string page = StatusPage("n0nce");
  EXPECT_TRUE(page.starts_with("<!DOCTYPE html>"));
  EXPECT_TRUE(page.ends_with("</html>\n"));
  EXPECT_EQ(page.find(kNonceMark), std::string::npos);
  EXPECT_NE(page.find("<style nonce=\"n0nce\">"), std::string::npos);
  EXPECT_NE(page.find("<script nonce=\"n0nce\">"), std::string::npos);
}

TEST(StatusPage, HasNothingThatAPolicyWouldForbid) {
  const std::string page(kStatusPage);
  for (const char* forbidden :
       {"innerHTML", "outerHTML", "document.write", "eval(", " style=", " onclick=", "https://"}) {
    EXPECT_EQ(page.find(forbidden), std::string::npos) << forbidden;
  }
}

TEST(StatusPage, IsForAddressesAndOurOwnName) {
  for (const char* host :
       {"127.0.0.1", "127.0.0.1:9143", "[::1]:9143", "[2001:db8::1]", "localhost", "LocalHost:80",
        "mail.example.org", "MAIL.example.org:9143"}) {
    EXPECT_TRUE(MayAsk(host, "mail.example.org")) << host;
  }
  for (const char* host :
       {"", ":9143", "evil.example", "localhost.evil.example", "127.0.0.1.example", "[::1",
        "[evil]", "xmail.example.org", "mail.example.org.evil", "1"}) {
    EXPECT_FALSE(MayAsk(host, "mail.example.org")) << host;
  }
  EXPECT_FALSE(MayAsk("", ""));
}

TEST(FailedLogins, KeepTheNewest) {
  FailedLogins logins;
  EXPECT_TRUE(logins.Latest().empty());
  for (int i = 0; i < 3; ++i) logins.Add({.time = i, .user = "u" + std::to_string(i)});
  ASSERT_EQ(logins.Latest().size(), 3U);
  EXPECT_EQ(logins.Latest().front().user, "u2");
  EXPECT_EQ(logins.Latest().back().user, "u0");
  for (int i = 3; i < 200; ++i) logins.Add({.time = i});
  const auto latest = logins.Latest();
  ASSERT_EQ(latest.size(), FailedLogins::kKept);
  for (size_t i = 0; i < latest.size(); ++i)
    EXPECT_EQ(latest[i].time, 199 - static_cast<int64_t>(i));
}

TEST(MemberLoginTime, IsAnAverageThatForgets) {
  backends::Member member({{"h", 143}, "", 1, 0}, {});
  EXPECT_FALSE(member.login_ms());
  member.NoteLogin(10);
  EXPECT_DOUBLE_EQ(*member.login_ms(), 10);
  member.NoteLogin(20);
  EXPECT_DOUBLE_EQ(*member.login_ms(), 11);
  for (int i = 0; i < 100; ++i) member.NoteLogin(50);
  EXPECT_NEAR(*member.login_ms(), 50, 0.01);
}

}  // namespace
}  // namespace gatepost::observe
