// SPDX-License-Identifier: Apache-2.0
#include "tls/client_context.h"

#include <gtest/gtest.h>
#include <openssl/nid.h>
#include <openssl/sha.h>

#include <deque>

#include "tests/unit/tls/channel_pair.h"
#include "tests/unit/tls/fixtures.h"
#include "tls/client_verifier.h"
#include "tls/internal.h"

namespace gatepost::tls::test {
namespace {

constexpr uint16_t kTls10 = 0x0301;
constexpr uint16_t kTls11 = 0x0302;
constexpr uint16_t kTls12 = 0x0303;
constexpr uint16_t kTls13 = 0x0304;

ClientOptions TrustTestRoot() {
  return {true, TestAuthority().ca_file, {}};
}

std::shared_ptr<const ClientContext> Make(const ClientOptions& options,
                                          std::shared_ptr<const ClientContext> before = nullptr) {
  auto context = ClientContext::Make(options, std::move(before));
  if (!context) ADD_FAILURE() << context.error().text;
  return context ? *context : nullptr;
}

// The pin as RFC 7469 §2.4 defines it.
KeyPin PinOf(const Identity& identity) {
  uint8_t* der = nullptr;
  const int size = i2d_PUBKEY(identity.key.get(), &der);
  const bssl::UniquePtr<uint8_t> owner(der);
  KeyPin pin;
  SHA256(der, static_cast<size_t>(size), pin.data());
  return pin;
}

std::shared_ptr<const ServerContext> ServerWith(const Identity& identity) {
  const Folder folder;
  return MakeServer(StoreOf({folder.WritePair("x", identity)}));
}

// A server that only the library's own checks hold back: with any certificate, and one version.
class PlainServer {
 public:
  PlainServer(const Identity& identity, uint16_t version) : context_(SSL_CTX_new(TLS_method())) {
    SSL_CTX_use_certificate(context_.get(), identity.certificate.get());
    SSL_CTX_use_PrivateKey(context_.get(), identity.key.get());
    SSL_CTX_add1_chain_cert(context_.get(), TestAuthority().intermediate.certificate.get());
    SSL_CTX_set_min_proto_version(context_.get(), kTls10);
    SSL_CTX_set_max_proto_version(context_.get(), version);
  }

