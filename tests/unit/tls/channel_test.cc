// The channel: handshakes and data at every split, closing, failures.
// SPDX-License-Identifier: Apache-2.0
#include "tls/channel.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/unit/tls/channel_pair.h"
#include "tests/unit/tls/fixtures.h"
#include "tests/unit/tls/raw_client.h"

namespace gatepost::tls::test {
namespace {

Pieces Random(unsigned seed) {
  return [engine = std::mt19937(seed)]() mutable { return size_t{1} + engine() % 200; };
}

std::string Noise(size_t size) {
  std::mt19937 engine(7);
  std::string text(size, '\0');
  for (char& c : text) c = static_cast<char>(engine());
  return text;
}

// A server channel and a raw client limited to one version.
class ServerChannel : public testing::TestWithParam<uint16_t> {
 protected:
  ServerChannel() : context(MakeServer()), server(wire, context) {
    SSL_CTX_set_min_proto_version(client.context(), GetParam());
    SSL_CTX_set_max_proto_version(client.context(), GetParam());
  }

  // Hands what the server sent to the client and returns its plaintext.
  std::string ClientReads() {
    client.Feed({reinterpret_cast<const char*>(wire.outgoing.data()), wire.outgoing.size()});
    wire.outgoing.clear();
    return client.Read();
  }
  // Has the client send `text` and returns what the server got of it.
  std::string ClientSends(std::string_view text, const Pieces& pieces = Whole()) {
    EXPECT_EQ(SSL_write(client.ssl(), text.data(), static_cast<int>(text.size())),
              static_cast<int>(text.size()));
    client.received.clear();
    return client.Pass(server, pieces);
  }

