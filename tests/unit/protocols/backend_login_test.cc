// How a password or token is presented to a backend, in the three protocols alike.
// SPDX-License-Identifier: Apache-2.0
#include "protocols/backend_login.h"

#include <gtest/gtest.h>

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocols/engines.h"
#include "protocols/sasl/base64.h"

namespace gatepost::protocols {
namespace {

using sasl::Mechanism;

constexpr std::array kProtocols = {Protocol::kImap, Protocol::kPop3, Protocol::kSmtp};

std::string Encode(std::string_view bytes) {
  Buffer output;
  sasl::EncodeBase64(bytes, output);
  return std::string(output.view());
}

sasl::Credentials Token(Mechanism mechanism = Mechanism::kOauthbearer) {
  return {mechanism, "", "bob", sasl::Secret("to.ken")};
}
const std::string kXoauth2 = Encode("user=bob\1auth=Bearer to.ken\1\1");
const std::string kOauthbearer = Encode("n,a=bob,\1auth=Bearer to.ken\1\1");
const std::string kPlain = Encode(std::string_view("\0bob\0to.ken", 11));

// Backend plays a backend of any protocol that offers `mechanisms`, whole or byte by byte.
class Backend {
 public:
  Backend(Protocol protocol, const sasl::Credentials& credentials, std::string_view mechanisms,
          LoginMechanism wanted = LoginMechanism::kAuto, bool bytewise = false)
      : protocol_(protocol), bytewise_(bytewise) {
    ClientFacts facts;
    facts.hostname = "gate.example";
    facts.credentials = &credentials;
    facts.login_mechanism = wanted;
    engine_ = MakeClientEngine(protocol, std::move(facts));
    Says("");
    switch (protocol) {
      case Protocol::kImap: {
        std::string list = "IMAP4rev1 SASL-IR";
        for (std::string_view rest = mechanisms; !rest.empty();) {
          const std::string_view name = rest.substr(0, rest.find(' '));
          list.append(" AUTH=").append(name);
          rest.remove_prefix(std::min(name.size() + 1, rest.size()));
        }
        Says("* OK [CAPABILITY " + list + "] hi\r\n");
        break;
      }
      case Protocol::kPop3:
        Says("+OK hi\r\n");
        Says("+OK\r\nUSER\r\nSASL " + std::string(mechanisms) + "\r\n.\r\n");
        break;
      case Protocol::kSmtp:
        Says("220 hi\r\n");
        Says("250-backend\r\n250 AUTH " + std::string(mechanisms) + "\r\n");
        break;
      case Protocol::kCount:
        break;
    }
  }

  void Says(std::string_view bytes) {
    Buffer output;
    const auto next = [&] { action_.emplace(engine_->Next(input, output)); };
    if (bytes.empty()) next();
    while (!bytes.empty()) {
      const std::string_view piece = bytes.substr(0, bytewise_ ? 1 : bytes.size());
      bytes.remove_prefix(piece.size());
      input << piece;
      next();
    }
    sent = output.view();
  }
  void Challenges(std::string_view text) {
    Says((protocol_ == Protocol::kSmtp ? "334 " : "+ ") + Encode(text) + "\r\n");
  }
  void Answer(std::string_view message) {
    engine_->Answer(message);
    Says("");
  }
  void Refuses() {
    Says(protocol_ == Protocol::kSmtp   ? "535 5.7.8 no\r\n"
         : protocol_ == Protocol::kPop3 ? "-ERR [AUTH] no\r\n"
                                        : "G1 NO [AUTHENTICATIONFAILED] no\r\n");
  }
  void Accepts() {
    Says(protocol_ == Protocol::kSmtp   ? "235 2.7.0 in\r\n"
         : protocol_ == Protocol::kPop3 ? "+OK in\r\n"
                                        : "G1 OK in\r\n");
  }

  // Whether the first message went out in the way of the protocol; POP3 waits for its challenge.
  bool Presents(std::string_view mechanism, const std::string& message) {
    const std::string name(mechanism);
    if (protocol_ == Protocol::kImap) {
      return sent == "G1 AUTHENTICATE " + name + " " + message + "\r\n";
    }
    if (protocol_ == Protocol::kSmtp) return sent == "AUTH " + name + " " + message + "\r\n";
    if (sent != "AUTH " + name + "\r\n") return false;
    Says("+ \r\n");
    return sent == message + "\r\n";
  }

  template <typename Action>
  const Action* Is() const {
    return std::get_if<Action>(&*action_);
  }
  bool Fails(BackendFailure reason) const {
    return Is<Failed>() != nullptr && Is<Failed>()->reason == reason;
  }

  Buffer input;
  std::string sent;

