// Handshakes that wait for their private key: signatures made elsewhere, and in their own time.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <thread>

#include "tests/unit/tls/channel_pair.h"
#include "tests/unit/tls/fixtures.h"
#include "tests/unit/tls/raw_client.h"
#include "tls/key_operation.h"

namespace gatepost::tls::test {
namespace {

std::shared_ptr<const CertificateStore> StoreWith(KeyKind kind, const std::string& file) {
  const Authority& authority = TestAuthority();
  return StoreOf(
      {authority.folder.WritePair("deferred-" + file, authority.IssueFor({"mail.example"}, kind))});
}

std::shared_ptr<const CertificateStore> RsaStore() {
  static const auto store = StoreWith(KeyKind::kRsa2048, "rsa");
  return store;
}

struct Case {
  std::string name;
  KeyKind key;
  uint16_t version;
  const char* ciphers = nullptr;
};

// A server whose slow keys are deferred, and a client that has sent its ClientHello.
class DeferredKey : public testing::Test {
 protected:
  explicit DeferredKey(std::shared_ptr<const CertificateStore> store = RsaStore(),
                       uint16_t version = TLS1_3_VERSION, const char* ciphers = nullptr)
      : context(MakeServer(std::move(store), Profile::kLegacy)) {
    wire.defer_slow_keys = true;
    SSL_CTX_set_min_proto_version(client.context(), version);
    SSL_CTX_set_max_proto_version(client.context(), version);
    if (ciphers != nullptr) SSL_CTX_set_strict_cipher_list(client.context(), ciphers);
    server = std::make_unique<Channel>(wire, context);
    client.Connect();
  }

  std::string Complete(std::unique_ptr<KeyOperation> operation) {
    std::vector<uint8_t> plaintext(2 * Channel::kPlaintextMargin);
    const size_t size = server->Complete(std::move(operation), plaintext);
    return {reinterpret_cast<const char*>(plaintext.data()), size};
  }

  // Runs the handshake to its end, with each operation on a thread of its own; returns how many
  // there were.
  int Handshake() {
    int operations = 0;
    for (int flight = 0; flight < 8 && !client.Handshake(*server, wire); ++flight) {
      auto operation = server->TakeKeyOperation();
      if (!operation) break;
      ++operations;
      std::thread([&operation] { operation->Run(); }).join();
      Complete(std::move(operation));
      client.Feed({reinterpret_cast<const char*>(wire.outgoing.data()), wire.outgoing.size()});
      wire.outgoing.clear();
    }
    return operations;
  }

  std::unique_ptr<KeyOperation> OperationOfAHello() {
    SSL_do_handshake(client.ssl());
    client.Pass(*server);
    return server->TakeKeyOperation();
  }