  std::shared_ptr<const ServerContext> context;
  Transport wire;
  Channel server;
  RawClient client;
};

INSTANTIATE_TEST_SUITE_P(Versions, ServerChannel, testing::Values(TLS1_2_VERSION, TLS1_3_VERSION),
                         [](const auto& test) {
                           return test.param == TLS1_2_VERSION ? "Tls12" : "Tls13";
                         });

TEST_P(ServerChannel, HandshakesOneByteAtATime) {
  client.Connect();
  ASSERT_TRUE(client.Handshake(server, wire, OneByOne()));
  EXPECT_TRUE(server.established());
  EXPECT_EQ(server.failure(), Failure::kNone);
  EXPECT_EQ(ClientSends("a1 NOOP\r\n", OneByOne()), "a1 NOOP\r\n");
  ASSERT_TRUE(server.Send(AsBytes("a1 OK\r\n")));
  EXPECT_EQ(ClientReads(), "a1 OK\r\n");
}

TEST_P(ServerChannel, HandshakesAtRandomSplits) {
  for (unsigned seed = 0; seed < 20; ++seed) {
    Channel channel(wire, context);
    client.session.reset();
    client.Connect();
    ASSERT_TRUE(client.Handshake(channel, wire, Random(seed))) << seed;
    EXPECT_TRUE(channel.established());
  }
}

TEST_P(ServerChannel, CarriesDataBehindTheHandshakesEnd) {
  // TLS 1.2 has it by false start only, RFC 7918.
  SSL_CTX_set_false_start_allowed_without_alpn(client.context(), 1);
  SSL_CTX_set_mode(client.context(), SSL_MODE_ENABLE_FALSE_START);
  client.Connect();
  // The client's last flight and its first command in the same bytes.
  SSL_do_handshake(client.ssl());
  client.Pass(server);
  client.Feed({reinterpret_cast<const char*>(wire.outgoing.data()), wire.outgoing.size()});
  wire.outgoing.clear();
  ASSERT_EQ(SSL_do_handshake(client.ssl()), 1);
  EXPECT_FALSE(server.established());
  EXPECT_EQ(ClientSends("a1 CAPABILITY\r\na2 NOOP\r\n"), "a1 CAPABILITY\r\na2 NOOP\r\n");
  EXPECT_TRUE(server.established());
}

TEST_P(ServerChannel, CarriesManyMebibytesBothWays) {
  client.Connect();
  ASSERT_TRUE(client.Handshake(server, wire));
  const std::string noise = Noise(5 << 20);

  ASSERT_TRUE(server.Send(AsBytes(noise)));
  EXPECT_TRUE(ClientReads() == noise);

  std::mt19937 engine(3);
  const auto reads = [&engine] { return size_t{1} + engine() % 131072; };
  EXPECT_TRUE(ClientSends(noise, reads) == noise);
}

TEST_P(ServerChannel, ReturnsARecordWhoseLastByteComesAlone) {
  client.Connect();
  ASSERT_TRUE(client.Handshake(server, wire));
  const std::string text(16384, 'x');
  ASSERT_EQ(SSL_write(client.ssl(), text.data(), 16384), 16384);
  const std::string record = client.TakeOutput();
  std::vector<uint8_t> plaintext(record.size() + Channel::kPlaintextMargin);
  EXPECT_EQ(server.Receive(AsBytes(record).first(record.size() - 1), plaintext), 0u);
  plaintext.resize(1 + Channel::kPlaintextMargin);
  EXPECT_EQ(server.Receive(AsBytes(record).last(1), plaintext), 16384u);
}

TEST_P(ServerChannel, KeepsSendingAfterThePeersCloseNotify) {
  client.Connect();
  ASSERT_TRUE(client.Handshake(server, wire));
  SSL_write(client.ssl(), "a9 LOGOUT\r\n", 11);
  SSL_shutdown(client.ssl());
  client.received.clear();
  EXPECT_EQ(client.Pass(server), "a9 LOGOUT\r\n");
  EXPECT_TRUE(server.peer_closed());
  EXPECT_EQ(server.failure(), Failure::kNone);
  server.PeerClosed();  // FIN after close_notify is no failure
  EXPECT_EQ(server.failure(), Failure::kNone);
  ASSERT_TRUE(server.Send(AsBytes("* BYE\r\n")));
  server.Shutdown();
  EXPECT_EQ(ClientReads(), "* BYE\r\n");
  EXPECT_EQ(client.last_error, SSL_ERROR_ZERO_RETURN);
}

TEST_P(ServerChannel, KeepsReceivingAfterItsOwnCloseNotify) {
  client.Connect();
  ASSERT_TRUE(client.Handshake(server, wire));
  server.Shutdown();
  server.Shutdown();  // once is enough
  EXPECT_EQ(ClientReads(), "");
  EXPECT_EQ(client.last_error, SSL_ERROR_ZERO_RETURN);
  EXPECT_FALSE(server.Send(AsBytes("late")));
  EXPECT_TRUE(wire.outgoing.empty());
  EXPECT_EQ(ClientSends("still here"), "still here");
}

TEST_P(ServerChannel, CallsATruncatedConnectionEof) {
  client.Connect();
  ASSERT_TRUE(client.Handshake(server, wire));
  SSL_write(client.ssl(), "half", 4);
  const std::string record = client.TakeOutput();
  std::vector<uint8_t> plaintext(record.size() + Channel::kPlaintextMargin);
  EXPECT_EQ(server.Receive(AsBytes(record).first(record.size() - 3), plaintext), 0u);
  server.PeerClosed();
  EXPECT_EQ(server.failure(), Failure::kEof);
  EXPECT_EQ(server.error(), "the peer closed the connection without close_notify");
  EXPECT_FALSE(server.peer_closed());
  EXPECT_TRUE(server.Send(AsBytes("an answer to a FIN alone")));  // half-closed by FIN
}

TEST_P(ServerChannel, BreaksOnATamperedRecord) {
  client.Connect();
  ASSERT_TRUE(client.Handshake(server, wire));
  SSL_write(client.ssl(), "a1 NOOP\r\n", 9);
  SSL_write(client.ssl(), "a2 NOOP\r\n", 9);
  std::string records = client.TakeOutput();
  records.back() = static_cast<char>(records.back() ^ 1);
  std::vector<uint8_t> plaintext(records.size() + Channel::kPlaintextMargin);
  EXPECT_EQ(server.Receive(AsBytes(records), plaintext), 9u);  // the good one is delivered
  EXPECT_EQ(server.failure(), Failure::kOther);
  EXPECT_EQ(server.error(), "decryption failed or bad record mac");
  EXPECT_FALSE(wire.outgoing.empty());  // the alert
  EXPECT_FALSE(server.Send(AsBytes("x")));
  EXPECT_EQ(server.Receive(AsBytes(records), plaintext), 0u);
  EXPECT_EQ(ERR_peek_error(), 0u);
}

TEST_P(ServerChannel, ResumesWithATicket) {
  client.Connect();
  ASSERT_TRUE(client.Handshake(server, wire));
  EXPECT_FALSE(server.facts().resumed);
  ASSERT_TRUE(server.Send(AsBytes("* OK\r\n")));
  EXPECT_EQ(ClientReads(), "* OK\r\n");
  ASSERT_TRUE(client.session);

  Channel second(wire, context);
  client.Connect();
  ASSERT_TRUE(client.Handshake(second, wire));
  EXPECT_TRUE(second.facts().resumed);
}

TEST_P(ServerChannel, KnowsTheFacts) {
  const uint8_t alpn[] = "\4imap";
  SSL_CTX_set_alpn_protos(client.context(), alpn, 5);
  SSL_CTX_set1_curves_list(client.context(), "P-256");
  client.Connect("Mail.Example");
  ASSERT_TRUE(client.Handshake(server, wire));
  const Facts facts = server.facts();
  EXPECT_EQ(facts.version, GetParam() == TLS1_3_VERSION ? "TLSv1.3" : "TLSv1.2");
  EXPECT_EQ(facts.cipher, GetParam() == TLS1_3_VERSION ? "TLS_AES_128_GCM_SHA256"
                                                       : "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256");
  EXPECT_EQ(facts.openssl_cipher, GetParam() == TLS1_3_VERSION ? "TLS_AES_128_GCM_SHA256"
                                                               : "ECDHE-ECDSA-AES128-GCM-SHA256");
  EXPECT_EQ(facts.group, "P-256");
  EXPECT_EQ(facts.server_name, "mail.example");
  EXPECT_EQ(facts.alpn, "imap");
}

TEST_P(ServerChannel, DropsAServerNameWithOddCharacters) {
  client.Connect("mail.example\r\nlevel=info user=root");
  ASSERT_TRUE(client.Handshake(server, wire));
  EXPECT_EQ(server.facts().server_name, "");
}

TEST_P(ServerChannel, RefusesAForeignAlpn) {
  const uint8_t alpn[] = "\2h2\10http/1.1";
  SSL_CTX_set_alpn_protos(client.context(), alpn, sizeof alpn - 1);
  client.Connect();
  EXPECT_FALSE(client.Handshake(server, wire));
  EXPECT_EQ(server.failure(), Failure::kAlpn);
  EXPECT_EQ(client.error, "tlsv1 alert no application protocol");
}

TEST_P(ServerChannel, TakesItsOwnAlpnOutOfAList) {
  const uint8_t alpn[] = "\2h2\4imap";
  SSL_CTX_set_alpn_protos(client.context(), alpn, sizeof alpn - 1);
  client.Connect();
  ASSERT_TRUE(client.Handshake(server, wire));
  EXPECT_EQ(server.facts().alpn, "imap");
}

TEST_P(ServerChannel, AcceptsAClientWithoutAlpn) {
  client.Connect();
  ASSERT_TRUE(client.Handshake(server, wire));
  EXPECT_EQ(server.facts().alpn, "");
}

TEST_P(ServerChannel, CountsARefusedCertificate) {
  SSL_CTX_set_verify(client.context(), SSL_VERIFY_PEER, nullptr);  // trusts nobody
  client.Connect();
  EXPECT_FALSE(client.Handshake(server, wire));
  EXPECT_EQ(server.failure(), Failure::kCertificateUnknown);
  EXPECT_EQ(server.error(), "the peer sent the alert \"unknown CA\" (48)");
}

TEST(ServerChannelKeys, FollowsAKeyUpdateAndAnswersIt) {  // RFC 8446 §4.6.3
  Transport wire;
  Channel server(wire, MakeServer());
  RawClient client;
  client.Connect();
  ASSERT_TRUE(client.Handshake(server, wire));
  ASSERT_EQ(SSL_key_update(client.ssl(), SSL_KEY_UPDATE_REQUESTED), 1);
  ASSERT_EQ(SSL_write(client.ssl(), "new keys", 8), 8);
  client.received.clear();
  EXPECT_EQ(client.Pass(server, OneByOne()), "new keys");
  ASSERT_TRUE(server.Send(AsBytes("mine too")));
  client.Feed({reinterpret_cast<const char*>(wire.outgoing.data()), wire.outgoing.size()});
  EXPECT_EQ(client.Read(), "mine too");
  EXPECT_EQ(client.last_error, SSL_ERROR_WANT_READ);
}

TEST(ServerChannelOld, ModernRefusesTls12) {
  Transport wire;
  Channel server(wire, MakeServer(SimpleStore(), Profile::kModern));
  RawClient client;
  SSL_CTX_set_max_proto_version(client.context(), TLS1_2_VERSION);
  client.Connect();
  EXPECT_FALSE(client.Handshake(server, wire));
  EXPECT_EQ(server.failure(), Failure::kUnsupportedVersion);
  EXPECT_EQ(server.error(), "unsupported protocol");
}

TEST(ServerChannelOld, OnlyLegacySpeaksTls10) {
  RawClient client;
  SSL_CTX_set_min_proto_version(client.context(), TLS1_VERSION);
  SSL_CTX_set_max_proto_version(client.context(), TLS1_VERSION);
  Transport wire;
  Channel intermediate(wire, MakeServer());
  client.Connect();
  EXPECT_FALSE(client.Handshake(intermediate, wire));
  EXPECT_EQ(intermediate.failure(), Failure::kUnsupportedVersion);

  wire.outgoing.clear();
  Channel legacy(wire, MakeServer(SimpleStore(), Profile::kLegacy));
  client.Connect();
  ASSERT_TRUE(client.Handshake(legacy, wire));
  EXPECT_EQ(legacy.facts().version, "TLSv1");
}

TEST(ServerChannelOld, SaysWhenNoCipherIsShared) {
  RawClient client;
  SSL_CTX_set_max_proto_version(client.context(), TLS1_2_VERSION);
  ASSERT_EQ(SSL_CTX_set_cipher_list(client.context(), "AES128-SHA"), 1);
  Transport wire;
  Channel server(wire, MakeServer());
  client.Connect();
  EXPECT_FALSE(client.Handshake(server, wire));
  EXPECT_EQ(server.failure(), Failure::kNoSharedCipher);
}

TEST(ServerChannelStart, AnswersNothingToPlaintext) {
  const auto context = MakeServer();
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"GET / HTTP/1.1\r\n", "an HTTP request"},
      {"SSH-2.0-OpenSSH\r\n", "SSH"},
      {"a1 CAPABILITY\r\n", "a first byte of 0x61"},
      {"\x80garbage", "a first byte of 0x80"},
  };
  for (const auto& [text, words] : cases) {
    Transport wire;
    Channel server(wire, context);
    std::vector<uint8_t> plaintext(text.size() + Channel::kPlaintextMargin);
    EXPECT_EQ(server.Receive(AsBytes(text), plaintext), 0u);
    EXPECT_EQ(server.failure(), Failure::kPlaintext) << text;
    EXPECT_EQ(server.error(), "the client does not speak TLS: " + std::string(words));
    EXPECT_TRUE(wire.outgoing.empty());
  }
}

