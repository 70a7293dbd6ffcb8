// Client certificates: who is believed, who is not and why, and what a resumption remembers.
// SPDX-License-Identifier: Apache-2.0
#include "tls/client_verifier.h"

#include <gtest/gtest.h>
#include <malloc.h>
#include <openssl/nid.h>

#include <string>
#include <vector>

#include "tests/unit/tls/channel_pair.h"
#include "tests/unit/tls/fixtures.h"
#include "tests/unit/tls/raw_client.h"

namespace gatepost::tls::test {

// The library's context behind a ServerContext, which nobody but a test may touch: two contexts get
// the same ticket keys by it, as replicas and reloads have them.
template <auto kMember>
struct Reach {
  friend SSL_CTX* ContextOf(const ServerContext& context) { return context.*kMember; }
};
SSL_CTX* ContextOf(const ServerContext& context);
template struct Reach<&ServerContext::context_>;

namespace {

Identity IssueClient(std::vector<std::string> names = {"email:alice@example.org"},
                     const Identity* issuer = &TestAuthority().intermediate) {
  Request request;
  request.common_name = "alice";
  request.names = std::move(names);
  request.issuer = issuer;
  return Issue(request);
}

// What the handshakes of one test have in common.
class ClientCertificates : public testing::TestWithParam<uint16_t> {
 protected:
  ClientCertificates() {
    SSL_CTX_set_min_proto_version(client.context(), GetParam());
    SSL_CTX_set_max_proto_version(client.context(), GetParam());
  }

  void Present(const Identity& identity) {
    SSL_CTX_use_certificate(client.context(), identity.certificate.get());
    SSL_CTX_use_PrivateKey(client.context(), identity.key.get());
    SSL_CTX_clear_chain_certs(client.context());
    for (const std::string& pem : identity.issuer_pems) {
      auto parsed = ReadCertificates(folder.Write("issuer.pem", pem));
      SSL_CTX_add1_chain_cert(client.context(), parsed->front().x509.get());
    }
  }

  std::shared_ptr<const ServerContext> Server(bool require, const std::string& crls = {},
                                              std::filesystem::path ca = {}) {
    std::optional<std::filesystem::path> crl_file;
    if (!crls.empty()) crl_file = folder.Write("crl.pem", crls);
    if (ca.empty()) ca = TestAuthority().ca_file;
    auto verifier = ClientVerifier::Make(ca, crl_file);
    if (!verifier) {
      ADD_FAILURE() << verifier.error().text;
      return nullptr;
    }
    auto context = ServerContext::Make(
        {Profile::kLegacy, "imap", SimpleStore(), {}, std::move(*verifier), require});
    EXPECT_EQ(SSL_CTX_set_tlsext_ticket_keys(ContextOf(**context), ticket_keys.data(),
                                             ticket_keys.size()),
              1);
    return *context;
  }

  // In TLS 1.3, the ticket goes out with the first data behind a certificate.
  void Greet(Channel& server, Transport& wire) {
    EXPECT_EQ(server.Send(AsBytes("220 hello")), server.established());
    client.Feed({reinterpret_cast<const char*>(wire.outgoing.data()), wire.outgoing.size()});
    wire.outgoing.clear();
    client.Read();
  }

  // Connect makes a handshake and returns what the server then knows: the problem, or the subject.
  std::string Connect(const std::shared_ptr<const ServerContext>& context) {
    certificate.reset();
    resumed = false;
    Transport wire;
    Channel server(wire, context);
    client.Connect();
    client.Handshake(server, wire);
    Greet(server, wire);
    failure = server.failure();
    EXPECT_EQ(ERR_peek_error(), 0U);
    if (!server.established()) return server.error();
    resumed = server.facts().resumed;
    certificate = server.TakeClientCertificate();
    EXPECT_EQ(server.TakeClientCertificate(), nullptr);
    if (!certificate) return "none";
    return certificate->verified ? certificate->subject : "not verified: " + certificate->problem;
  }