 private:
  Protocol protocol_;
  bool bytewise_;
  std::unique_ptr<ClientEngine> engine_;
  std::optional<ClientAction> action_;
};

TEST(BackendLogin, FindsAMechanismInEachProtocolsWords) {
  EXPECT_TRUE(OffersMechanism({"IMAP4rev1", "AUTH=PLAIN", "auth=xoauth2"}, Mechanism::kXoauth2));
  EXPECT_TRUE(OffersMechanism({"TOP", "SASL PLAIN XOAUTH2"}, Mechanism::kXoauth2));
  EXPECT_TRUE(OffersMechanism({"SIZE 1", "AUTH PLAIN XOAUTH2"}, Mechanism::kXoauth2));
  EXPECT_TRUE(OffersMechanism({"AUTH=LOGIN XOAUTH2"}, Mechanism::kXoauth2));
  EXPECT_FALSE(OffersMechanism({"XOAUTH2", "AUTH", "AUTH=XOAUTH2X", "SASL", "AUTHXOAUTH2"},
                               Mechanism::kXoauth2));
}

TEST(BackendLogin, PassesATokenOnInTheClientsMechanismOrTheOther) {
  const auto bearer = Token();
  const auto google = Token(Mechanism::kXoauth2);
  for (const Protocol protocol : kProtocols) {
    for (const bool bytewise : {false, true}) {
      const auto open = LoginMechanism::kAuto;
      Backend same(protocol, bearer, "PLAIN XOAUTH2 OAUTHBEARER", open, bytewise);
      EXPECT_TRUE(same.Presents("OAUTHBEARER", kOauthbearer)) << same.sent;
      same.Accepts();
      EXPECT_TRUE(same.Is<LoggedIn>());
      Backend other(protocol, bearer, "PLAIN XOAUTH2", open, bytewise);
      EXPECT_TRUE(other.Presents("XOAUTH2", kXoauth2)) << other.sent;
      Backend reverse(protocol, google, "PLAIN OAUTHBEARER", open, bytewise);
      EXPECT_TRUE(reverse.Presents("OAUTHBEARER", kOauthbearer)) << reverse.sent;
    }
    // A token is no password.
    Backend none(protocol, bearer, "PLAIN LOGIN");
    EXPECT_TRUE(none.Fails(BackendFailure::kNoMechanism));
    EXPECT_EQ(none.sent, "");
  }
}

TEST(BackendLogin, LetsTheClientAnswerWhatARefusedTokenIsAsked) {
  const auto bearer = Token();
  for (const Protocol protocol : kProtocols) {
    for (const bool bytewise : {false, true}) {
      Backend backend(protocol, bearer, "XOAUTH2", LoginMechanism::kAuto, bytewise);
      EXPECT_TRUE(backend.Presents("XOAUTH2", kXoauth2));
      backend.Challenges(R"({"status":"401"})");
      ASSERT_TRUE(backend.Is<Challenged>());
      EXPECT_EQ(backend.Is<Challenged>()->message, R"({"status":"401"})");
      EXPECT_EQ(backend.sent, "");
      backend.Answer("\1");  // of OAUTHBEARER; XOAUTH2 has nothing in its place
      EXPECT_EQ(backend.sent, "\r\n");
      backend.Refuses();
      ASSERT_TRUE(backend.Is<Refused>());
      EXPECT_EQ(backend.Is<Refused>()->reason, LoginFailure::kBadCredentials);
    }
    // One who speaks PLAIN to us can't be asked: we answer.
    const sasl::Credentials plain = {Mechanism::kPlain, "", "bob", sasl::Secret("to.ken")};
    Backend backend(protocol, plain, "PLAIN OAUTHBEARER", LoginMechanism::kOauthbearer);
    EXPECT_TRUE(backend.Presents("OAUTHBEARER", kOauthbearer)) << backend.sent;
    backend.Challenges("{}");
    EXPECT_TRUE(backend.Is<NeedInput>());
    EXPECT_EQ(backend.sent, "AQ==\r\n");
    backend.Refuses();
    EXPECT_TRUE(backend.Is<Refused>());
  }
}

TEST(BackendLogin, RelaysScramAsItIs) {
  const std::string first = "n,a=x,n=bob,r=nonce";
  const sasl::Credentials scram = {Mechanism::kScramSha256, "x", "bob", sasl::Secret(first)};
  for (const Protocol protocol : kProtocols) {
    for (const bool bytewise : {false, true}) {
      Backend backend(protocol, scram, "PLAIN SCRAM-SHA-256", LoginMechanism::kAuto, bytewise);
      EXPECT_TRUE(backend.Presents("SCRAM-SHA-256", Encode(first))) << backend.sent;
      backend.Challenges("r=nonce2,s=c2FsdA==,i=4096");
      ASSERT_TRUE(backend.Is<Challenged>());
      EXPECT_EQ(backend.Is<Challenged>()->message, "r=nonce2,s=c2FsdA==,i=4096");
      backend.Answer("c=biws,r=nonce2,p=proof");
      EXPECT_EQ(backend.sent, Encode("c=biws,r=nonce2,p=proof") + "\r\n");
      backend.Challenges("v=signature");
      ASSERT_TRUE(backend.Is<Challenged>());
      EXPECT_EQ(backend.Is<Challenged>()->message, "v=signature");
      backend.Answer("");
      EXPECT_EQ(backend.sent, "\r\n");
      backend.Accepts();
      EXPECT_TRUE(backend.Is<LoggedIn>());
    }
    Backend absent(protocol, scram, "PLAIN SCRAM-SHA-1 SCRAM-SHA-256-PLUS");
    EXPECT_TRUE(absent.Fails(BackendFailure::kNoMechanism));
    Backend told(protocol, scram, "PLAIN SCRAM-SHA-256", LoginMechanism::kPlain);
    EXPECT_TRUE(told.Fails(BackendFailure::kNoMechanism));
  }
}

TEST(BackendLogin, ChallengesOutOfTurnBreakTheProtocol) {
  const auto bearer = Token();
  const sasl::Credentials plain = {Mechanism::kPlain, "", "bob", sasl::Secret("to.ken")};
  for (const Protocol protocol : kProtocols) {
    Backend done(protocol, plain, "PLAIN", LoginMechanism::kPlain);
    EXPECT_TRUE(done.Presents("PLAIN", kPlain));
    done.Challenges("more");
    EXPECT_TRUE(done.Fails(BackendFailure::kProtocolError));
    Backend twice(protocol, bearer, "OAUTHBEARER");
    EXPECT_TRUE(twice.Presents("OAUTHBEARER", kOauthbearer));
    twice.Challenges("{}");
    twice.Answer("\1");
    twice.Challenges("{}");
    EXPECT_TRUE(twice.Fails(BackendFailure::kProtocolError));
    Backend nonsense(protocol, bearer, "OAUTHBEARER");
    EXPECT_TRUE(nonsense.Presents("OAUTHBEARER", kOauthbearer));
    nonsense.Says(protocol == Protocol::kSmtp ? "334 ?\r\n" : "+ ?\r\n");
    EXPECT_TRUE(nonsense.Fails(BackendFailure::kProtocolError));
    // What comes before the client has answered is no answer to it.
    Backend early(protocol, bearer, "OAUTHBEARER");
    EXPECT_TRUE(early.Presents("OAUTHBEARER", kOauthbearer));
    early.Challenges("{}");
    early.input << (protocol == Protocol::kSmtp   ? "235 in\r\n"
                    : protocol == Protocol::kPop3 ? "+OK in\r\n"
                                                  : "G1 OK in\r\n");
    early.Answer("\1");
    EXPECT_TRUE(early.Fails(BackendFailure::kProtocolError));
  }
}

TEST(BackendLogin, PresentsThePasswordAsItIsTold) {
  const sasl::Credentials plain = {Mechanism::kPlain, "", "bob", sasl::Secret("to.ken")};
  for (const Protocol protocol : kProtocols) {
    const std::string_view all = "LOGIN PLAIN XOAUTH2 OAUTHBEARER";
    Backend by_plain(protocol, plain, all, LoginMechanism::kPlain);
    EXPECT_TRUE(by_plain.Presents("PLAIN", kPlain)) << by_plain.sent;
    Backend by_xoauth2(protocol, plain, all, LoginMechanism::kXoauth2);
    EXPECT_TRUE(by_xoauth2.Presents("XOAUTH2", kXoauth2)) << by_xoauth2.sent;
    Backend by_login(protocol, plain, all, LoginMechanism::kLogin);
    EXPECT_EQ(by_login.sent, protocol == Protocol::kImap   ? "G1 LOGIN \"bob\" \"to.ken\"\r\n"
                             : protocol == Protocol::kPop3 ? "USER bob\r\n"
                                                           : "AUTH LOGIN\r\n");
    // What isn't offered isn't tried.
    for (const LoginMechanism wanted :
         {LoginMechanism::kPlain, LoginMechanism::kXoauth2, LoginMechanism::kOauthbearer}) {
      Backend absent(protocol, plain, "CRAM-MD5", wanted);
      EXPECT_TRUE(absent.Fails(BackendFailure::kNoMechanism));
      EXPECT_EQ(absent.sent, "");
    }
  }
}

TEST(BackendLogin, NeverDropsAnAuthorizationIdentity) {
  const sasl::Credentials plain = {Mechanism::kPlain, "alice", "bob", sasl::Secret("to.ken")};
  for (const Protocol protocol : kProtocols) {
    for (const LoginMechanism wanted :
         {LoginMechanism::kLogin, LoginMechanism::kXoauth2, LoginMechanism::kOauthbearer}) {
      Backend backend(protocol, plain, "PLAIN LOGIN XOAUTH2 OAUTHBEARER", wanted);
      EXPECT_TRUE(backend.Fails(BackendFailure::kNoAuthorization));
      EXPECT_EQ(backend.sent, "");
    }
  }
}

TEST(BackendLogin, WritesNoTokenThatIsNone) {
  const sasl::Credentials plain = {Mechanism::kPlain, "", "bob", sasl::Secret("two words")};
  for (const Protocol protocol : kProtocols) {
    Backend backend(protocol, plain, "XOAUTH2", LoginMechanism::kXoauth2);
    EXPECT_TRUE(backend.Fails(BackendFailure::kUnencodable));
    EXPECT_EQ(backend.sent, "");
  }
}

}  // namespace
}  // namespace gatepost::protocols