TEST(ServerChannelStart, CallsGarbageInARecordPlaintext) {
  Transport wire;
  Channel server(wire, MakeServer());
  std::vector<uint8_t> plaintext(100 + Channel::kPlaintextMargin);
  EXPECT_EQ(server.Receive(AsBytes("\x16garbage of some length"), plaintext), 0u);
  EXPECT_EQ(server.failure(), Failure::kPlaintext);
  EXPECT_EQ(ERR_peek_error(), 0u);
}

// OpenSSL sends its alert so when it refuses our certificate, and the library cannot read it.
TEST(ServerChannelStart, ReadsAnAlertInCleartextBehindTheServersHello) {
  RawClient client;
  Transport wire;
  Channel server(wire, MakeServer());
  client.Connect();
  ASSERT_NE(SSL_do_handshake(client.ssl()), 1);
  client.Pass(server);
  ASSERT_FALSE(wire.outgoing.empty());
  const std::string_view flight("\x14\x03\x03\x00\x01\x01\x15\x03\x03\x00\x02\x02\x30", 13);
  std::vector<uint8_t> plaintext(flight.size() + Channel::kPlaintextMargin);
  EXPECT_EQ(server.Receive(AsBytes(flight), plaintext), 0u);
  EXPECT_EQ(server.failure(), Failure::kCertificateUnknown);
  EXPECT_EQ(server.received_alert(), SSL_AD_UNKNOWN_CA);
  EXPECT_EQ(server.error(), "the peer sent the alert \"unknown CA\" (48)");
}