  const Folder folder;
  RawClient client;
  std::vector<uint8_t> ticket_keys = std::vector<uint8_t>(48, 7);
  std::unique_ptr<ClientCertificate> certificate;
  Failure failure = Failure::kNone;
  bool resumed = false;
};

INSTANTIATE_TEST_SUITE_P(Versions, ClientCertificates,
                         testing::Values(TLS1_VERSION, TLS1_2_VERSION, TLS1_3_VERSION),
                         [](const auto& version) {
                           return "Tls" + std::to_string(version.param & 0xff);
                         });

TEST_P(ClientCertificates, SayWhoTheClientIs) {
  const Identity alice =
      IssueClient({"alice.example", "email:alice@example.org", "email:a@example.org"});
  Present(alice);
  for (const bool require : {false, true}) {
    client.session.reset();
    EXPECT_EQ(Connect(Server(require)), "CN=alice");
    ASSERT_TRUE(certificate);
    EXPECT_EQ(certificate->common_name, "alice");
    EXPECT_EQ(certificate->emails,
              (std::vector<std::string>{"alice@example.org", "a@example.org"}));
    EXPECT_EQ(certificate->spki_sha256.size(), 64U);
    EXPECT_EQ(certificate->problem, "");
    EXPECT_EQ(certificate->issuer, "CN=Test Intermediate");
    uint8_t* der = nullptr;
    const int size = i2d_X509(alice.certificate.get(), &der);
    const bssl::UniquePtr<uint8_t> owner(der);
    EXPECT_EQ(certificate->der,
              std::string(reinterpret_cast<const char*>(der), static_cast<size_t>(size)));
    EXPECT_EQ(certificate->sha1.size(), 40U);
    uint64_t serial = 0;
    ASSERT_EQ(ASN1_INTEGER_get_uint64(&serial, X509_get0_serialNumber(alice.certificate.get())), 1);
    EXPECT_EQ(std::stoull(certificate->serial, nullptr, 16), serial);
  }
}

TEST_P(ClientCertificates, AreAskedForByTheNamesOfTheCas) {
  Present(IssueClient());
  static std::vector<std::string> asked;
  asked.clear();
  SSL_CTX_set_cert_cb(
      client.context(),
      [](SSL* ssl, void*) {
        const STACK_OF(CRYPTO_BUFFER)* names = SSL_get0_server_requested_CAs(ssl);
        for (size_t i = 0; i < sk_CRYPTO_BUFFER_num(names); ++i) {
          const CRYPTO_BUFFER* der = sk_CRYPTO_BUFFER_value(names, i);
          const uint8_t* in = CRYPTO_BUFFER_data(der);
          bssl::UniquePtr<X509_NAME> name(
              d2i_X509_NAME(nullptr, &in, static_cast<long>(CRYPTO_BUFFER_len(der))));
          asked.push_back(NameText(name.get()));
        }
        return 1;
      },
      nullptr);
  EXPECT_EQ(Connect(Server(true)), "CN=alice");
  EXPECT_EQ(asked, std::vector<std::string>{"CN=Test Root"});
}

TEST_P(ClientCertificates, MayBeMissingWhereTheyAreNotRequired) {
  EXPECT_EQ(Connect(Server(false)), "none");
  EXPECT_EQ(Connect(Server(true)), "the client sent no certificate");
  EXPECT_EQ(failure, Failure::kClientCertificate);
}

TEST_P(ClientCertificates, AreNotAskedForWithoutAVerifier) {
  Present(IssueClient());
  EXPECT_EQ(Connect(MakeServer(SimpleStore(), Profile::kLegacy)), "none");
}

struct Case {
  const char* what;
  std::string text;  // how the refusal begins
  Identity identity;
  std::string crls = {};
};

TEST_P(ClientCertificates, AreRefusedWithTheExactCause) {
  const Authority& authority = TestAuthority();
  Request expired;
  expired.common_name = "alice";
  expired.issuer = &authority.intermediate;
  expired.starts = hours(-72);
  expired.ends = hours(-48);
  Request future = expired;
  future.starts = hours(48);
  future.ends = hours(72);
  Request server_only;
  server_only.issuer = &authority.intermediate;
  server_only.purpose = NID_server_auth;
  Request client_only = server_only;
  client_only.purpose = NID_client_auth;
  Request stranger;
  stranger.common_name = "stranger";
  const Identity revoked = IssueClient();
  const std::string good_crl = MakeCrl(authority.intermediate, {&revoked});
  std::vector<Case> cases;
  const auto day = [](int h) { return DateText(std::chrono::system_clock::now() + hours(h)); };
  const std::string failed = "certificate verification failed: ";
  cases.push_back({"expired", failed + "certificate has expired on " + day(-48), Issue(expired)});
  cases.push_back(
      {"future", failed + "certificate is not yet valid before " + day(48), Issue(future)});
  cases.push_back({"purpose", failed + "unsupported certificate purpose", Issue(server_only)});
  cases.push_back({"client purpose", "", Issue(client_only)});
  cases.push_back({"stranger", failed + "self signed certificate", Issue(stranger)});
  Request other_root;
  other_root.common_name = "Other Root";
  other_root.is_ca = true;
  const Identity other = Issue(other_root);
  cases.push_back(
      {"CA", failed + "unable to get local issuer certificate", IssueClient({}, &other)});
  cases.push_back({"not revoked", "", IssueClient(), good_crl});
  Identity again;
  again.key = bssl::UpRef(revoked.key);
  again.certificate = bssl::UpRef(revoked.certificate);
  again.issuer_pems = revoked.issuer_pems;
  cases.push_back({"revoked", failed + "certificate revoked", std::move(again), good_crl});
  cases.push_back({"old CRL", failed + "CRL has expired", IssueClient(),
                   MakeCrl(authority.intermediate, {}, hours(-24))});
  cases.push_back({"no CRL of the issuer", failed + "unable to get certificate CRL", IssueClient(),
                   MakeCrl(authority.root, {})});
  cases.push_back({"CA revoked", failed + "certificate revoked", IssueClient(),
                   good_crl + MakeCrl(authority.root, {&authority.intermediate})});
  cases.push_back({"CA's CRL is old", failed + "CRL has expired", IssueClient(),
                   good_crl + MakeCrl(authority.root, {}, hours(-24))});
  cases.push_back({"both CRLs", "", IssueClient(), good_crl + MakeCrl(authority.root, {&revoked})});
  for (const Case& c : cases) {
    SCOPED_TRACE(c.what);
    Present(c.identity);
    client.session.reset();
    const std::string required = Connect(Server(true, c.crls));
    EXPECT_EQ(failure, c.text.empty() ? Failure::kNone : Failure::kClientCertificate);
    client.session.reset();
    const std::string requested = Connect(Server(false, c.crls));
    EXPECT_EQ(failure, Failure::kNone);
    ASSERT_TRUE(certificate);
    EXPECT_EQ(certificate->verified, c.text.empty());
    if (c.text.empty()) continue;
    EXPECT_EQ(required.find("the client's certificate is refused: " + c.text), 0U) << required;
    EXPECT_EQ(requested.find("not verified: " + c.text), 0U) << requested;
    EXPECT_TRUE(certificate->common_name.empty() && certificate->emails.empty() &&
                certificate->spki_sha256.empty());
  }
}

TEST_P(ClientCertificates, AreTrustedAlsoByAnIntermediateOrThemselves) {
  const Identity alice = IssueClient();
  Present(alice);
  EXPECT_EQ(Connect(Server(true, {},
                           folder.Write("i.pem", TestAuthority().intermediate.CertificatePem()))),
            "CN=alice");
  client.session.reset();
  EXPECT_EQ(Connect(Server(true, {}, folder.Write("a.pem", alice.CertificatePem()))), "CN=alice");
}

TEST_P(ClientCertificates, AreRememberedByAResumption) {
  Present(IssueClient());
  for (const bool require : {false, true}) {
    client.session.reset();
    const auto server = Server(require);
    EXPECT_EQ(Connect(server), "CN=alice");
    EXPECT_FALSE(resumed);
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(Connect(server), "CN=alice");
      EXPECT_TRUE(resumed);
      ASSERT_TRUE(certificate);
      EXPECT_EQ(certificate->emails, std::vector<std::string>{"alice@example.org"});
    }
    EXPECT_EQ(Connect(Server(require)), "CN=alice");  // as after a reload
    EXPECT_TRUE(resumed);
  }
}

TEST_P(ClientCertificates, AreCheckedAnewAtAResumption) {
  const Identity alice = IssueClient();
  Present(alice);
  const std::string good = MakeCrl(TestAuthority().intermediate, {});
  const std::string revoking = MakeCrl(TestAuthority().intermediate, {&alice});
  EXPECT_EQ(Connect(Server(true, good)), "CN=alice");
  const std::string refusal = Connect(Server(true, revoking));
  EXPECT_EQ(refusal.find("the client's certificate is refused: certificate verification failed: "
                         "certificate revoked"),
            0U)
      << refusal;
  EXPECT_EQ(failure, Failure::kClientCertificate);
  client.session.reset();
  EXPECT_EQ(Connect(Server(false, good)), "CN=alice");
  EXPECT_EQ(Connect(Server(false, revoking)).find("not verified: "), 0U);
  EXPECT_TRUE(resumed);
}

TEST_P(ClientCertificates, AnotherDemandNeedsAFullHandshake) {
  EXPECT_EQ(Connect(Server(false)), "none");
  EXPECT_EQ(Connect(Server(false)), "none");
  EXPECT_TRUE(resumed);
  Present(IssueClient());
  EXPECT_EQ(Connect(Server(true)), "CN=alice");
  EXPECT_FALSE(resumed);
  Request other_root;
  other_root.is_ca = true;
  const std::string pems =
      TestAuthority().root.CertificatePem() + Issue(other_root).CertificatePem();
  EXPECT_EQ(Connect(Server(true, {}, folder.Write("both.pem", pems))), "CN=alice");
  EXPECT_FALSE(resumed);
}

TEST_P(ClientCertificates, TicketsEndWithThem) {
  Request request;
  request.issuer = &TestAuthority().intermediate;
  request.ends = hours(1);
  Present(Issue(request));
  const auto server = Server(true);
  Connect(server);
  ASSERT_TRUE(client.session);
  if (GetParam() == TLS1_3_VERSION) {  // before, the client has a limit of its own
    EXPECT_LE(SSL_SESSION_get_timeout(client.session.get()), 3600U);
    EXPECT_GT(SSL_SESSION_get_timeout(client.session.get()), 3000U);
  } else {
    EXPECT_LE(SSL_SESSION_get_ticket_lifetime_hint(client.session.get()), 3600U);
  }
  Connect(server);
  EXPECT_TRUE(resumed);
  EXPECT_LE(SSL_SESSION_get_timeout(client.session.get()), 7200U);
}

// The chain is in the ticket, not in the memory of the connection.
TEST_P(ClientCertificates, LeaveNothingInMemory) {
  constexpr size_t kNames = 300;
  constexpr size_t kConnections = 40;
  std::vector<std::string> names;
  for (size_t i = 0; i < kNames; ++i) {
    names.push_back("email:somebody-with-a-long-name-" + std::to_string(i) + "@example.org");
  }
  const Identity big = IssueClient(names);
  Present(big);
  const auto size = static_cast<size_t>(i2d_X509(big.certificate.get(), nullptr));
  ASSERT_GT(size, 10'000U);
  const auto context = Server(true);
  const auto measure = [&](std::vector<std::unique_ptr<Channel>>& servers, Transport& wire) {
    const size_t before = mallinfo2().uordblks;
    for (size_t i = 0; i < kConnections; ++i) {
      client.session.reset();
      auto server = std::make_unique<Channel>(wire, context);
      client.Connect();
      client.Handshake(*server, wire);
      Greet(*server, wire);
      EXPECT_TRUE(server->established());
      EXPECT_EQ(server->TakeClientCertificate()->emails.size(), kNames);
      servers.push_back(std::move(server));
    }
    return (mallinfo2().uordblks - before) / kConnections;
  };
  Transport wire;
  std::vector<std::unique_ptr<Channel>> servers;
  measure(servers, wire);  // what is made once
  EXPECT_LT(measure(servers, wire), size / 2);
}

TEST(ClientCertificateNames, AreTakenOnlyWhereTheyAreUnambiguous) {
  const auto common_name = [](std::string name, std::vector<std::string> more) {
    Request request;
    request.common_name = std::move(name);
    request.more_names = std::move(more);
    request.names = {"email:alice@example.org", std::string("email:a\0b@example.org", 21),
                     "email:a\nb@example.org", "email:gr\xc3\xbc@example.org", "email:"};
    const Identity identity = Issue(request);
    uint8_t* der = nullptr;
    const int size = i2d_X509(identity.certificate.get(), &der);
    bssl::UniquePtr<STACK_OF(CRYPTO_BUFFER)> chain(sk_CRYPTO_BUFFER_new_null());
    bssl::PushToStack(chain.get(), bssl::UniquePtr<CRYPTO_BUFFER>(
                                       CRYPTO_BUFFER_new(der, static_cast<size_t>(size), nullptr)));
    OPENSSL_free(der);
    const Folder folder;
    auto trusted = ReadCertificates(folder.Write("ca.pem", identity.CertificatePem()));
    auto store = TrustStore(*trusted);
    const VerifiedClient client = VerifyClient(chain.get(), store->get());
    EXPECT_TRUE(client.certificate.verified) << client.certificate.problem;
    EXPECT_TRUE(client.certificate.emails.empty());
    return client.certificate.common_name + "|" + client.certificate.subject;
  };
  EXPECT_EQ(common_name("alice", {}), "alice|CN=alice");
  EXPECT_EQ(common_name("alice", {"bob"}), "|CN=bob,CN=alice");
  EXPECT_EQ(common_name(std::string("alice\0evil", 10), {}), "|CN=alice\\00evil");
  EXPECT_EQ(common_name("al\nice", {}), "|CN=al\\0Aice");
  EXPECT_EQ(common_name("Gr\xc3\xbc\xc3\x9f", {}), "Gr\xc3\xbc\xc3\x9f|CN=Gr\\C3\\BC\\C3\\9F");
  EXPECT_EQ(common_name("a,b=\"c\"", {}), "a,b=\"c\"|CN=a\\,b=\\\"c\\\"");
}

TEST(ClientVerifier, NamesAFileThatIsWrong) {
  const Folder folder;
  const auto ca = TestAuthority().ca_file;
  const auto missing = folder.path() / "missing.pem";
  EXPECT_EQ(ClientVerifier::Make(missing, {}).error().text,
            missing.string() + ": cannot read: No such file or directory");
  EXPECT_EQ(ClientVerifier::Make(ca, missing).error().text,
            missing.string() + ": cannot read: No such file or directory");
  EXPECT_EQ(ClientVerifier::Make(ca, ca).error().text,
            ca.string() + ": no CRL found (expected -----BEGIN X509 CRL-----)");
  const auto broken =
      folder.Write("broken.pem", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n");
  EXPECT_EQ(ClientVerifier::Make(ca, broken).error().text.substr(0, broken.string().size() + 24),
            broken.string() + ": CRL 1 cannot be parsed");
  const auto crl = folder.Write("crl.pem", MakeCrl(TestAuthority().root, {}));
  const auto good = ClientVerifier::Make(ca, crl);
  ASSERT_TRUE(good) << good.error().text;
  ASSERT_EQ((*good)->crls().size(), 1U);
  EXPECT_EQ((*good)->crls()[0].issuer, "CN=Test Root");
  EXPECT_GT((*good)->crls()[0].next_update, std::chrono::system_clock::now());
}

}  // namespace
}  // namespace gatepost::tls::test
