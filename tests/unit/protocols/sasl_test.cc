// Base64, the wiped secret, and the PLAIN, LOGIN, EXTERNAL, XOAUTH2 and OAUTHBEARER exchanges.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <string>

#include "protocols/sasl/base64.h"
#include "protocols/sasl/credentials.h"
#include "protocols/sasl/digest.h"
#include "protocols/sasl/mechanisms.h"
#include "protocols/sasl/oauth.h"
#include "protocols/sasl/scram.h"

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
  EXPECT_EQ(FindMechanism("scram-sha-256"), Mechanism::kScramSha256);
  EXPECT_FALSE(FindMechanism("SCRAM-SHA-256-PLUS"));
  EXPECT_FALSE(FindMechanism("APOP"));  // a command, no SASL
  EXPECT_FALSE(FindMechanism("cleartext"));
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

// RFC 7628 §4.1, and Google's example of XOAUTH2.
TEST(Oauth, TakesTheExamples) {
  ServerExchange bearer(Mechanism::kOauthbearer);
  ASSERT_EQ(
      bearer.Begin("bixhPXVzZXJAZXhhbXBsZS5jb20sAWhvc3Q9c2VydmVyLmV4YW1wbGUuY29tAXBvcnQ9MTQzAW"
                   "F1dGg9QmVhcmVyIHZGOWRmdDRxbVRjMk52YjNSbGNrQmhiSFJoZG1semRHRXVZMjl0Q2c9PQEB"),
      Status::kDone);
  Credentials credentials = bearer.TakeCredentials();
  EXPECT_EQ(credentials.mechanism, Mechanism::kOauthbearer);
  EXPECT_EQ(credentials.authentication_identity, "user@example.com");
  EXPECT_EQ(credentials.password.Reveal(), "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==");

  ServerExchange google(Mechanism::kXoauth2);
  ASSERT_EQ(google.Begin({}), Status::kChallenge);
  EXPECT_EQ(google.challenge(), "");
  ASSERT_EQ(google.Step(Encode("user=someuser@example.com\1auth=Bearer ya29.vF9dft4qmTc2\1\1"sv)),
            Status::kDone);
  credentials = google.TakeCredentials();
  EXPECT_EQ(credentials.authentication_identity, "someuser@example.com");
  EXPECT_EQ(credentials.password.Reveal(), "ya29.vF9dft4qmTc2");
}

TEST(Credentials, HaveTheirBounds) {
  const auto of = [](Mechanism mechanism, size_t user, size_t wish, size_t secret) {
    return Credentials{mechanism, std::string(wish, 'w'), std::string(user, 'u'),
                       Secret(std::string(secret, 's'))};
  };
  for (const Mechanism mechanism : {Mechanism::kPlain, Mechanism::kLogin, Mechanism::kProtocol,
                                    Mechanism::kScramSha256, Mechanism::kXoauth2}) {
    EXPECT_FALSE(IsTooLong(of(mechanism, 1000, 24, 4096)));
    EXPECT_TRUE(IsTooLong(of(mechanism, 1000, 25, 1)));
    EXPECT_EQ(IsTooLong(of(mechanism, 5, 0, 4097)), !IsToken(mechanism));
    EXPECT_EQ(IsLongToken(of(mechanism, 5, 0, 4097)), IsToken(mechanism));
    EXPECT_FALSE(IsLongToken(of(mechanism, 5, 0, 4096)));
    EXPECT_TRUE(IsTooLong(of(mechanism, 5, 0, 8193)));
  }
  EXPECT_FALSE(IsTooLong(of(Mechanism::kOauthbearer, 255, 0, 8192)));
  Buffer message;
  ASSERT_TRUE(AppendFirst(Mechanism::kPlain, of(Mechanism::kPlain, 1000, 24, 4096), message));
  EXPECT_EQ(message.size(), 6832);
}

TEST(Oauth, RefusesMalformedMessages) {
  for (const std::string_view message :
       {""sv, "\1"sv, "n,,\1auth=Bearer x\1\1"sv, "n,a=,\1auth=Bearer x\1\1"sv, "n,a=bob,\1\1"sv,
        "n,a=bob,\1auth=Bearer x\1"sv, "n,a=bob,\1auth=Bearer \1\1"sv,
        "n,a=bob,\1auth=Basic x\1\1"sv, "n,a=bob,\1auth=Bearer a b\1\1"sv,
        "n,a=bob,\1auth=Bearer x\1auth=Bearer y\1\1"sv, "n,a=b=ob,\1auth=Bearer x\1\1"sv,
        "n,a=b\nb,\1auth=Bearer x\1\1"sv, "p=tls-exporter,a=bob,\1auth=Bearer x\1\1"sv,
        "user=bob\1auth=Bearer x\1\1"sv, "n,a=bob,auth=Bearer x\1\1"sv}) {
    EXPECT_FALSE(ParseOauth(Mechanism::kOauthbearer, message)) << message;
  }
  for (const std::string_view message :
       {""sv, "\1\1"sv, "user=bob\1\1"sv, "auth=Bearer x\1\1"sv, "user=\1auth=Bearer x\1\1"sv,
        "user=bob\1user=eve\1auth=Bearer x\1\1"sv, "user=b\rb\1auth=Bearer x\1\1"sv,
        "user=bob\1auth=Bearer x"sv, "n,a=bob,\1auth=Bearer x\1\1"sv}) {
    EXPECT_FALSE(ParseOauth(Mechanism::kXoauth2, message)) << message;
  }
}