TEST(ServerChannelStart, SaysThatThePeerLeftDuringTheHandshake) {
  Transport wire;
  Channel server(wire, MakeServer());
  std::vector<uint8_t> plaintext(10 + Channel::kPlaintextMargin);
  EXPECT_EQ(server.Receive(AsBytes("\x16\x03\x01"), plaintext), 0u);
  EXPECT_EQ(server.failure(), Failure::kNone);
  server.PeerClosed();
  EXPECT_EQ(server.failure(), Failure::kEof);
  EXPECT_EQ(server.error(), "the peer closed the connection during the handshake");
}

TEST(ServerChannelStart, RefusesAnOversizedRecord) {
  Transport wire;
  Channel server(wire, MakeServer());
  std::string record("\x16\x03\x01\xff\xff", 5);
  record.append(0xffff, 'x');
  std::vector<uint8_t> plaintext(record.size() + Channel::kPlaintextMargin);
  EXPECT_EQ(server.Receive(AsBytes(record), plaintext), 0u);
  EXPECT_EQ(server.failure(), Failure::kOther);
  EXPECT_EQ(server.error(), "encrypted length too long");
}

TEST(ChannelPair, HandshakesBetweenItsOwnTwoSides) {
  for (const Pieces& pieces : {Whole(), OneByOne(), Random(1)}) {
    Pair pair(MakeClient("imap"), MakeServer());
    ASSERT_TRUE(pair.Handshake(pieces)) << pair.client.error() << pair.server.error();
    EXPECT_EQ(pair.client.facts().version, "TLSv1.3");
    EXPECT_EQ(pair.client.facts().alpn, "imap");
    EXPECT_EQ(pair.server.facts().server_name, "mail.example");
    ASSERT_TRUE(pair.client.Send(AsBytes("a1 NOOP\r\n")));
    EXPECT_EQ(Deliver(pair.client_wire, pair.server, pieces), "a1 NOOP\r\n");
    ASSERT_TRUE(pair.server.Send(AsBytes("a1 OK\r\n")));  // the ticket goes with it
    EXPECT_EQ(Deliver(pair.server_wire, pair.client, pieces), "a1 OK\r\n");
  }
}

