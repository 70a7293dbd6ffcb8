// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "protocols/imap/referral.h"

namespace gatepost::imap {
namespace {

// RFC 2221 §5.1, RFC 5092 §3; the last as Dovecot writes it.
TEST(ImapReferral, SaysWhoAndWhere) {
  struct Case {
    std::string_view url, user, host;
    uint16_t port;
  };
  for (const Case& c : {Case{"imap://mike@server2/", "mike", "server2", 0},
                        {"IMAP://MATTHEW;AUTH=*@Server2:1143", "MATTHEW", "Server2", 1143},
                        {"imap://server2", "", "server2", 0},
                        {"imap://a%40example.org;AUTH=PLAIN@[2001:db8::1]:993/INBOX;UIDVALIDITY=1",
                         "a@example.org", "2001:db8::1", 993},
                        {"imap://x@[::1]/?q#f", "x", "::1", 0},
                        {"imap://alice;AUTH=PLAIN@127.0.0.2:143/", "alice", "127.0.0.2", 143}}) {
    const auto referral = ParseReferral(c.url);
    ASSERT_TRUE(referral) << c.url;
    EXPECT_EQ(referral->user, c.user) << c.url;
    EXPECT_EQ(referral->host, c.host) << c.url;
    EXPECT_EQ(referral->port, c.port) << c.url;
  }
}

TEST(ImapReferral, NothingElseIsOne) {
  for (const std::string& url : {std::string(),
                                 std::string("imap:"),
                                 std::string("imap:///"),
                                 std::string("imap://a@/"),
                                 std::string("imaps://a@b/"),
                                 std::string("http://b/"),
                                 std::string("imap://a@b:/"),
                                 std::string("imap://a@b:0/"),
                                 std::string("imap://a@b:65536/"),
                                 std::string("imap://a@b:143x/"),
                                 std::string("imap://a@b:-1/"),
                                 std::string("imap://a:secret@b/"),
                                 std::string("imap://a%0d%0a@b/"),
                                 std::string("imap://a%00@b/"),
                                 std::string("imap://a%4@b/"),
                                 std::string("imap://a%@b/"),
                                 std::string("imap://a%zz@b/"),
                                 std::string("imap://a@[::1/"),
                                 std::string("imap://a@[::1]143/"),
                                 "imap://" + std::string(256, 'a') + "@b/"}) {
    EXPECT_FALSE(ParseReferral(url)) << url;
  }
}

}  // namespace
}  // namespace gatepost::imap