TEST(Oauth, IsReadAsItIsWritten) {
  for (const Mechanism mechanism : {Mechanism::kXoauth2, Mechanism::kOauthbearer}) {
    const Credentials written{mechanism, "", "a,b=c@example.org", Secret("t~o/k+e.n==")};
    Buffer message;
    ASSERT_TRUE(AppendOauth(mechanism, written, message));
    const auto read = ParseOauth(mechanism, message.view());
    ASSERT_TRUE(read) << message.view();
    EXPECT_EQ(read->authentication_identity, written.authentication_identity);
    EXPECT_EQ(read->password.Reveal(), written.password.Reveal());
  }
  Buffer nothing;
  EXPECT_FALSE(
      AppendOauth(Mechanism::kXoauth2, {Mechanism::kPlain, "", "bob", Secret("a b")}, nothing));
  EXPECT_TRUE(nothing.empty());
}

// RFC 5802 §5, RFC 7677 §3
TEST(Scram, NamesTheUserAndKeepsTheMessage) {
  const std::string_view message = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
  ServerExchange exchange(Mechanism::kScramSha256);
  ASSERT_EQ(exchange.Begin({}), Status::kChallenge);
  EXPECT_EQ(exchange.challenge(), "");
  ASSERT_EQ(exchange.Step(Encode(message)), Status::kDone);
  const Credentials credentials = exchange.TakeCredentials();
  EXPECT_EQ(credentials.mechanism, Mechanism::kScramSha256);
  EXPECT_EQ(credentials.authentication_identity, "user");
  EXPECT_EQ(credentials.authorization_identity, "");
  Buffer first;
  ASSERT_TRUE(AppendFirst(Mechanism::kScramSha256, credentials, first));
  EXPECT_EQ(first.view(), Encode(message));
  const auto other = ParseScramFirst(Mechanism::kScramSha1, "y,a=ad=2Cmin,n=us=3Der,r=x,z=ext");
  ASSERT_TRUE(other);
  EXPECT_EQ(other->authorization_identity, "ad,min");
  EXPECT_EQ(other->authentication_identity, "us=er");
}

TEST(Scram, RefusesMalformedMessagesAndChannelBinding) {
  for (const std::string_view message :
       {""sv, "n"sv, "n,"sv, "n,,"sv, "n,,n=user"sv, "n,,n=user,"sv, "n,,n=user,r="sv,
        "n,,n=,r=x"sv, "n,,r=x"sv, "n,,m=1,n=user,r=x"sv, "n,a=,n=user,r=x"sv, "n,x,n=user,r=x"sv,
        "n,,n=us=2Xer,r=x"sv, "n,,n=us\ner,r=x"sv, "n,,n=us\0er,r=x"sv,
        "p=tls-exporter,,n=user,r=x"sv, "z,,n=user,r=x"sv}) {
    EXPECT_FALSE(ParseScramFirst(Mechanism::kScramSha256, message)) << message;
  }
  EXPECT_FALSE(ParseScramFirst(Mechanism::kScramSha256, "n,,n=user,r=" + std::string(3000, 'x')));
}

// RFC 2195 §3, RFC 1939 §7
TEST(Digest, IsANameAndAnMd5) {
  const auto tim = ParseDigest(Mechanism::kCramMd5, "tim b913a602c7eda7a495b4e6e7334d3890");
  ASSERT_TRUE(tim);
  EXPECT_EQ(tim->mechanism, Mechanism::kCramMd5);
  EXPECT_EQ(tim->authentication_identity, "tim");
  EXPECT_EQ(tim->authorization_identity, "");
  EXPECT_EQ(tim->password.Reveal(), "b913a602c7eda7a495b4e6e7334d3890");
  const std::string digest = " C4C9334bac560ecc979e58001b3e22fb";
  EXPECT_EQ(ParseDigest(Mechanism::kApop, " a  b" + digest)->authentication_identity, " a  b");
  for (const std::string& message :
       {std::string(), digest, digest.substr(1), "tim" + digest + "0", "tim" + digest.substr(0, 32),
        "tim" + digest.substr(1), "tim" + digest + " ", "ti\nm" + digest, "ti\rm" + digest,
        std::string("ti") + '\0' + digest, "tim\t" + digest.substr(1),
        "tim" + digest.substr(0, 32) + "g"}) {
    EXPECT_FALSE(ParseDigest(Mechanism::kApop, message)) << message;
  }
}

TEST(CramMd5, BeginsWithTheServer) {
  ServerExchange exchange(Mechanism::kCramMd5);
  EXPECT_EQ(exchange.Begin({}), Status::kDone);
  EXPECT_EQ(exchange.TakeCredentials().authentication_identity, "");
  ServerExchange impatient(Mechanism::kCramMd5);
  EXPECT_EQ(impatient.Begin("="), Status::kMalformed);
}

}  // namespace
}  // namespace gatepost::sasl
