// SPDX-License-Identifier: Apache-2.0
#include "gateway/auth/auth_http.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "gateway/auth/http_response.h"
#include "tests/unit/gateway/authorities.h"

namespace gatepost::auth {
namespace {

using protocols::LoginFailure;
using protocols::Protocol;

std::string TextOf(const Request& request, const QuestionOptions& options = {}) {
  const Question question = MakeQuestion(request, options);
  return std::string(Whose(request.credentials, request.challenge).view()) +
         std::string(question.before.view()) + "(Client-Host)\r\n" +
         std::string(question.after.view());
}

class QuestionTest : public testing::Test {
 protected:
  QuestionTest()
      : credentials_(test::Login("alice", "secret")),
        client_(*net::Address::Parse("2001:db8::1", 40000)),
        local_(*net::Address::Parse("192.0.2.1", 993)),
        request_{.id = {},
                 .credentials = credentials_,
                 .protocol = Protocol::kImap,
                 .listener = listener_,
                 .client = client_,
                 .local = local_,
                 .session = {},
                 .client_name = {}} {}

  sasl::Credentials credentials_;
  config::Listener listener_;
  net::Address client_;
  net::Address local_;
  Request request_;
};

TEST_F(QuestionTest, HasTheFieldsOfNginxInTheirOrder) {
  EXPECT_EQ(TextOf(request_),
            "Auth-Method: plain\r\nAuth-User: alice\r\nAuth-Pass: secret\r\nAuth-Protocol: imap\r\n"
            "Auth-Login-Attempt: 1\r\nClient-IP: 2001:db8::1\r\n(Client-Host)\r\n"
            "Client-Port: 40000\r\nAuth-Port: 993\r\n");
  request_.proxied = true;
  request_.protocol = Protocol::kSmtp;
  request_.attempt = 7;
  tls::Facts tls;
  tls.version = "TLSv1.3";
  tls.openssl_cipher = "TLS_AES_128_GCM_SHA256";
  request_.tls = &tls;
  EXPECT_EQ(TextOf(request_, {.headers = {"X-Key: a b", "client-port: 1"}}),
            "Auth-Method: plain\r\nAuth-User: alice\r\nAuth-Pass: secret\r\nAuth-Protocol: smtp\r\n"
            "Auth-Login-Attempt: 7\r\nClient-IP: 2001:db8::1\r\n(Client-Host)\r\n"
            "Proxy-Protocol-Addr: 2001:db8::1\r\nProxy-Protocol-Port: 40000\r\n"
            "Proxy-Protocol-Server-Addr: 192.0.2.1\r\nProxy-Protocol-Server-Port: 993\r\n"
            "Auth-SSL: on\r\nAuth-SSL-Protocol: TLSv1.3\r\n"
            "Auth-SSL-Cipher: TLS_AES_128_GCM_SHA256\r\n"
            "Auth-Port: 993\r\nX-Key: a b\r\nclient-port: 1\r\n");
}

// nginx: src/mail/ngx_mail_auth_http_module.c
TEST_F(QuestionTest, SaysWhatADigestIsOf) {
  const std::pair<sasl::Mechanism, std::string> cases[] = {{sasl::Mechanism::kApop, "apop"},
                                                           {sasl::Mechanism::kCramMd5, "cram-md5"}};
  for (const auto& [mechanism, method] : cases) {
    credentials_ = test::Login("al ice", "00ff", mechanism);
    request_.challenge = "<1.2@mail.example.org>";
    EXPECT_TRUE(TextOf(request_).starts_with(
        "Auth-Method: " + method +
        "\r\nAuth-User: al%20ice\r\nAuth-Pass: 00ff\r\nAuth-Salt: <1.2@mail.example.org>\r\n"
        "Auth-Protocol: imap\r\n"));
  }
  request_.challenge = {};
  EXPECT_EQ(TextOf(request_).find("Auth-Salt"), std::string::npos);
}

// nginx: smtp_auth none
TEST_F(QuestionTest, TellsOfARecipientWhatTheClientSaid) {
  const protocols::RelayScanner::Recipient recipient = {"client\x01name",
                                                        "MAIL FROM:<a@example.org> SIZE=3",
                                                        "RCPT TO:<gr\xC3\xBC\x7F@example.org>", 3};
  request_.recipient = &recipient;
  request_.protocol = Protocol::kSmtp;
  request_.proxied = true;
  const tls::Facts tls;
  request_.tls = &tls;
  const Question question = MakeQuestion(request_, {});
  EXPECT_EQ(NobodyLogsIn().view(), "Auth-Method: none\r\nAuth-User: \r\nAuth-Pass: \r\n");
  EXPECT_NE(question.after.view().find(
                "\r\nAuth-SMTP-Helo: client?name\r\n"
                "Auth-SMTP-From: MAIL FROM:<a@example.org> SIZE=3\r\n"
                "Auth-SMTP-To: RCPT TO:<gr\xC3\xBC?@example.org>\r\nAuth-SSL: on\r\n"),
            std::string_view::npos)
      << question.after.view();
}

TEST_F(QuestionTest, EncodesWhateverCouldBeMisread) {
  std::string every;
  for (int c = 1; c < 256; ++c) every += static_cast<char>(c);
  credentials_ = test::Login(every, every);
  const std::string text = TextOf(request_);
  const size_t begin = text.find("Auth-User: ") + 11;
  const std::string encoded = text.substr(begin, text.find("\r\n", begin) - begin);
  std::string decoded;
  for (size_t i = 0; i < encoded.size(); ++i) {
    const bool escape = encoded[i] == '%';
    decoded +=
        escape ? static_cast<char>(std::stoi(encoded.substr(i + 1, 2), nullptr, 16)) : encoded[i];
    EXPECT_TRUE(escape || std::isalnum(static_cast<unsigned char>(encoded[i])) != 0 ||
                std::string("_.~-").find(encoded[i]) != std::string::npos);
    if (escape) i += 2;
  }
  EXPECT_EQ(decoded, every);
  EXPECT_EQ(encoded.substr(0, 12), "%01%02%03%04");
}

TEST_F(QuestionTest, TellsOfTheClientsCertificateWhereOneWasAskedFor) {
  listener_.client_certificates = config::ClientCertificates::kRequest;
  const tls::Facts tls;
  request_.tls = &tls;
  EXPECT_NE(TextOf(request_).find("Auth-SSL-Verify: NONE\r\nClient-Port"), std::string::npos);
  tls::ClientCertificate certificate;
  certificate.problem = "certificate has expired";
  certificate.subject = "CN=alice";
  certificate.issuer = "CN=ca";
  certificate.serial = "0A";
  certificate.sha1 = "ff";
  certificate.der = std::string(49, '\0');
  request_.certificate = &certificate;
  EXPECT_NE(TextOf(request_).find(
                "Auth-SSL-Verify: FAILED:certificate has expired\r\nAuth-SSL-Subject: CN=alice\r\n"
                "Auth-SSL-Issuer: CN=ca\r\nAuth-SSL-Serial: 0A\r\nAuth-SSL-Fingerprint: ff\r\n"),
            std::string::npos);
  EXPECT_EQ(TextOf(request_).find("Auth-SSL-Cert:"), std::string::npos);
  certificate.verified = true;
  const std::string text = TextOf(request_, {.client_certificate = true});
  EXPECT_NE(text.find("Auth-SSL-Verify: SUCCESS\r\n"), std::string::npos);
  EXPECT_NE(text.find("\r\nAuth-SSL-Cert: -----BEGIN%20CERTIFICATE-----%0A" + std::string(64, 'A') +
                      "%0AAA%3D%3D%0A-----END%20CERTIFICATE-----%0A\r\n"),
            std::string::npos);
}

using Fields = std::vector<std::pair<std::string, std::string>>;

tl::expected<HttpAnswer::Meaning, std::string> Read(const Fields& fields,
                                                    Protocol protocol = Protocol::kImap,
                                                    bool needs_password = false,
                                                    bool recipient = false) {
  HttpAnswer answer;
  for (const auto& [name, value] : fields) answer.Take(name, value);
  return answer.Finish({protocol, needs_password, recipient});
}

TEST(HttpAnswer, LetsIn) {
  auto meaning = Read({{"AUTH-STATUS", "OK"},
                       {"Auth-Server", "192.0.2.1"},
                       {"auth-port", "143"},
                       {"Auth-User", "a b%20"},
                       {"Auth-Pass", "p"},
                       {"Auth-Wait", "3"},
                       {"X-Other", "\x01"}});
  ASSERT_TRUE(meaning) << meaning.error();
  const Verdict& verdict = meaning->verdict;
  EXPECT_FALSE(meaning->wait);
  EXPECT_TRUE(verdict.accepted && !verdict.backend_decides && !verdict.end_session);
  EXPECT_EQ(verdict.backend, (config::Member{"192.0.2.1", 143}));
  EXPECT_EQ(verdict.backend_user, "a b%20");
  EXPECT_EQ(verdict.backend_password->Reveal(), "p");
  for (const char* host : {"::1", "[::1]", "store1.internal", "localhost"}) {
    EXPECT_TRUE(Read({{"Auth-Status", "OK"}, {"Auth-Server", host}, {"Auth-Port", "65535"}}))
        << host;
  }
  EXPECT_FALSE(Read({{"Auth-Status", "OK"}})->verdict.backend);
}

TEST(HttpAnswer, Refuses) {
  auto meaning = Read({{"Auth-Status", "Wrong"}, {"Auth-Wait", "3"}});
  EXPECT_FALSE(meaning->verdict.accepted || meaning->verdict.end_session);
  EXPECT_EQ(meaning->verdict.reason, LoginFailure::kBadCredentials);
  EXPECT_EQ(meaning->verdict.message, "Wrong");
  EXPECT_EQ(meaning->verdict.wait, std::chrono::seconds(3));
  meaning = Read({{"Auth-Status", "ok"}, {"Auth-Error-Code", "451 4.3.0"}}, Protocol::kSmtp);
  EXPECT_FALSE(meaning->verdict.accepted);  // "OK" has one spelling
  EXPECT_TRUE(meaning->verdict.end_session);
  EXPECT_EQ(meaning->verdict.reason, LoginFailure::kUnavailable);
  EXPECT_EQ(meaning->verdict.message, "451 4.3.0 ok");
  EXPECT_EQ(Read({{"Auth-Status", "no"}}, Protocol::kSmtp)->verdict.message, "535 5.7.8 no");
  EXPECT_EQ(Read({{"Auth-Status", "no"}, {"Auth-Wait", "4294967295"}})->verdict.wait,
            std::chrono::seconds(600));
}

TEST(HttpAnswer, RefusesRecipientsByAnotherCode) {
  const auto refusal = [](const Fields& fields) {
    return std::move(Read(fields, Protocol::kSmtp, false, true)->verdict);
  };
  EXPECT_EQ(refusal({{"Auth-Status", "No such user"}}).message, "550 5.7.1 No such user");
  const Verdict later = refusal({{"Auth-Status", "Later"}, {"Auth-Error-Code", "450 4.2.1"}});
  EXPECT_EQ(later.message, "450 4.2.1 Later");
  EXPECT_EQ(later.reason, LoginFailure::kUnavailable);
  EXPECT_EQ(refusal({{"Auth-Status", "x"}, {"Auth-Error-Code", "250 2.0.0"}}).message,
            "550 5.7.1 x");
}

TEST(HttpAnswer, MustTellAPasswordWhereTheClientHasShownNone) {
  for (const Fields& fields :
       {Fields{{"Auth-Status", "OK"}}, Fields{{"Auth-Status", "OK"}, {"Auth-Pass", ""}}}) {
    const auto meaning = Read(fields, Protocol::kPop3, true);
    ASSERT_FALSE(meaning);
    EXPECT_EQ(meaning.error(), "did not send password: there is no Auth-Pass");
    EXPECT_TRUE(Read(fields, Protocol::kPop3, false));
  }
  const auto meaning =
      Read({{"Auth-Status", "OK"}, {"Auth-Pass", "secret"}}, Protocol::kPop3, true);
  ASSERT_TRUE(meaning);
  EXPECT_EQ(meaning->verdict.backend_password->Reveal(), "secret");
  EXPECT_TRUE(Read({{"Auth-Status", "no"}}, Protocol::kPop3, true));  // nobody is logged in
}

TEST(HttpAnswer, Waits) {
  EXPECT_EQ(Read({{"Auth-Status", "WAIT"}, {"Auth-Wait", "5"}})->wait->time,
            std::chrono::seconds(5));
  EXPECT_EQ(Read({{"Auth-Status", "WAIT"}})->wait->time, std::chrono::seconds(0));
}

TEST(HttpAnswer, NonsenseIsNamedAndNeverALogin) {
  const Fields good = {{"Auth-Status", "OK"}, {"Auth-Server", "192.0.2.1"}, {"Auth-Port", "143"}};
  const std::pair<Fields, std::string> cases[] = {
      {{}, "there is no Auth-Status"},
      {{{"Auth-Status", "OK"}, {"Auth-Port", "1"}},
       "of Auth-Server and Auth-Port there is but one"},
      {{{"Auth-Status", "OK"}, {"Auth-Server", "a"}, {"Auth-Port", "0"}}, "Auth-Port is no port"},
      {{{"Auth-Status", "OK"}, {"Auth-Server", "a"}, {"Auth-Port", "+1"}}, "Auth-Port is no port"},
      {{{"Auth-Status", "OK"}, {"Auth-Server", "a"}, {"Auth-Port", "70000"}},
       "Auth-Port is no port"},
      {{{"Auth-Status", "OK"}, {"Auth-Server", "a/b"}, {"Auth-Port", "1"}},
       "Auth-Server is neither an address nor a host name"},
      {{{"Auth-Status", "OK"}, {"auth-status", "no"}}, "two different fields auth-status"},
      {{{"Auth-Status", "OK"}, {"Auth-Pass", "a"}, {"Auth-Pass", "b"}},
       "two different fields Auth-Pass"},
      {{{"Auth-Status", "OK"}, {"Auth-User", "a\nb"}}, "a control character in Auth-User"},
      {{{"Auth-Status", "OK"}, {"Auth-User", ""}}, "Auth-User is empty"},
      {{{"Auth-Status", "OK"}, {"Auth-Wait", "1s"}}, "Auth-Wait is no number"},
      {{{"Auth-Status", "no"}, {"Auth-Wait", ""}}, "Auth-Wait is no number"},
  };
  for (const auto& [fields, problem] : cases) {
    const auto meaning = Read(fields);
    ASSERT_FALSE(meaning) << problem;
    EXPECT_EQ(meaning.error(), problem);
  }
}

// What a response gives: its fields, and how it ends.
std::pair<std::string, HttpResponse::Status> Parse(std::string_view text, size_t split,
                                                   bool end = false) {
  std::string fields;
  HttpResponse response([&](std::string_view name, std::string_view value) {
    fields += std::string(name) + "=" + std::string(value) + ";";
  });
  protocols::Buffer input;
  input.Append(text.substr(0, split));
  auto status = response.Consume(input);
  input.Append(text.substr(split));
  if (status != HttpResponse::Status::kMalformed) status = response.Consume(input);
  if (end && status != HttpResponse::Status::kMalformed) status = response.End();
  return {fields, status};
}

TEST(HttpResponse, GivesTheSameAtEverySplit) {
  using Status = HttpResponse::Status;
  struct Case {
    std::string text;
    bool end;
    std::string fields;
    Status status;
  };
  const Case cases[] = {
      {"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 3\r\n\r\nxyz", false, "A=b;Content-Length=3;",
       Status::kDone},
      {"HTTP/1.1 200 OK\r\nA:  b \r\nContent-Length: 3\r\n\r\nxy", false, "A=b;Content-Length=3;",
       Status::kHeader},
      {"HTTP/1.0 500 \r\nA: b\r\n\r\nbody", true, "A=b;", Status::kDone},
      {"HTTP/1.1 200 OK\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", false,
       "A=b;Transfer-Encoding=chunked;", Status::kDone},
      {"HTTP/1.1 200 OK\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nC: d\r\n\r\n", false,
       "A=b;Transfer-Encoding=chunked;", Status::kDone},
      {"HTTP/1.1 200 OK\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", false,
       "A=b;Transfer-Encoding=chunked;", Status::kDone},
      {"HTTP/1.1 200 OK\r\nA: b\r\n", true, "", Status::kMalformed},
      {"HTTP/1.1 200 OK\r\nA: b\r\n", false, "", Status::kMore},
      {"HTTP/1.1 200 OK\r\nA b\r\n\r\n", false, "", Status::kMalformed},
      {"SSH-2.0-OpenSSH\r\n", true, "", Status::kMalformed},
      {"", true, "", Status::kMalformed},
  };
  for (const Case& c : cases) {
    for (size_t split = 0; split <= c.text.size(); ++split) {
      const auto [fields, status] = Parse(c.text, split, c.end);
      EXPECT_EQ(fields, c.fields) << c.text << " at " << split;
      EXPECT_EQ(status, c.status) << c.text << " at " << split;
    }
  }
}

TEST(HttpResponse, BoundsTheHeader) {
  const auto with = [](size_t size) {
    return Parse("HTTP/1.1 200 OK\r\nA: " + std::string(size, 'x') + "\r\n\r\n", 0, true).second;
  };
  EXPECT_EQ(with(15 * 1024), HttpResponse::Status::kDone);
  EXPECT_EQ(with(17 * 1024), HttpResponse::Status::kMalformed);
}

}  // namespace
}  // namespace gatepost::auth
