// Profiles and a listener's own settings: what is offered, and what is refused with which words.
// SPDX-License-Identifier: Apache-2.0
#include "tls/profile.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/unit/tls/channel_pair.h"
#include "tests/unit/tls/fixtures.h"
#include "tests/unit/tls/raw_client.h"
#include "tls/algorithms.h"

namespace gatepost::tls::test {
namespace {

constexpr bool kHasPostQuantum = BORINGSSL_API_VERSION > 17;

// The one error of `settings`; several or none are a failure.
std::string ErrorOf(Profile profile, const OfferSettings& settings) {
  const auto offer = MakeOffer(profile, settings);
  if (offer) return "";
  EXPECT_EQ(offer.error().size(), 1U);
  return std::to_string(offer.error().front().element) + " " + offer.error().front().text;
}

std::shared_ptr<const ServerContext> ServerWith(OfferSettings settings,
                                                std::shared_ptr<const CertificateStore> store,
                                                Profile profile = Profile::kIntermediate) {
  auto context = ServerContext::Make({profile, "imap", std::move(store), std::move(settings)});
  if (!context) {
    ADD_FAILURE() << context.error().text;
    return nullptr;
  }
  return *context;
}

TEST(Offer, OfAProfile) {
  const std::string groups =
      kHasPostQuantum ? "X25519MLKEM768:X25519:P-256:P-384" : "X25519:P-256:P-384";
  for (const auto& [profile, minimum] : {std::pair(Profile::kModern, 0x0304),
                                         {Profile::kIntermediate, 0x0303},
                                         {Profile::kLegacy, 0x0301}}) {
    const auto offer = MakeOffer(profile);
    ASSERT_TRUE(offer);
    EXPECT_EQ(offer->minimum_version, minimum);
    EXPECT_EQ(offer->groups, groups);
    EXPECT_EQ(offer->ciphers.find("AES128-SHA") != std::string::npos, profile == Profile::kLegacy);
  }
  EXPECT_EQ(BackendOffer().groups, "X25519:P-256:P-384");
}

TEST(Offer, TakesNamesOfOpenSslAndIana) {
  const auto offer = MakeOffer(
      Profile::kLegacy, {0x0302,
                         {"secp384r1", "x25519", "P-521"},
                         {"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "aes256-sha", "DES-CBC3-SHA"},
                         {"RSA_PSS_RSAE_SHA512", "ecdsa_sha1"}});
  ASSERT_TRUE(offer) << offer.error().front().text;
  EXPECT_EQ(offer->minimum_version, 0x0302);
  EXPECT_EQ(offer->groups, "P-384:X25519:P-521");
  EXPECT_EQ(offer->ciphers, "ECDHE-RSA-AES128-GCM-SHA256:AES256-SHA:DES-CBC3-SHA");
  EXPECT_EQ(offer->signature_algorithms, (std::vector<uint16_t>{0x0806, 0x0203}));
}

TEST(Offer, RefusesWhatTheLibraryDoesNotKnow) {
  const std::string known = kHasPostQuantum ? "X25519MLKEM768, X25519, P-256, P-384, P-521"
                                            : "X25519, P-256, P-384, P-521";
  EXPECT_EQ(ErrorOf(Profile::kIntermediate, {{}, {"X25519", "X448"}, {}, {}}),
            "1 \"X448\" is not a group of this build's TLS library; use " + known +
                ", for example: tls_groups = [\"X25519\", \"P-256\"]");
  EXPECT_EQ(ErrorOf(Profile::kIntermediate, {{}, {"X25519MLKEM768"}, {}, {}}).empty(),
            kHasPostQuantum);
  EXPECT_EQ(
      ErrorOf(Profile::kIntermediate, {{}, {}, {"DHE-RSA-AES128-GCM-SHA256"}, {}}).substr(0, 78),
      "0 \"DHE-RSA-AES128-GCM-SHA256\" is not a cipher suite (for TLS 1.2 and below) of");
  EXPECT_EQ(ErrorOf(Profile::kIntermediate, {{}, {}, {"PSK-AES128-CBC-SHA"}, {}}).substr(0, 29),
            "0 \"PSK-AES128-CBC-SHA\" is not");
  EXPECT_EQ(ErrorOf(Profile::kIntermediate, {{}, {}, {"TLS_AES_128_GCM_SHA256"}, {}}).substr(0, 52),
            "0 \"TLS_AES_128_GCM_SHA256\" is a suite of TLS 1.3, wh");
  EXPECT_EQ(ErrorOf(Profile::kIntermediate, {{}, {}, {}, {"ed25519"}}).substr(0, 50),
            "0 \"ed25519\" is not a signature algorithm of this b");
  EXPECT_FALSE(FindGroup(""));
  EXPECT_FALSE(FindCipher(""));
}

TEST(Offer, RefusesRepetitionsUnderAnyName) {
  EXPECT_EQ(ErrorOf(Profile::kIntermediate, {{}, {"P-256", "secp256r1"}, {}, {}}),
            "1 \"secp256r1\" stands there twice; remove one");
  EXPECT_EQ(ErrorOf(Profile::kLegacy, {{}, {}, {"AES128-SHA", "TLS_RSA_WITH_AES_128_CBC_SHA"}, {}}),
            "1 \"TLS_RSA_WITH_AES_128_CBC_SHA\" stands there twice; remove one");
  EXPECT_EQ(ErrorOf(Profile::kIntermediate, {{}, {}, {}, {"ecdsa_sha1", "ECDSA_SHA1"}}),
            "1 \"ECDSA_SHA1\" stands there twice; remove one");
}

TEST(Offer, RefusesAVersionThatNoSuiteIsOldEnoughFor) {
  EXPECT_EQ(ErrorOf(Profile::kIntermediate, {0x0301, {}, {}, {}}).substr(0, 75),
            "0 \"1.0\" cannot be: none of the cipher suites works below TLS 1.2; use tls_p");
  EXPECT_EQ(
      ErrorOf(Profile::kLegacy, {0x0302, {}, {"ECDHE-RSA-AES128-GCM-SHA256"}, {}}).substr(0, 20),
      "0 \"1.1\" cannot be: n");
  EXPECT_EQ(ErrorOf(Profile::kIntermediate, {0x0301, {}, {"ECDHE-RSA-AES128-SHA"}, {}}), "");
  EXPECT_EQ(ErrorOf(Profile::kModern, {{}, {}, {"ECDHE-RSA-AES128-SHA"}, {}}).substr(0, 58),
            "0 has no effect where TLS 1.3 is the only version, whose s");
}

TEST(Offer, ItsGroupsAreNegotiated) {
  RawClient client;
  SSL_CTX_set1_curves_list(client.context(), "X25519:P-256:P-384");
  Transport wire;
  Channel server(wire, ServerWith({{}, {"P-384", "X25519"}, {}, {}}, SimpleStore()));
  client.Connect();
  ASSERT_TRUE(client.Handshake(server, wire));
  EXPECT_EQ(server.facts().group, "P-384");
}

TEST(Offer, ItsSuitesAreNegotiated) {
  RawClient client;
  SSL_CTX_set_max_proto_version(client.context(), TLS1_2_VERSION);
  Transport wire;
  Channel server(wire, ServerWith({{}, {}, {"ECDHE-ECDSA-AES256-GCM-SHA384"}, {}}, SimpleStore()));
  client.Connect();
  ASSERT_TRUE(client.Handshake(server, wire));
  EXPECT_EQ(server.facts().cipher, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384");
}

TEST(Offer, ItsSignatureAlgorithmsChooseTheCertificate) {
  const Authority& authority = TestAuthority();
  const Folder folder;
  const auto both =
      StoreOf({folder.WritePair("a", authority.IssueFor({"mail.example"})),
               folder.WritePair("b", authority.IssueFor({"mail.example"}, KeyKind::kRsa2048))});
  for (const auto& [algorithm, shown] :
       {std::pair("rsa_pss_rsae_sha384", SSL_SIGN_RSA_PSS_RSAE_SHA384),
        {"ecdsa_secp256r1_sha256", SSL_SIGN_ECDSA_SECP256R1_SHA256}}) {
    for (const uint16_t version : {uint16_t{TLS1_2_VERSION}, uint16_t{TLS1_3_VERSION}}) {
      // By name, and as the default where the client sends none.
      for (const char* name : {"mail.example", static_cast<const char*>(nullptr)}) {
        RawClient client;
        SSL_CTX_set_max_proto_version(client.context(), version);
        Transport wire;
        Channel server(wire, ServerWith({{}, {}, {}, {algorithm}}, both));
        client.Connect(name);
        ASSERT_TRUE(client.Handshake(server, wire)) << client.error << server.error();
        EXPECT_EQ(SSL_get_peer_signature_algorithm(client.ssl()), shown);
      }
    }
  }
}

TEST(Offer, ItsSignatureAlgorithmsMustSuitTheDefaultCertificate) {
  const auto context =
      ServerContext::Make({Profile::kIntermediate,
                           "imap",
                           SimpleStore(),
                           {{}, {}, {}, {"rsa_pss_rsae_sha256", "ecdsa_secp384r1_sha384"}}});
  EXPECT_TRUE(context);  // in TLS 1.2 the hash does not name the curve
  const auto modern =
      ServerContext::Make({Profile::kModern,
                           "imap",
                           SimpleStore(),
                           {{}, {}, {}, {"rsa_pss_rsae_sha256", "ecdsa_secp384r1_sha384"}}});
  ASSERT_FALSE(modern);
  EXPECT_EQ(modern.error().text,
            "none of tls_signature_algorithms suits the key of the default certificate");
}

}  // namespace
}  // namespace gatepost::tls::test