TEST(ChannelPair, SeveralChannelsShareATransport) {
  const auto server_context = MakeServer();
  const auto client_context = MakeClient();
  Transport wire;  // all four channels on one, as in a worker
  const auto peer = std::make_shared<Peer>(client_context, "mail.example");
  Channel client_a(wire, peer);
  Channel client_b(wire, peer);
  Channel server_a(wire, server_context);
  Channel server_b(wire, server_context);
  std::vector<uint8_t> plaintext(1 << 17);
  const auto take = [&wire] { return std::exchange(wire.outgoing, {}); };
  client_a.Start();
  auto to_a = take();
  client_b.Start();
  auto to_b = take();
  for (int round = 0; round < 3; ++round) {
    (void)server_a.Receive(to_a, plaintext);
    auto from_a = take();
    (void)server_b.Receive(to_b, plaintext);
    auto from_b = take();
    (void)client_b.Receive(from_b, plaintext);
    to_b = take();
    (void)client_a.Receive(from_a, plaintext);
    to_a = take();
  }
  ASSERT_TRUE(server_a.established() && server_b.established());
  ASSERT_TRUE(client_a.Send(AsBytes("from a")));
  const auto a = take();
  ASSERT_TRUE(client_b.Send(AsBytes("from b")));
  const auto b = take();
  size_t size = server_b.Receive(b, plaintext);
  EXPECT_EQ(std::string(plaintext.begin(), plaintext.begin() + static_cast<long>(size)), "from b");
  size = server_a.Receive(a, plaintext);
  EXPECT_EQ(std::string(plaintext.begin(), plaintext.begin() + static_cast<long>(size)), "from a");
}

TEST(ChannelPair, BreaksRatherThanLosesBytesInASmallBuffer) {
  Pair pair(MakeClient(), MakeServer());
  ASSERT_TRUE(pair.Handshake());
  ASSERT_TRUE(pair.client.Send(AsBytes("more than four")));
  std::vector<uint8_t> plaintext(4);
  EXPECT_EQ(pair.server.Receive(pair.client_wire.outgoing, plaintext), 4u);
  EXPECT_EQ(pair.server.failure(), Failure::kOther);
}

TEST(ChannelPair, LetsGoOfTheCertificatesAfterTheHandshake) {
  Pair pair(MakeClient(), nullptr);
  auto context = MakeServer();
  const std::weak_ptr<const ServerContext> watched = context;
  Transport wire;
  Channel server(wire, std::move(context));
  pair.client.Start();
  (void)Deliver(pair.client_wire, server);
  EXPECT_FALSE(watched.expired());
  (void)Deliver(wire, pair.client);
  (void)Deliver(pair.client_wire, server);
  ASSERT_TRUE(server.established());
  EXPECT_TRUE(watched.expired());
  ASSERT_TRUE(server.Send(AsBytes("still works")));
  EXPECT_EQ(Deliver(wire, pair.client), "still works");
}

TEST(FailureNames, AreMetricLabels) {
  EXPECT_EQ(Name(Failure::kNone), "none");
  EXPECT_EQ(Name(Failure::kEof), "eof");
  EXPECT_EQ(Name(Failure::kOther), "other");
}

}  // namespace
}  // namespace gatepost::tls::test
