// What one server tells the next of a client, both ways.
// SPDX-License-Identifier: Apache-2.0
#include "protocols/introduction.h"

#include <gtest/gtest.h>

#include <string>

namespace gatepost::protocols {
namespace {

Introduction Everything() {
  Introduction all;
  all.client_host = "2001:db8::7";
  all.client_port = 49152;
  all.server_host = "192.0.2.1";
  all.server_port = 993;
  all.session_id = "0123456789abcdef";
  all.ttl = 6;
  all.transport = "TLS";
  all.server_name = "mail.example.org";
  all.helo = "[192.0.2.7] =+";
  return all;
}

void ExpectSame(const Introduction& a, const Introduction& b) {
  EXPECT_EQ(a.client_host, b.client_host);
  EXPECT_EQ(a.client_port, b.client_port);
  EXPECT_EQ(a.server_host, b.server_host);
  EXPECT_EQ(a.server_port, b.server_port);
  EXPECT_EQ(a.session_id, b.session_id);
  EXPECT_EQ(a.ttl, b.ttl);
  EXPECT_EQ(a.transport, b.transport);
  EXPECT_EQ(a.server_name, b.server_name);
}

std::string Xtext(std::string_view text) {
  std::string out;
  AppendXtext(text, out);
  return out;
}

TEST(Introduction, IdFieldsAreReadAsTheyAreWritten) {
  Introduction read;
  for (const auto& [name, value] : IdFields(Everything())) {
    EXPECT_TRUE(IsProxyField(name)) << name;
    EXPECT_TRUE(ReadIdField(name, value, read)) << name;
  }
  ExpectSame(read, Everything());
}

TEST(Introduction, XclientIsReadAsItIsWritten) {
  std::string arguments;
  for (const auto& [name, value] : XclientAttributes(Everything())) {
    arguments += (arguments.empty() ? "" : " ") + std::string(name) + "=" + Xtext(value);
  }
  Introduction read;
  EXPECT_TRUE(ReadXclient(arguments, true, read)) << arguments;
  ExpectSame(read, Everything());
  EXPECT_EQ(read.helo, Everything().helo);
}

TEST(Introduction, TheAddressIsTheLastWord) {
  EXPECT_EQ(XclientAttributes(Everything()).back().first, "ADDR");
}

// RFC 2971 §3.3
TEST(Introduction, OursComesFirstAndTheClientsOwnAsFarAsThereIsRoom) {
  Introduction introduction = Everything();
  introduction.id = {{"name", "Mutt"}, {"bad", "a\rb"}, {"version", "\xc3\xa4"}, {"os", "Linux"}};
  IdPairs fields = IdFields(introduction);
  ASSERT_EQ(fields.size(), 10U);
  EXPECT_EQ(fields[8], (std::pair<std::string, std::string>("name", "Mutt")));
  EXPECT_EQ(fields[9], (std::pair<std::string, std::string>("os", "Linux")));
  introduction.id.assign(40, {"k", "v"});
  fields = IdFields(introduction);
  EXPECT_EQ(fields.size(), kMaxIdPairs);
  EXPECT_EQ(fields[7].first, "x-connected-name");
  introduction.id.assign(30, {"key", std::string(1000, 'v')});
  EXPECT_EQ(IdFields(introduction).size(), 9U);
}

TEST(Introduction, SaysNothingOfWhatIsNotKnown) {
  Introduction introduction;
  EXPECT_TRUE(IdFields(introduction).empty());
  EXPECT_TRUE(XclientAttributes(introduction).empty());
  introduction.server_name = "not a name";
  EXPECT_TRUE(IdFields(introduction).empty());
  EXPECT_TRUE(XclientAttributes(introduction).empty());
}

TEST(Introduction, KnowsTheFieldsThatAreForProxiesAlone) {
  for (const std::string_view name :
       {"x-originating-ip", "X-Originating-IP", "x-originating-anything", "x-connected-port",
        "x-proxy-ttl", "x-session-id", "x-session-ext-id", "x-client-transport", "x-forward-rip",
        "x-multiplex", "X-MULTIPLEX"}) {
    EXPECT_TRUE(IsProxyField(name)) << name;
  }
  for (const std::string_view name :
       {"name", "version", "x-forwarded", "x-", "", "originating-ip"}) {
    EXPECT_FALSE(IsProxyField(name)) << name;
  }
}

TEST(Introduction, BelievesNoNonsense) {
  Introduction out;
  for (const auto& [name, value] : IdPairs{{"x-originating-ip", "localhost"},
                                           {"x-originating-ip", "192.0.2.256"},
                                           {"x-originating-ip", ""},
                                           {"x-originating-port", "65536"},
                                           {"x-originating-port", "-1"},
                                           {"x-connected-ip", "::1%lo"},
                                           {"x-proxy-ttl", "0"},
                                           {"x-proxy-ttl", "256"},
                                           {"x-proxy-ttl", "six"},
                                           {"x-session-id", std::string(65, 'x')},
                                           {"x-session-id", "a\nb"},
                                           {"x-client-transport", "tls"},
                                           {"x-connected-name", "a b"}}) {
    EXPECT_FALSE(ReadIdField(name, value, out)) << name << value;
  }
  EXPECT_TRUE(ReadIdField("x-originating-colour", "green", out));
  for (const std::string_view arguments :
       {"", " ", "ADDR", "ADDR=", "ADDR=localhost", "ADDR=IPV6:", "PORT=99999", "TTL=0", "HELO=+4",
        "HELO=+4g", "HELO=+0A", "ADDR=192.0.2.1 PORT"}) {
    EXPECT_FALSE(ReadXclient(arguments, true, out)) << arguments;
  }
}

TEST(Introduction, UnderstandsXclientInAllItsDialects) {
  Introduction out;
  EXPECT_TRUE(
      ReadXclient("addr=IPV6:2001:db8::7 NAME=[UNAVAILABLE] LOGIN=alice COLOUR=green", true, out));
  EXPECT_EQ(out.client_host, "2001:db8::7");
  EXPECT_TRUE(out.login.empty());
  EXPECT_TRUE(ReadXclient("ADDR=2001:db8::8 PORT=1", false, out));
  EXPECT_EQ(out.client_host, "2001:db8::8");
  EXPECT_TRUE(ReadXclient("ADDR=[TEMPUNAVAIL]", true, out));
  EXPECT_EQ(out.client_host, "2001:db8::8");
}

// RFC 3461 §4
TEST(Introduction, XtextHoldsWordsOnly) {
  EXPECT_EQ(Xtext("user@example.org"), "user@example.org");
  EXPECT_EQ(Xtext("a+b=c d\r\n\xff"), "a+2Bb+3Dc+20d+0D+0A+FF");
}

}  // namespace
}  // namespace gatepost::protocols
