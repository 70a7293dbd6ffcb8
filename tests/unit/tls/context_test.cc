// Contexts: which certificate a client gets, and which backends are refused with which words.
// SPDX-License-Identifier: Apache-2.0
#include "tls/context.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "tests/unit/tls/channel_pair.h"
#include "tests/unit/tls/fixtures.h"
#include "tests/unit/tls/raw_client.h"

namespace gatepost::tls::test {
namespace {

class CertificateSelection : public testing::Test {
 protected:
  CertificateSelection() {
    const Authority& authority = TestAuthority();
    context = MakeServer(
        StoreOf({folder.WritePair("a", authority.IssueFor({"mail.example"})),
                 folder.WritePair("b", authority.IssueFor({"mail.example"}, KeyKind::kRsa2048)),
                 folder.WritePair("c", authority.IssueFor({"*.wild.example"})),
                 folder.WritePair("d", authority.IssueFor({"p384.example"}, KeyKind::kEcdsaP384)),
                 folder.WritePair("e", authority.IssueFor({"p384.example"}, KeyKind::kRsa2048))}),
        Profile::kLegacy);
  }

  // What the client is shown for `name`: "CN=mail.example RSA".
  std::string Shown(const char* name) {
    Transport wire;
    Channel server(wire, context);
    client.session.reset();
    client.Connect(name);
    if (!client.Handshake(server, wire)) return client.error + "/" + server.error();
    bssl::UniquePtr<X509> certificate(SSL_get_peer_certificate(client.ssl()));
    bssl::UniquePtr<EVP_PKEY> key(X509_get_pubkey(certificate.get()));
    return NameText(X509_get_subject_name(certificate.get())) +
           (EVP_PKEY_id(key.get()) == EVP_PKEY_RSA ? " RSA" : " ECDSA");
  }