  std::shared_ptr<const ServerContext> context;
  Transport wire;
  std::unique_ptr<Channel> server;
  RawClient client;
};

class DeferredKeyKinds : public DeferredKey, public testing::WithParamInterface<Case> {
 protected:
  DeferredKeyKinds()
      : DeferredKey(StoreWith(GetParam().key, GetParam().name), GetParam().version,
                    GetParam().ciphers) {}
};

INSTANTIATE_TEST_SUITE_P(Handshakes, DeferredKeyKinds,
                         testing::Values(Case{"RsaTls13", KeyKind::kRsa2048, TLS1_3_VERSION},
                                         Case{"RsaTls12", KeyKind::kRsa2048, TLS1_2_VERSION},
                                         Case{"RsaTls10", KeyKind::kRsa2048, TLS1_VERSION},
                                         Case{"RsaKeyExchange", KeyKind::kRsa2048, TLS1_2_VERSION,
                                              "AES128-GCM-SHA256"},
                                         Case{"P384Tls13", KeyKind::kEcdsaP384, TLS1_3_VERSION},
                                         Case{"P384Tls12", KeyKind::kEcdsaP384, TLS1_2_VERSION}),
                         [](const auto& test) { return test.param.name; });

TEST_P(DeferredKeyKinds, WaitsForOneOperation) {
  EXPECT_EQ(Handshake(), 1);
  EXPECT_TRUE(server->established()) << server->error();
  ASSERT_TRUE(server->Send(AsBytes("* OK\r\n")));
  client.Feed({reinterpret_cast<const char*>(wire.outgoing.data()), wire.outgoing.size()});
  EXPECT_EQ(client.Read(), "* OK\r\n");
}

TEST_F(DeferredKey, AnswersNothingBeforeTheSignature) {
  auto operation = OperationOfAHello();
  ASSERT_TRUE(operation);
  EXPECT_TRUE(wire.outgoing.empty());
  EXPECT_FALSE(server->TakeKeyOperation());  // once
  EXPECT_EQ(server->failure(), Failure::kNone);
  operation->Run();
  Complete(std::move(operation));
  EXPECT_FALSE(wire.outgoing.empty());
}

TEST_F(DeferredKey, SignsAtOnceWithoutBeingAskedToWait) {
  wire.defer_slow_keys = false;
  EXPECT_EQ(Handshake(), 0);
  EXPECT_TRUE(server->established());
}

TEST_F(DeferredKey, DoesNotWaitForP256) {
  server = std::make_unique<Channel>(wire, MakeServer());
  EXPECT_EQ(Handshake(), 0);
  EXPECT_TRUE(server->established());
}

TEST_F(DeferredKey, DoesNotWaitToResume) {
  ASSERT_EQ(Handshake(), 1);
  ASSERT_TRUE(server->Send(AsBytes("* OK\r\n")));
  client.Feed({reinterpret_cast<const char*>(wire.outgoing.data()), wire.outgoing.size()});
  wire.outgoing.clear();
  client.Read();  // the ticket
  ASSERT_TRUE(client.session);
  server = std::make_unique<Channel>(wire, context);
  client.Connect();
  EXPECT_EQ(Handshake(), 0);
  EXPECT_TRUE(server->facts().resumed);
}

TEST_F(DeferredKey, FailsWhenTheOperationFailed) {
  auto operation = OperationOfAHello();
  ASSERT_TRUE(operation);
  Complete(std::move(operation));  // not run: it has no result
  EXPECT_EQ(server->failure(), Failure::kOther);
  EXPECT_EQ(server->error(), "private key operation failed");
  EXPECT_EQ(ERR_peek_error(), 0u);
}

TEST_F(DeferredKey, OutlivesItsConnectionAndItsContext) {
  auto operation = OperationOfAHello();
  ASSERT_TRUE(operation);
  server.reset();
  context.reset();
  operation->Run();  // AddressSanitizer would see a key that has gone
}

TEST_F(DeferredKey, KeepsWhatComesMeanwhile) {
  SSL_do_handshake(client.ssl());
  std::string hello = client.TakeOutput();
  // A record that TLS 1.3 lets a client send at any time in its handshake, RFC 8446 §5.
  const std::string change_cipher_spec("\x14\x03\x03\x00\x01\x01", 6);
  std::vector<uint8_t> plaintext(4 * Channel::kPlaintextMargin);
  EXPECT_EQ(server->Receive(AsBytes(hello + change_cipher_spec.substr(0, 3)), plaintext), 0u);
  auto operation = server->TakeKeyOperation();
  ASSERT_TRUE(operation);
  EXPECT_EQ(server->Receive(AsBytes(change_cipher_spec.substr(3)), plaintext), 0u);
  operation->Run();
  Complete(std::move(operation));
  client.Feed({reinterpret_cast<const char*>(wire.outgoing.data()), wire.outgoing.size()});
  wire.outgoing.clear();
  EXPECT_TRUE(client.Handshake(*server, wire));
  EXPECT_TRUE(server->established()) << server->error();
}

TEST_F(DeferredKey, KeepsNoMoreThanARecord) {
  auto operation = OperationOfAHello();
  ASSERT_TRUE(operation);
  const std::string noise(Channel::kPlaintextMargin, '\x14');
  std::vector<uint8_t> plaintext(4 * Channel::kPlaintextMargin);
  EXPECT_EQ(server->Receive(AsBytes(noise), plaintext), 0u);
  EXPECT_EQ(server->failure(), Failure::kNone);
  EXPECT_EQ(server->Receive(AsBytes("x"), plaintext), 0u);
  EXPECT_EQ(server->failure(), Failure::kOther);
  EXPECT_EQ(server->error(), "the client sends too much behind its ClientHello");
  operation->Run();
  EXPECT_EQ(Complete(std::move(operation)), "");
  EXPECT_TRUE(wire.outgoing.empty());
}

TEST_F(DeferredKey, IsOfNoUseToAPeerThatClosed) {
  auto operation = OperationOfAHello();
  ASSERT_TRUE(operation);
  server->PeerClosed();
  EXPECT_EQ(server->failure(), Failure::kEof);
  operation->Run();
  Complete(std::move(operation));
  EXPECT_TRUE(wire.outgoing.empty());
}

}  // namespace
}  // namespace gatepost::tls::test
