// Base64, the wiped secret, and the PLAIN, LOGIN and EXTERNAL exchanges.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <string>

#include "protocols/sasl/base64.h"
#include "protocols/sasl/credentials.h"
#include "protocols/sasl/mechanisms.h"

namespace gatepost::sasl {
namespace {

using protocols::Buffer;
using std::string_view_literals::operator""sv;
using Status = ServerExchange::Status;

std::string Encode(std::string_view bytes) {
  Buffer output;
  EncodeBase64(bytes, output);
  return std::string(output.view());
}

// RFC 4648 §10
TEST(Base64, EncodesAndDecodesTheTestVectors) {
  for (const auto& [bytes, text] :
       std::vector<std::pair<std::string_view, std::string_view>>{{"", ""},
                                                                  {"f", "Zg=="},
                                                                  {"fo", "Zm8="},
                                                                  {"foo", "Zm9v"},
                                                                  {"foob", "Zm9vYg=="},
                                                                  {"fooba", "Zm9vYmE="},
                                                                  {"foobar", "Zm9vYmFy"},
                                                                  {"\xFB\xFF\xFE"sv, "+//+"}}) {
    EXPECT_EQ(Encode(bytes), text);
    Buffer decoded;
    EXPECT_TRUE(DecodeBase64(text, decoded)) << text;
    EXPECT_EQ(decoded.view(), bytes);
  }
}

TEST(Base64, RoundTripsEveryByte) {
  std::string bytes;
  for (int i = 0; i < 256; ++i) {
    bytes += static_cast<char>(i);
    Buffer decoded;
    ASSERT_TRUE(DecodeBase64(Encode(bytes), decoded));
    ASSERT_EQ(decoded.view(), bytes);
  }
}

TEST(Base64, RefusesWhatIsNotCanonical) {
  for (const std::string_view text :
       {"Z"sv, "Zg"sv, "Zg="sv, "Zg==="sv, "Zh=="sv, "Zm9="sv, "===="sv, "Z==="sv, "Zg==Zg=="sv,
        "Zm 9v"sv, "Zm9v\r\n"sv, "Zm-_"sv, "Zm9\0"sv, "Zm9\xFF"sv, "=Zm9"sv}) {
    Buffer decoded;
    EXPECT_FALSE(DecodeBase64(text, decoded)) << text;
  }
}

TEST(Secret, MovesClonesAndForgets) {
  Secret secret("password");
  Secret clone = secret.Clone();
  Secret moved = std::move(secret);
  EXPECT_EQ(moved.Reveal(), "password");
  EXPECT_TRUE(secret.empty());  // NOLINT(bugprone-use-after-move): what is promised here
  moved = Secret("other");
  EXPECT_EQ(moved.Reveal(), "other");
  EXPECT_EQ(clone.Reveal(), "password");
}

TEST(SaslMechanism, IsFoundInAnyCase) {
  EXPECT_EQ(FindMechanism("plain"), Mechanism::kPlain);
  EXPECT_EQ(FindMechanism("LOGIN"), Mechanism::kLogin);
  EXPECT_FALSE(FindMechanism("CRAM-MD5"));
  EXPECT_FALSE(FindMechanism(""));
  EXPECT_EQ(Name(Mechanism::kProtocol), "cleartext");
}

TEST(SaslPlain, TakesAnInitialResponseOrAChallengeFirst) {
  ServerExchange direct(Mechanism::kPlain);
  ASSERT_EQ(direct.Begin(Encode("authz\0user\0pass"sv)), Status::kDone);
  const Credentials credentials = direct.TakeCredentials();
  EXPECT_EQ(credentials.authorization_identity, "authz");
  EXPECT_EQ(credentials.authentication_identity, "user");
  EXPECT_EQ(credentials.password.Reveal(), "pass");

  ServerExchange asked(Mechanism::kPlain);
  ASSERT_EQ(asked.Begin({}), Status::kChallenge);
  EXPECT_EQ(asked.challenge(), "");
  ASSERT_EQ(asked.Step(Encode("\0user\0"sv)), Status::kDone);
  EXPECT_TRUE(asked.TakeCredentials().password.empty());
}

TEST(SaslPlain, RefusesMalformedMessages) {
  for (const std::string_view message : {""sv, "user"sv, "\0user"sv, "\0\0pass"sv, "a\0b\0c\0d"sv,
                                         "\0us\ner\0p"sv, "\0u\0p\r"sv, "a\nb\0u\0p"sv}) {
    ServerExchange exchange(Mechanism::kPlain);
    EXPECT_EQ(exchange.Begin(Encode(message)), Status::kMalformed) << message;
  }
  ServerExchange empty(Mechanism::kPlain);
  EXPECT_EQ(empty.Begin("="), Status::kMalformed);
  ServerExchange bad(Mechanism::kPlain);
  EXPECT_EQ(bad.Begin("AHUAc"), Status::kBadBase64);
  ServerExchange equals(Mechanism::kPlain);
  ASSERT_EQ(equals.Begin({}), Status::kChallenge);
  EXPECT_EQ(equals.Step("="), Status::kBadBase64);  // means something in the command only
}

TEST(SaslLogin, AsksForUserAndPassword) {
  ServerExchange exchange(Mechanism::kLogin);
  ASSERT_EQ(exchange.Begin({}), Status::kChallenge);
  EXPECT_EQ(exchange.challenge(), Encode("Username:"));
  ASSERT_EQ(exchange.Step(Encode("user")), Status::kChallenge);
  EXPECT_EQ(exchange.challenge(), Encode("Password:"));
  ASSERT_EQ(exchange.Step(Encode("pass")), Status::kDone);
  const Credentials credentials = exchange.TakeCredentials();
  EXPECT_EQ(credentials.mechanism, Mechanism::kLogin);
  EXPECT_EQ(credentials.authentication_identity, "user");
  EXPECT_EQ(credentials.password.Reveal(), "pass");
}

TEST(SaslLogin, TakesTheUserAsInitialResponseAndCanBeCancelled) {
  ServerExchange exchange(Mechanism::kLogin);
  ASSERT_EQ(exchange.Begin(Encode("user")), Status::kChallenge);
  EXPECT_EQ(exchange.challenge(), Encode("Password:"));
  EXPECT_EQ(exchange.Step("*"), Status::kAborted);
  ServerExchange nobody(Mechanism::kLogin);
  EXPECT_EQ(nobody.Begin("="), Status::kMalformed);
  ServerExchange newline(Mechanism::kLogin);
  EXPECT_EQ(newline.Begin(Encode("us\r\ner")), Status::kMalformed);
}

TEST(SaslPlain, IsReadAsItIsWritten) {
  const Credentials written{Mechanism::kPlain, "authz", "user", Secret("p\xC3\xA4ss")};
  Buffer message;
  AppendPlain(written, message);
  ServerExchange exchange(Mechanism::kPlain);
  ASSERT_EQ(exchange.Begin(message.view()), Status::kDone);
  const Credentials read = exchange.TakeCredentials();
  EXPECT_EQ(read.authorization_identity, written.authorization_identity);
  EXPECT_EQ(read.authentication_identity, written.authentication_identity);
  EXPECT_EQ(read.password.Reveal(), written.password.Reveal());
}

// RFC 4422 appendix A
TEST(External, TakesTheIdentityFromTlsAndTheWishFromTheClient) {
  ServerExchange exchange(Mechanism::kExternal, "alice");
  ASSERT_EQ(exchange.Begin({}), Status::kChallenge);
  EXPECT_EQ(exchange.challenge(), "");
  ASSERT_EQ(exchange.Step(""), Status::kDone);
  Credentials credentials = exchange.TakeCredentials();
  EXPECT_EQ(credentials.mechanism, Mechanism::kExternal);
  EXPECT_EQ(credentials.authentication_identity, "alice");
  EXPECT_EQ(credentials.authorization_identity, "");
  EXPECT_TRUE(credentials.password.empty());

  ServerExchange initial(Mechanism::kExternal, "alice");
  ASSERT_EQ(initial.Begin("="), Status::kDone);
  EXPECT_EQ(initial.TakeCredentials().authorization_identity, "");
  ServerExchange other(Mechanism::kExternal, "alice");
  ASSERT_EQ(other.Begin(Encode("bob")), Status::kDone);
  credentials = other.TakeCredentials();
  EXPECT_EQ(credentials.authentication_identity, "alice");
  EXPECT_EQ(credentials.authorization_identity, "bob");
}

TEST(External, RefusesLineEndsAndNobody) {
  for (const std::string_view wish : {"a\0b"sv, "a\rb"sv, "a\nb"sv, "\0"sv}) {
    ServerExchange exchange(Mechanism::kExternal, "alice");
    EXPECT_EQ(exchange.Begin(Encode(wish)), Status::kMalformed);
  }
  ServerExchange nobody(Mechanism::kExternal);
  EXPECT_EQ(nobody.Begin("="), Status::kMalformed);
  // An identity of TLS is nothing to the other mechanisms.
  ServerExchange plain(Mechanism::kPlain, "alice");
  EXPECT_EQ(plain.Begin(Encode("\0\0password"sv)), Status::kMalformed);
}

}  // namespace
}  // namespace gatepost::sasl