  Folder folder;
  std::shared_ptr<const ServerContext> context;
  RawClient client;
};

TEST_F(CertificateSelection, GoesByTheServerName) {
  EXPECT_EQ(Shown("x.wild.example"), "CN=*.wild.example ECDSA");
  EXPECT_EQ(Shown("X.Wild.Example."), "CN=*.wild.example ECDSA");
  EXPECT_EQ(Shown("unknown.example"), "CN=mail.example ECDSA");
  EXPECT_EQ(Shown("odd name\n.wild.example"), "CN=mail.example ECDSA");
  EXPECT_EQ(Shown(nullptr), "CN=mail.example ECDSA");
}

TEST_F(CertificateSelection, RefusesUnknownNamesWhereItIsStrict) {
  ServerOptions options;
  options.alpn = "imap";
  options.certificates = context->certificates();
  options.strict_sni = true;
  context = *ServerContext::Make(options);
  EXPECT_EQ(Shown("X.Wild.Example."), "CN=*.wild.example ECDSA");
  EXPECT_EQ(Shown(nullptr), "CN=mail.example ECDSA");
  for (const char* name : {"unknown.example", "wild.example", "caf\xc3\xa9.wild.example",
                           "192.0.2.1", "2001:db8::1", "odd name\n.wild.example"}) {
    Transport wire;
    Channel server(wire, context);
    client.session.reset();
    client.Connect(name);
    EXPECT_FALSE(client.Handshake(server, wire)) << name;
    EXPECT_EQ(server.failure(), Failure::kServerName) << name;
    EXPECT_EQ(server.error(), "the client asked for a name that is not served");
    EXPECT_NE(client.error.find("unrecognized name"), std::string::npos) << client.error;
  }
}

TEST_F(CertificateSelection, GoesByTheSignatureAlgorithmsInTls13) {
  EXPECT_EQ(Shown("mail.example"), "CN=mail.example ECDSA");
  const uint16_t rsa_only[] = {SSL_SIGN_RSA_PSS_RSAE_SHA256};
  SSL_CTX_set_verify_algorithm_prefs(client.context(), rsa_only, 1);
  EXPECT_EQ(Shown("mail.example"), "CN=mail.example RSA");
  const uint16_t p256_only[] = {SSL_SIGN_ECDSA_SECP256R1_SHA256, SSL_SIGN_RSA_PSS_RSAE_SHA256};
  SSL_CTX_set_verify_algorithm_prefs(client.context(), p256_only, 2);
  EXPECT_EQ(Shown("p384.example"), "CN=p384.example RSA");
  EXPECT_EQ(Shown("mail.example"), "CN=mail.example ECDSA");
}

TEST_F(CertificateSelection, GoesByAlgorithmsGroupsAndSuitesInTls12) {
  SSL_CTX_set_max_proto_version(client.context(), TLS1_2_VERSION);
  EXPECT_EQ(Shown("mail.example"), "CN=mail.example ECDSA");
  EXPECT_EQ(Shown("p384.example"), "CN=p384.example ECDSA");
  SSL_CTX_set1_curves_list(client.context(), "X25519:P-384");
  EXPECT_EQ(Shown("mail.example"), "CN=mail.example RSA");
  EXPECT_EQ(Shown("p384.example"), "CN=p384.example ECDSA");
  SSL_CTX_set1_curves_list(client.context(), "X25519:P-256:P-384");
  SSL_CTX_set_cipher_list(client.context(), "ECDHE-RSA-AES128-GCM-SHA256");
  EXPECT_EQ(Shown("mail.example"), "CN=mail.example RSA");
}

TEST_F(CertificateSelection, GoesBySuitesInTls10) {
  SSL_CTX_set_min_proto_version(client.context(), TLS1_VERSION);
  SSL_CTX_set_max_proto_version(client.context(), TLS1_VERSION);
  EXPECT_EQ(Shown("mail.example"), "CN=mail.example ECDSA");
  SSL_CTX_set_cipher_list(client.context(), "AES128-SHA");
  EXPECT_EQ(Shown("mail.example"), "CN=mail.example RSA");
}

// A reload must cost nobody anything: old tickets go on, and who had begun goes on.
TEST_F(CertificateSelection, ChangesWithoutBreakingAnything) {
  EXPECT_EQ(Shown("new.example"), "CN=mail.example ECDSA");
  Transport wire;
  Channel begun(wire, context);
  RawClient beginner;
  beginner.Connect("new.example");
  ASSERT_FALSE(SSL_do_handshake(beginner.ssl()) == 1);  // the ClientHello is on its way

  const auto renewed = context->With(
      StoreOf({folder.WritePair("f", TestAuthority().IssueFor({"new.example"}))}), nullptr);
  ASSERT_TRUE(renewed) << renewed.error().text;
  const auto old = std::exchange(context, *renewed);
  EXPECT_EQ(Shown("new.example"), "CN=new.example ECDSA");
  EXPECT_EQ((*renewed)->offer().groups, old->offer().groups);

  client.session.reset();
  for (const auto& [of, resumed] : {std::pair(old, false), {context, true}, {old, true}}) {
    Channel server(wire, of);
    client.Connect("new.example");
    ASSERT_TRUE(client.Handshake(server, wire));
    EXPECT_EQ(server.facts().resumed, resumed);
    ASSERT_TRUE(server.Send(AsBytes("* OK")));  // a ticket comes with the first data
    client.Feed({reinterpret_cast<const char*>(wire.outgoing.data()), wire.outgoing.size()});
    wire.outgoing.clear();
    EXPECT_EQ(client.Read(), "* OK");
  }
  ASSERT_TRUE(beginner.Handshake(begun, wire)) << begun.error();
  bssl::UniquePtr<X509> certificate(SSL_get_peer_certificate(beginner.ssl()));
  EXPECT_EQ(NameText(X509_get_subject_name(certificate.get())), "CN=mail.example");
}

TEST(ServerContext, RefusesOtherCertificatesThatItCannotSignWith) {
  const Folder folder;
  OfferSettings settings;
  settings.signature_algorithms = {"ecdsa_secp256r1_sha256"};
  const auto context = ServerContext::Make({Profile::kModern, "imap", SimpleStore(), settings});
  ASSERT_TRUE(context) << context.error().text;
  const auto renewed = (*context)->With(
      StoreOf(
          {folder.WritePair("rsa", TestAuthority().IssueFor({"mail.example"}, KeyKind::kRsa2048))}),
      nullptr);
  ASSERT_FALSE(renewed);
  EXPECT_EQ(renewed.error().text,
            "none of tls_signature_algorithms suits the key of the default certificate");
}

TEST(ServerContext, NeedsACertificate) {
  const auto context = ServerContext::Make({});
  ASSERT_FALSE(context);
  EXPECT_EQ(context.error().text, "there is no certificate");
}

TEST(ServerContext, PrefersThePostQuantumGroupWhereTheLibraryHasIt) {
  RawClient client;
  const bool has_it = SSL_CTX_set1_curves_list(client.context(), "X25519MLKEM768:X25519") == 1;
  ERR_clear_error();
  EXPECT_EQ(has_it, BORINGSSL_API_VERSION > 17);
  Transport wire;
  Channel server(wire, MakeServer());
  client.Connect();
  ASSERT_TRUE(client.Handshake(server, wire));
  EXPECT_EQ(server.facts().group, has_it ? "X25519MLKEM768" : "X25519");
}

// What the client side says about a backend that presents `identity`.
std::string RefusalOf(const Identity& identity, std::string name, ClientOptions options) {
  const Folder folder;
  Pair pair(*ClientContext::Make(options), MakeServer(StoreOf({folder.WritePair("x", identity)})),
            std::move(name));
  const bool good = pair.Handshake();
  EXPECT_EQ(good, pair.client.failure() == Failure::kNone);
  EXPECT_EQ(ERR_peek_error(), 0u);
  if (good) return "";
  EXPECT_EQ(pair.client.failure(), Failure::kVerify);
  return pair.client.error() + " | " + pair.server.error();
}

ClientOptions TrustTestRoot() {
  return {true, TestAuthority().ca_file, {}};
}

TEST(BackendVerification, AcceptsWhatIsRight) {
  const Authority& authority = TestAuthority();
  const Identity identity =
      authority.IssueFor({"store1.example", "*.wild.example", "ip:192.0.2.7", "ip:2001:db8::7"});
  for (const char* name :
       {"store1.example", "STORE1.example.", "x.wild.example", "192.0.2.7", "2001:db8::7"}) {
    EXPECT_EQ(RefusalOf(identity, name, TrustTestRoot()), "") << name;
  }
}

TEST(BackendVerification, SaysForWhomTheCertificateIs) {
  const Authority& authority = TestAuthority();
  EXPECT_EQ(
      RefusalOf(authority.IssueFor({"other.example", "*.wild.example"}), "store1", TrustTestRoot()),
      "the certificate is for other.example, *.wild.example, not store1 | the peer sent the "
      "alert \"bad certificate\" (42)");
  EXPECT_EQ(
      RefusalOf(authority.IssueFor({"ip:192.0.2.7"}), "192.0.2.8", TrustTestRoot()).substr(0, 46),
      "the certificate is for 192.0.2.7, not 192.0.2.");
  // No common name in the place of a subject alternative name, RFC 9525 §2.
  EXPECT_EQ(RefusalOf(authority.IssueFor({}), "nobody", TrustTestRoot()).substr(0, 69),
            "the certificate is for no name (its subject is CN=nobody), not nobody");
}

TEST(BackendVerification, RefusesAnUnknownAuthority) {
  Request request;
  request.names = {"store1"};
  EXPECT_EQ(RefusalOf(Issue(request), "store1", TrustTestRoot()),
            "certificate verification failed: self signed certificate (subject CN=mail.example, "
            "issuer CN=mail.example) | the peer sent the alert \"unknown CA\" (48)");
}

TEST(BackendVerification, SaysWhichCertificateExpiredAndWhen) {
  // The store refuses expired certificates, so the backend is a plain BoringSSL server.
  Request request;
  request.names = {"store1"};
  request.issuer = &TestAuthority().intermediate;
  request.starts = hours(-72);
  request.ends = hours(-48);
  const Identity identity = Issue(request);
  bssl::UniquePtr<SSL_CTX> context(SSL_CTX_new(TLS_method()));
  SSL_CTX_use_certificate(context.get(), identity.certificate.get());
  SSL_CTX_use_PrivateKey(context.get(), identity.key.get());
  SSL_CTX_add1_chain_cert(context.get(), TestAuthority().intermediate.certificate.get());
  bssl::UniquePtr<SSL> backend(SSL_new(context.get()));
  SSL_set_accept_state(backend.get());
  SSL_set_bio(backend.get(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
  BIO_set_mem_eof_return(SSL_get_rbio(backend.get()), -1);

  Transport wire;
  Channel client(wire, std::make_shared<Peer>(*ClientContext::Make(TrustTestRoot()), "store1"));
  client.Start();
  BIO_write(SSL_get_rbio(backend.get()), wire.outgoing.data(),
            static_cast<int>(wire.outgoing.size()));
  SSL_do_handshake(backend.get());
  const uint8_t* answer = nullptr;
  size_t size = 0;
  BIO_mem_contents(SSL_get_wbio(backend.get()), &answer, &size);
  std::vector<uint8_t> plaintext(size + Channel::kPlaintextMargin);
  EXPECT_EQ(client.Receive({answer, size}, plaintext), 0u);
  EXPECT_EQ(client.failure(), Failure::kVerify);
  EXPECT_EQ(client.error(), "certificate verification failed: certificate has expired on " +
                                DateText(std::chrono::system_clock::now() - hours(48)) +
                                " (subject CN=mail.example, issuer CN=Test Intermediate)");
  ERR_clear_error();
}

TEST(BackendVerification, TrustsAnythingInTheCaFile) {
  const Folder folder;
  Request request;
  request.names = {"store1"};
  const Identity self_signed = Issue(request);
  EXPECT_EQ(RefusalOf(self_signed, "store1",
                      {true, folder.Write("self.pem", self_signed.CertificatePem()), {}}),
            "");
  const Authority& authority = TestAuthority();
  EXPECT_EQ(RefusalOf(authority.IssueFor({"store1"}), "store1",
                      {true, folder.Write("i.pem", authority.intermediate.CertificatePem()), {}}),
            "");
}

TEST(BackendVerification, CanBeSwitchedOff) {
  Request request;
  request.names = {"other.example"};
  EXPECT_EQ(RefusalOf(Issue(request), "store1", {false, {}, {}}), "");
}

TEST(BackendVerification, NeedsAName) {
  EXPECT_EQ(RefusalOf(TestAuthority().IssueFor({"store1"}), "", TrustTestRoot()).substr(0, 61),
            "there is no usable name to verify the certificate against: \"\"");
}

TEST(ClientContext, NamesACaFileThatIsWrong) {
  const Folder folder;
  const auto missing = (folder.path() / "ca.pem").string();
  EXPECT_EQ(ClientContext::Make({true, missing, {}}).error().text,
            missing + ": cannot read: No such file or directory");
  const auto empty = folder.Write("empty.pem", "nothing").string();
  EXPECT_EQ(ClientContext::Make({true, empty, {}}).error().text,
            empty + ": no certificate found (expected -----BEGIN CERTIFICATE-----)");
}

TEST(ClientContext, ReadsTheSystemsCertificates) {
  if (!std::filesystem::exists("/etc/ssl/certs/ca-certificates.crt")) GTEST_SKIP();
  EXPECT_TRUE(ClientContext::Make({}).has_value());
}

TEST(ClientContext, RecognisesABackendThatDoesNotSpeakTls) {
  Transport wire;
  Channel client(wire, std::make_shared<Peer>(MakeClient(), "mail.example"));
  client.Start();
  const std::string_view greeting = "220 store1 ESMTP\r\n";
  std::vector<uint8_t> plaintext(greeting.size() + Channel::kPlaintextMargin);
  EXPECT_EQ(client.Receive(AsBytes(greeting), plaintext), 0u);
  EXPECT_EQ(client.failure(), Failure::kPlaintext);
  EXPECT_EQ(client.error(), "the peer does not speak TLS (wrong version number)");
}

TEST(LibraryVersion, NamesTheLibrary) {
  EXPECT_EQ(LibraryVersion(), "BoringSSL (API " + std::to_string(BORINGSSL_API_VERSION) + ")");
}

}  // namespace
}  // namespace gatepost::tls::test
