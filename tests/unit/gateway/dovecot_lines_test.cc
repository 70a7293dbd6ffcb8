// The lines of Dovecot's auth client protocol, read and written.
// SPDX-License-Identifier: Apache-2.0
#include "gateway/auth/dovecot_lines.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace gatepost::auth {
namespace {

using protocols::LoginFailure;
using std::string_view_literals::operator""sv;

template <typename Line>
Line Parse(std::string_view text) {
  auto line = ParseDovecotLine(text);
  EXPECT_TRUE(line) << text;
  EXPECT_TRUE(line && std::holds_alternative<Line>(*line)) << text;
  return std::get<Line>(std::move(*line));
}

TEST(DovecotLines, ReadsTheHandshake) {
  EXPECT_EQ(Parse<DovecotVersion>("VERSION\t1\t2").major, 1U);
  EXPECT_EQ(Parse<DovecotMechanism>("MECH\tSCRAM-SHA-256\tmutual-auth").mechanism,
            sasl::Mechanism::kScramSha256);
  EXPECT_FALSE(Parse<DovecotMechanism>("MECH\tGSSAPI\tactive").mechanism);
  (void)Parse<DovecotOther>("SPID\t123");
  (void)Parse<DovecotOther>("COOKIE\tabc");
  (void)Parse<DovecotOther>("something\tnew");
  (void)Parse<DovecotOther>("");
  (void)Parse<DovecotDone>("DONE");
}

TEST(DovecotLines, ReadsAnswersWithEscapedFields) {
  const auto ok = Parse<DovecotOk>("OK\t7\tuser=al\001tice\tproxy\tpass=a\0011\001n\0010b=c");
  EXPECT_EQ(ok.id, 7U);
  EXPECT_EQ(ok.fields.Find("user"), "al\tice");
  EXPECT_EQ(ok.fields.Find("proxy"), "");
  EXPECT_EQ(ok.fields.Find("pass"), "a\001\n\0b=c"sv);
  EXPECT_FALSE(ok.fields.Find("use"));
  EXPECT_EQ(Parse<DovecotFail>("FAIL\t4294967295\tcode=temp_fail").id, 4294967295U);
  const auto next = Parse<DovecotContinue>("CONT\t3\tcj1ub25jZQ==");
  EXPECT_EQ(next.id, 3U);
  EXPECT_EQ(next.challenge.Reveal(), "r=nonce");
  EXPECT_TRUE(Parse<DovecotContinue>("CONT\t3\t").challenge.empty());
}

TEST(DovecotLines, RefusesWhatBreaksTheProtocol) {
  for (const std::string_view line :
       {"VERSION"sv, "VERSION\tx\t1"sv, "OK"sv, "OK\tx"sv, "OK\t-1"sv, "OK\t4294967296"sv,
        "FAIL\t"sv, "CONT\t1\t#"sv, "CONT\t1\tx"sv, "CONT\t\tcj1u"sv}) {
    EXPECT_FALSE(ParseDovecotLine(line)) << line;
  }
}

class Question {
 public:
  std::string With(const sasl::Credentials& credentials) {
    const Request request{.id = {},
                          .credentials = credentials,
                          .protocol = protocols::Protocol::kPop3,
                          .listener = listener_,
                          .client = client_,
                          .local = local_,
                          .real_client = proxy_.port() != 0 ? &proxy_ : nullptr,
                          .real_local = &real_local_,
                          .session = "0123",
                          .client_name = {},
                          .tls = tls_ ? &facts_ : nullptr,
                          .certificate = tls_ ? &certificate_ : nullptr};
    protocols::Buffer line;
    if (!AppendDovecotAuth(5, request, line)) return "unwritable";
    return std::string(line.view());
  }
  Question& Tls() {
    tls_ = true;
    facts_.server_name = "mail.example.org";
    certificate_.verified = true;
    return *this;
  }
  Question& Proxied() {
    proxy_ = *net::Address::Parse("192.0.2.1", 50000);
    return *this;
  }