  // Meet runs a handshake with `client`, as far as it goes.
  void Meet(Channel& client, Transport& wire) {
    const bssl::UniquePtr<SSL> ssl(SSL_new(context_.get()));
    SSL_set_accept_state(ssl.get());
    SSL_set_bio(ssl.get(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    BIO_set_mem_eof_return(SSL_get_rbio(ssl.get()), -1);
    client.Start();
    while (!wire.outgoing.empty()) {
      BIO_write(SSL_get_rbio(ssl.get()), wire.outgoing.data(),
                static_cast<int>(wire.outgoing.size()));
      wire.outgoing.clear();
      SSL_do_handshake(ssl.get());
      ERR_clear_error();
      const uint8_t* answer = nullptr;
      size_t size = 0;
      BIO_mem_contents(SSL_get_wbio(ssl.get()), &answer, &size);
      const std::vector<uint8_t> bytes(answer, answer + size);
      BIO_reset(SSL_get_wbio(ssl.get()));
      std::vector<uint8_t> plaintext(size + Channel::kPlaintextMargin);
      (void)client.Receive(bytes, plaintext);
    }
  }

 private:
  bssl::UniquePtr<SSL_CTX> context_;
};

FailedCheck FailedCheckOf(Request request, const std::string& name = "store1") {
  if (request.names.empty()) request.names = {"store1"};
  PlainServer server(Issue(request), kTls13);
  Transport wire;
  Channel client(wire, std::make_shared<Peer>(Make(TrustTestRoot()), name));
  server.Meet(client, wire);
  EXPECT_EQ(client.failure() == Failure::kVerify, client.failed_check() != FailedCheck::kNone);
  return client.failed_check();
}

TEST(BackendVerification, SaysWhichCheckFailed) {
  Request request;
  request.issuer = &TestAuthority().intermediate;
  EXPECT_EQ(FailedCheckOf(request), FailedCheck::kNone);
  EXPECT_EQ(FailedCheckOf(request, "store2"), FailedCheck::kName);
  EXPECT_EQ(FailedCheckOf(request, "192.0.2.1"), FailedCheck::kName);

  Request expired = request;
  expired.starts = hours(-72);
  expired.ends = hours(-48);
  EXPECT_EQ(FailedCheckOf(expired), FailedCheck::kExpired);
  Request early = request;
  early.starts = hours(48);
  early.ends = hours(72);
  EXPECT_EQ(FailedCheckOf(early), FailedCheck::kNotYetValid);
  Request client = request;
  client.purpose = NID_client_auth;
  EXPECT_EQ(FailedCheckOf(client), FailedCheck::kOther);

  Request self_signed;
  EXPECT_EQ(FailedCheckOf(self_signed), FailedCheck::kUnknownCa);
  Request strange;
  strange.is_ca = true;
  const Identity strange_ca = Issue(strange);
  strange = Request();
  strange.issuer = &strange_ca;
  EXPECT_EQ(FailedCheckOf(strange), FailedCheck::kUnknownCa);
  EXPECT_EQ(Name(FailedCheck::kUnknownCa), "unknown_ca");
  EXPECT_EQ(Name(FailedCheck::kOther), "certificate");
}

TEST(BackendPins, MayBeOfAnyKeyInTheVerifiedChain) {
  const Authority& authority = TestAuthority();
  const Identity leaf = authority.IssueFor({"store1"});
  for (const Identity* pinned : {&leaf, &authority.intermediate, &authority.root}) {
    ClientOptions options = TrustTestRoot();
    options.pins = {KeyPin{}, PinOf(*pinned)};
    Pair pair(Make(options), ServerWith(leaf), "store1");
    EXPECT_TRUE(pair.Handshake()) << pair.client.error();
  }
}

TEST(BackendPins, StandBesideTheOtherChecks) {
  const Identity leaf = TestAuthority().IssueFor({"store1"});
  ClientOptions options = TrustTestRoot();
  options.pins = {PinOf(leaf)};
  Pair pair(Make(options), ServerWith(leaf), "store2");
  EXPECT_FALSE(pair.Handshake());
  EXPECT_EQ(pair.client.failed_check(), FailedCheck::kName);
}

TEST(BackendPins, RefuseAnotherKeyAndSayWhichOneItIs) {
  const Identity leaf = TestAuthority().IssueFor({"store1"});
  ClientOptions options = TrustTestRoot();
  options.pins = {KeyPin{}};
  Pair pair(Make(options), ServerWith(leaf), "store1");
  EXPECT_FALSE(pair.Handshake());
  EXPECT_EQ(pair.client.failed_check(), FailedCheck::kPin);
  std::array<uint8_t, 45> own;
  EVP_EncodeBlock(own.data(), PinOf(leaf).data(), 32);
  EXPECT_EQ(pair.client.error(),
            "none of the pins is a key of the certificate's chain (its own is " +
                std::string(reinterpret_cast<const char*>(own.data())) + ")");
  EXPECT_EQ(pair.server.error(), "the peer sent the alert \"bad certificate\" (42)");
}

TEST(BackendPins, AreOfTheServersOwnKeyWhereNothingElseIsVerified) {
  const Authority& authority = TestAuthority();
  const Identity leaf = authority.IssueFor({"other.example"});
  ClientOptions options;
  options.verify = false;
  options.pins = {PinOf(leaf)};
  Pair good(Make(options), ServerWith(leaf), "store1");
  EXPECT_TRUE(good.Handshake()) << good.client.error();
  // Anybody can send somebody else's certificate behind its own.
  options.pins = {PinOf(authority.intermediate)};
  Pair bad(Make(options), ServerWith(leaf), "store1");
  EXPECT_FALSE(bad.Handshake());
  EXPECT_EQ(bad.client.failed_check(), FailedCheck::kPin);
}

TEST(ClientContext, SpeaksToAnOldServerOnlyWhereItMay) {
  Request request;
  request.names = {"store1"};
  request.issuer = &TestAuthority().intermediate;
  request.key = KeyKind::kRsa2048;
  const Identity identity = Issue(request);
  for (const uint16_t version : {kTls10, kTls11, kTls12, kTls13}) {
    for (const uint16_t minimum : {kTls10, kTls11, kTls12, kTls13}) {
      ClientOptions options = TrustTestRoot();
      options.minimum_version = minimum;
      PlainServer server(identity, version);
      Transport wire;
      Channel client(wire, std::make_shared<Peer>(Make(options), "store1"));
      server.Meet(client, wire);
      EXPECT_EQ(client.established(), version >= minimum) << version << " " << minimum;
      if (client.established()) {
        const std::string text = "TLSv1." + std::to_string(version - kTls10);
        EXPECT_EQ(client.facts().version, version == kTls10 ? "TLSv1" : text);
      } else {
        EXPECT_EQ(client.failure(), Failure::kUnsupportedVersion) << client.error();
      }
    }
  }
}

TEST(ClientContext, PresentsItsCertificate) {
  const Authority& authority = TestAuthority();
  const Folder folder;
  Request request;
  request.common_name = "gate";
  request.issuer = &authority.intermediate;
  request.purpose = NID_client_auth;
  ClientOptions options = TrustTestRoot();
  options.certificate = folder.WritePair("gate", Issue(request));
  const auto verifier = ClientVerifier::Make(authority.ca_file, std::nullopt);
  ASSERT_TRUE(verifier.has_value());
  const auto server =
      ServerContext::Make({Profile::kIntermediate, {}, SimpleStore(), {}, *verifier, true});
  ASSERT_TRUE(server.has_value());

  Pair good(Make(options), *server);
  EXPECT_TRUE(good.Handshake()) << good.client.error();
  const auto seen = good.server.TakeClientCertificate();
  ASSERT_NE(seen, nullptr);
  EXPECT_TRUE(seen->verified);
  EXPECT_EQ(seen->common_name, "gate");

  Pair without(MakeClient(), *server);
  EXPECT_FALSE(without.Handshake());
  EXPECT_EQ(without.client.failure(), Failure::kCertificateUnknown) << without.client.error();
}

TEST(ClientContext, SaysWhatIsWrongWithItsCertificate) {
  const Folder folder;
  const Identity one = Issue({});
  const Identity other = Issue({});
  ClientOptions options = TrustTestRoot();
  options.certificate = {folder.Write("one.crt", one.CertificatePem()),
                         folder.Write("other.key", other.KeyPem())};
  EXPECT_EQ(ClientContext::Make(options).error().text,
            options.certificate->key.string() +
                ": the private key does not match the certificate in " +
                options.certificate->chain.string());
  options.certificate->key = folder.path() / "none.key";
  EXPECT_EQ(ClientContext::Make(options).error().text,
            options.certificate->key.string() + ": cannot read: No such file or directory");
}

TEST(ClientContext, IsTheSameAsLongAsItsFilesAre) {
  const Authority& authority = TestAuthority();
  const Folder folder;
  ClientOptions options = TrustTestRoot();
  options.ca_file = folder.Write("ca.pem", authority.root.CertificatePem());
  const auto pair = folder.WritePair("ours", Issue({}));
  options.certificate = pair;
  const auto first = Make(options);
  EXPECT_EQ(Make(options, first), first);
  folder.WritePair("ours", Issue({}));
  const auto second = Make(options, first);
  EXPECT_NE(second, first);
  folder.Write("ca.pem", authority.root.CertificatePem() + authority.intermediate.CertificatePem());
  EXPECT_NE(Make(options, second), second);
}

// ---- resumption

// Carry moves what both sides have to say, and the greeting, with which the ticket of a TLS 1.3
// server goes.
void Carry(Pair& pair) {
  while (!pair.client_wire.outgoing.empty() || !pair.server_wire.outgoing.empty()) {
    (void)Deliver(pair.client_wire, pair.server);
    (void)Deliver(pair.server_wire, pair.client);
  }
  EXPECT_TRUE(pair.server.Send(AsBytes("* OK\r\n")));
  EXPECT_EQ(Deliver(pair.server_wire, pair.client), "* OK\r\n");
}

bool Greeted(Pair& pair) {
  pair.client.Start();
  Carry(pair);
  return pair.client.established();
}

TEST(BackendResumption, ResumesWithTheSameServer) {
  const auto server = MakeServer();
  const auto peer = std::make_shared<Peer>(MakeClient(), "mail.example");
  for (int i = 0; i < 5; ++i) {
    Pair pair(peer, server);
    ASSERT_TRUE(Greeted(pair)) << pair.client.error();
    EXPECT_EQ(pair.client.resumed(), i > 0);
    EXPECT_EQ(pair.server.facts().resumed, i > 0);
    EXPECT_EQ(peer->sessions(), 1U) << "one ticket went, one came";
    // The relay goes on as ever.
    EXPECT_TRUE(pair.client.Send(AsBytes("a NOOP\r\n")));
    EXPECT_EQ(Deliver(pair.client_wire, pair.server), "a NOOP\r\n");
  }
}

TEST(BackendResumption, WorksWithTls12) {
  Request request;
  request.names = {"store1"};
  request.issuer = &TestAuthority().intermediate;
  PlainServer server(Issue(request), kTls12);
  const auto peer = std::make_shared<Peer>(Make(TrustTestRoot()), "store1");
  for (int i = 0; i < 5; ++i) {
    Transport wire;
    Channel client(wire, peer);
    server.Meet(client, wire);
    ASSERT_TRUE(client.established());
    EXPECT_EQ(client.facts().version, "TLSv1.2");
    EXPECT_EQ(client.resumed(), i > 0);
    EXPECT_GE(peer->sessions(), 1U);
  }
}

TEST(BackendResumption, KeepsTheNewestFewOfManySessions) {
  const auto server = MakeServer();
  const auto peer = std::make_shared<Peer>(MakeClient(), "mail.example");
  std::deque<Pair> pairs;
  for (size_t i = 0; i < Peer::kMaxSessions + 3; ++i) {
    pairs.emplace_back(peer, server);
    pairs.back().client.Start();  // before any of them has a session to give
  }
  for (Pair& pair : pairs) {
    Carry(pair);
    EXPECT_FALSE(pair.client.resumed());
  }
  EXPECT_EQ(peer->sessions(), Peer::kMaxSessions);
  // As many logins at a time can resume, and no more.
  pairs.clear();
  for (size_t i = 0; i < Peer::kMaxSessions + 1; ++i) {
    pairs.emplace_back(peer, server);
    pairs.back().client.Start();
  }
  EXPECT_EQ(peer->sessions(), 0U);
}

TEST(BackendResumption, IsNotOfferedUnderAnotherNameOrContext) {
  const Identity identity = TestAuthority().IssueFor({"store1", "store2"});
  const auto server = ServerWith(identity);
  const auto context = Make(TrustTestRoot());
  const auto peer = std::make_shared<Peer>(context, "store1");
  Pair first(peer, server);
  ASSERT_TRUE(Greeted(first));
  ASSERT_EQ(peer->sessions(), 1U);
  for (const auto& other : {std::make_shared<Peer>(context, "store2"),
                            std::make_shared<Peer>(Make(TrustTestRoot()), "store1")}) {
    Pair pair(other, server);
    ASSERT_TRUE(Greeted(pair));
    EXPECT_FALSE(pair.client.resumed());
  }
}

TEST(BackendResumption, EndsWithTheCertificatesThatWereVerified) {
  const auto peer = std::make_shared<Peer>(MakeClient(), "mail.example");
  Pair pair(peer, MakeServer());
  ASSERT_TRUE(Greeted(pair));
  ASSERT_EQ(peer->sessions(), 1U);
  const auto now = std::chrono::system_clock::now();
  EXPECT_EQ(peer->Take(now + hours(25)), nullptr);
  EXPECT_EQ(peer->sessions(), 0U);
}

TEST(BackendResumption, KeepsNothingOfAnEarlierCertificate) {
  const Authority& authority = TestAuthority();
  const auto peer = std::make_shared<Peer>(MakeClient(), "store1");
  const auto old_server = ServerWith(authority.IssueFor({"store1"}));
  const auto new_server = ServerWith(authority.IssueFor({"store1"}));
  std::deque<Pair> early;
  for (int i = 0; i < 3; ++i) {
    early.emplace_back(peer, old_server);
    early.back().client.Start();
  }
  Carry(early[0]);
  Carry(early[1]);
  while (!early[2].client_wire.outgoing.empty() || !early[2].server_wire.outgoing.empty()) {
    (void)Deliver(early[2].client_wire, early[2].server);
    (void)Deliver(early[2].server_wire, early[2].client);
  }
  ASSERT_TRUE(early[2].client.established());
  EXPECT_EQ(peer->sessions(), 2U);

  Pair late(peer, new_server);  // does not know the ticket
  ASSERT_TRUE(Greeted(late));
  EXPECT_FALSE(late.client.resumed());
  EXPECT_EQ(peer->sessions(), 1U);
  Carry(early[2]);  // its ticket comes only now
  EXPECT_EQ(peer->sessions(), 1U);
  Pair again(peer, new_server);
  ASSERT_TRUE(Greeted(again));
  EXPECT_TRUE(again.client.resumed());
}

TEST(BackendResumption, ForgetsAllAfterAFailedHandshake) {
  const auto peer = std::make_shared<Peer>(MakeClient(), "mail.example");
  std::deque<Pair> pairs;
  for (int i = 0; i < 2; ++i) {
    pairs.emplace_back(peer, MakeServer());
    pairs.back().client.Start();
  }
  for (Pair& pair : pairs) Carry(pair);
  ASSERT_EQ(peer->sessions(), 2U);
  Transport wire;
  Channel client(wire, peer);
  client.Start();
  client.PeerClosed();
  EXPECT_EQ(peer->sessions(), 0U);
}

}  // namespace
}  // namespace gatepost::tls::test