 private:
  config::Listener listener_;
  net::Address client_ = *net::Address::Parse("192.0.2.7", 40000);
  net::Address local_ = *net::Address::Parse("2001:db8::1", 995);
  net::Address proxy_;
  net::Address real_local_ = *net::Address::Parse("2001:db8::2", 1995);
  tls::Facts facts_;
  tls::ClientCertificate certificate_;
  bool tls_ = false;
};
constexpr std::string_view kWhere =
    "\tsession=0123\tlip=2001:db8::1\trip=192.0.2.7\tlport=995\trport=40000";

TEST(DovecotLines, PutsAPasswordByPlain) {
  for (const auto mechanism :
       {sasl::Mechanism::kPlain, sasl::Mechanism::kLogin, sasl::Mechanism::kProtocol}) {
    EXPECT_EQ(Question().With({mechanism, "", "bob", sasl::Secret("secret")}),
              "AUTH\t5\tPLAIN\tservice=pop3\tprotocol=pop3" + std::string(kWhere) +
                  "\tresp=AGJvYgBzZWNyZXQ=\n");
  }
}

TEST(DovecotLines, SaysWhatTlsAndCertificateSay) {
  EXPECT_EQ(
      Question().Tls().With({sasl::Mechanism::kExternal, "", "bo\tb", {}}),
      "AUTH\t5\tEXTERNAL\tservice=pop3\tprotocol=pop3\tsecured=tls\tlocal_name=mail.example.org"
      "\tvalid-client-cert\tcert_username=bo\001tb" +
          std::string(kWhere) + "\tresp=\n");
}

TEST(DovecotLines, SaysWhereTheConnectionReallyComesFrom) {
  EXPECT_TRUE(Question()
                  .Proxied()
                  .With({sasl::Mechanism::kCramMd5, "", "", {}})
                  .ends_with(std::string(kWhere) +
                             "\treal_lip=2001:db8::2\treal_rip=192.0.2.1\treal_lport=1995"
                             "\treal_rport=50000\n"));
}

TEST(DovecotLines, PassesFirstMessagesOnOrNone) {
  EXPECT_TRUE(Question()
                  .With({sasl::Mechanism::kScramSha1, "", "bob", sasl::Secret("n,,n=bob,r=x")})
                  .ends_with("\tresp=biwsbj1ib2Iscj14\n"));
  EXPECT_TRUE(Question().With({sasl::Mechanism::kCramMd5, "", "", {}}).ends_with("rport=40000\n"));
  EXPECT_TRUE(Question()
                  .With({sasl::Mechanism::kXoauth2, "", "bob", sasl::Secret("tok")})
                  .ends_with("\tresp=dXNlcj1ib2IBYXV0aD1CZWFyZXIgdG9rAQE=\n"));
  // Dovecot would give up the connection, and with it everybody else's questions.
  EXPECT_EQ(
      Question().With({sasl::Mechanism::kPlain, "", "bob", sasl::Secret(std::string(12'300, 'x'))}),
      "unwritable");
  protocols::Buffer line;
  EXPECT_TRUE(AppendDovecotContinue(7, "proof", line));
  EXPECT_EQ(line.view(), "CONT\t7\tcHJvb2Y=\n");
  EXPECT_FALSE(AppendDovecotContinue(7, std::string(12'300, 'x'), line));
  AppendDovecotCancel(7, line);
  EXPECT_EQ(line.view(), "CONT\t7\tcHJvb2Y=\nCANCEL\t7\n");
}

Verdict Ok(const std::string& fields) {
  return VerdictOf(Parse<DovecotOk>("OK\t1\t" + fields), protocols::Protocol::kImap);
}

TEST(DovecotVerdict, SaysWhoItIsAndWhereTheyLive) {
  Verdict verdict = Ok("user=alice");
  EXPECT_TRUE(verdict.accepted);
  EXPECT_EQ(verdict.user, "alice");
  EXPECT_FALSE(verdict.backend);
  verdict = Ok("user=alice\tproxy\thost=store2.internal\tdestuser=al\tpass=other");
  EXPECT_EQ(verdict.backend, (config::Member{"store2.internal", 143}));
  EXPECT_EQ(verdict.backend_user, "al");
  ASSERT_TRUE(verdict.backend_password);
  EXPECT_EQ(verdict.backend_password->Reveal(), "other");
  verdict = Ok("user=alice\tproxy\thost=name\thostip=192.0.2.9\tport=1143");
  EXPECT_EQ(verdict.backend, (config::Member{"192.0.2.9", 1143}));
}

TEST(DovecotVerdict, AMasterSpeaksForTheUser) {
  const Verdict verdict = Ok("user=alice\tproxy\tmaster=gate\tpass=m");
  ASSERT_TRUE(verdict.backend_credentials);
  EXPECT_EQ(verdict.backend_credentials->authorization_identity, "alice");
  EXPECT_EQ(verdict.backend_credentials->authentication_identity, "gate");
  EXPECT_EQ(verdict.backend_credentials->password.Reveal(), "m");
  EXPECT_FALSE(Ok("user=alice\tmaster=gate").accepted);
}

TEST(DovecotVerdict, AcceptsNobodyWhomItShouldNotOrCannot) {
  const Verdict closed = Ok("user=alice\tnologin\treason=Closed for today");
  EXPECT_FALSE(closed.accepted);
  EXPECT_EQ(closed.reason, LoginFailure::kAuthorizationDenied);
  EXPECT_EQ(closed.message, "Closed for today");
  for (const std::string fields : {"host=store", "user=a\001nb", "user=a\thost=store\tport=0",
                                   "user=a\thost=store\tport=70000", "user=a\thost=st ore",
                                   "user=a\thost=", "user=a\tdestuser=b\001n",
                                   "user=a\tpass=x\001ny", "user=a\tproxy_mech=EXTERNAL"}) {
    const Verdict verdict = Ok(fields);
    EXPECT_FALSE(verdict.accepted) << fields;
    EXPECT_EQ(verdict.reason, LoginFailure::kBackendMisconfigured) << fields;
  }
}

// Dovecot's own login processes connect to port 993 where they are told ssl, and let who is passed
// on log in elsewhere with nologin.
TEST(DovecotVerdict, SaysHowTheBackendIsSpokenTo) {
  Verdict verdict = Ok("user=alice\tproxy\tnologin\thost=store\tssl=any-cert\tproxy_mech=xoauth2");
  EXPECT_TRUE(verdict.accepted);
  EXPECT_EQ(verdict.backend, (config::Member{"store", 993}));
  EXPECT_EQ(verdict.backend_tls, config::BackendTls::kImplicit);
  EXPECT_EQ(verdict.backend_mechanism, protocols::LoginMechanism::kXoauth2);
  verdict = Ok("user=alice\tproxy\thost=store\tstarttls=yes\tproxy_mech=LOGIN");
  EXPECT_EQ(verdict.backend, (config::Member{"store", 143}));
  EXPECT_EQ(verdict.backend_tls, config::BackendTls::kStartTls);
  EXPECT_EQ(verdict.backend_mechanism, protocols::LoginMechanism::kLogin);
  verdict = Ok("user=alice\tproxy\thost=store");
  EXPECT_FALSE(verdict.backend_tls);
  EXPECT_FALSE(verdict.backend_mechanism);
}

TEST(DovecotVerdict, KeepsALastMessageForTheClient) {
  const auto ok = Parse<DovecotOk>("OK\t1\tuser=alice\tresp=dj1h");
  EXPECT_EQ(FinalMessageOf(ok)->Reveal(), "v=a");
  EXPECT_TRUE(FinalMessageOf(Parse<DovecotOk>("OK\t1\tuser=alice"))->empty());
  EXPECT_FALSE(FinalMessageOf(Parse<DovecotOk>("OK\t1\tresp=?")));
}

TEST(DovecotVerdict, TellsRefusalsApart) {
  const auto reason = [](const std::string& fields) {
    const Verdict verdict = VerdictOf(Parse<DovecotFail>("FAIL\t1\t" + fields));
    EXPECT_FALSE(verdict.accepted);
    return verdict.reason;
  };
  EXPECT_EQ(reason("user=alice"), LoginFailure::kBadCredentials);
  EXPECT_EQ(reason("user=alice\tcode=temp_fail"), LoginFailure::kUnavailable);
  EXPECT_EQ(reason("user=alice\ttemp"), LoginFailure::kUnavailable);
  EXPECT_EQ(reason("code=authz_fail"), LoginFailure::kAuthorizationDenied);
  EXPECT_EQ(reason("code=user_disabled"), LoginFailure::kAccountDisabled);
  EXPECT_EQ(reason("code=pass_expired"), LoginFailure::kPasswordExpired);
  EXPECT_EQ(reason("code=invalid_base64"), LoginFailure::kBadCredentials);
  EXPECT_EQ(VerdictOf(Parse<DovecotFail>("FAIL\t1\treason=Ask\001nus")).message, "");
  EXPECT_EQ(VerdictOf(Parse<DovecotFail>("FAIL\t1\treason=Ask us")).message, "Ask us");
}

}  // namespace
}  // namespace gatepost::auth
