// The relay over real sockets: client (TLS) -> stream -> relay -> stream -> backend (cleartext).
// SPDX-License-Identifier: Apache-2.0
#include "gateway/session/relay.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <algorithm>
#include <climits>
#include <functional>
#include <memory>
#include <string>

#include "gateway/net/address.h"
#include "gateway/net/stream.h"
#include "protocols/smtp/relay_scanner.h"
#include "tests/unit/gateway/allocation_counter.h"
#include "tests/unit/tls/test_certificates.h"
#include "tls/certificate_store.h"

namespace gatepost::session {
namespace {

using net::AsText;
using net::Bytes;
using net::HandlePtr;
using net::Stream;

// Peer is one end that a test plays: it keeps what it hears, or calls `on_data`.
class Peer final : public Stream::Observer {
 public:
  void OnPlaintext(Stream&, Bytes plaintext) override {
    received_bytes += plaintext.size();
    if (on_data) return on_data(AsText(plaintext));
    heard += AsText(plaintext);
  }
  void OnStreamEvent(Stream&, Stream::Event event) override {
    established |= event == Stream::Event::kTlsEstablished;
    ended |= event == Stream::Event::kEnd;
    failed |= event == Stream::Event::kFailed;
  }

  std::unique_ptr<Stream> stream;
  std::function<void(std::string_view)> on_data;
  std::string heard;
  uint64_t received_bytes = 0;
  bool established = false;
  bool ended = false;
  bool failed = false;
};

class RelayTest : public testing::Test, public Stream::Observer {
 protected:
  RelayTest() {
    uv_loop_init(&loop_);
    io_ = std::make_unique<net::StreamIo>(&loop_);
    peer_io_ = std::make_unique<net::StreamIo>(&loop_);
    check_.reset(new uv_check_t);
    uv_check_init(&loop_, check_.get());
    check_->data = this;
    uv_check_start(check_.get(), [](uv_check_t* check) {
      if (check->data == nullptr) return;
      auto& self = *static_cast<RelayTest*>(check->data);
      self.io_->NextIteration();
      self.peer_io_->NextIteration();
    });
  }

  ~RelayTest() override {
    relay_.reset();
    for (auto* stream : {&client_, &backend_, &client_peer_.stream, &backend_peer_.stream}) {
      stream->reset();
    }
    check_.reset();
    uv_run(&loop_, UV_RUN_DEFAULT);
    EXPECT_EQ(uv_loop_close(&loop_), 0);
  }

  void OnPlaintext(Stream& stream, Bytes plaintext) override {
    if (&stream == client_.get()) {
      relay_->FromClient(plaintext);
    } else {
      relay_->FromBackend(plaintext);
    }
  }
  void OnStreamEvent(Stream& stream, Stream::Event event) override {
    if (!relay_) return;
    if (&stream == client_.get()) {
      relay_->OnClientEvent(event);
    } else {
      relay_->OnBackendEvent(event);
    }
  }

  // Pair makes two connected streams over loopback.
  void Pair(std::unique_ptr<Stream>& ours, Peer& peer) {
    const int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const auto any = *net::Address::Parse("127.0.0.1", 0);
    ASSERT_EQ(bind(listening, any.get(), any.length()), 0);
    ASSERT_EQ(listen(listening, 1), 0);
    sockaddr_storage bound{};
    socklen_t length = sizeof(bound);
    getsockname(listening, reinterpret_cast<sockaddr*>(&bound), &length);
    const int theirs = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ASSERT_EQ(connect(theirs, reinterpret_cast<sockaddr*>(&bound), length), 0);
    const int accepted = accept4(listening, nullptr, nullptr, SOCK_CLOEXEC);
    close(listening);
    const auto open = [&](net::StreamIo& io, int descriptor, Stream::Observer& observer) {
      HandlePtr<uv_tcp_t> handle(new uv_tcp_t);
      uv_tcp_init(&loop_, handle.get());
      EXPECT_EQ(uv_tcp_open(handle.get(), descriptor), 0);
      return std::make_unique<Stream>(io, std::move(handle), observer);
    };
    ours = open(*io_, accepted, *this);
    peer.stream = open(*peer_io_, theirs, peer);
  }

  void Connect(std::unique_ptr<protocols::RelayScanner> scanner = nullptr, bool tls = true) {
    Pair(client_, client_peer_);
    Pair(backend_, backend_peer_);
    if (tls) {
      const tls::test::Folder folder;
      const auto identity = tls::test::Issue({.names = {"mail.example"}});
      const auto files = folder.WritePair("mail", identity);
      auto certificate = tls::CertificateLoader().Load(files);
      ASSERT_TRUE(certificate.has_value());
      tls::ServerOptions server;
      server.certificates = tls::CertificateStore::Make({std::move(*certificate)});
      tls::ClientOptions client;
      client.verify = false;
      client_->StartTls(*tls::ServerContext::Make(server));
      client_peer_.stream->StartTls(
          std::make_shared<tls::Peer>(*tls::ClientContext::Make(client), "mail.example"));
    }
    client_->ResumeReading();
    client_peer_.stream->ResumeReading();
    backend_peer_.stream->ResumeReading();
    if (tls) {
      ASSERT_TRUE(
          RunUntil([&] { return client_peer_.established && client_->channel()->established(); }));
    }
    relay_ = std::make_unique<Relay>(*client_, std::move(scanner));
    relay_->AttachBackend(*backend_, {});
  }

  // RunUntil turns the loop until `done`; false after very many turns without.
  bool RunUntil(const std::function<bool()>& done) {
    for (int turn = 0; turn < 200'000; ++turn) {
      if (done()) return true;
      uv_run(&loop_, UV_RUN_NOWAIT);
    }
    return done();
  }

  uint64_t AllocationsOf100RoundTrips();

  uv_loop_t loop_;
  std::unique_ptr<net::StreamIo> io_;
  std::unique_ptr<net::StreamIo> peer_io_;
  HandlePtr<uv_check_t> check_;
  std::unique_ptr<Stream> client_;
  std::unique_ptr<Stream> backend_;
  Peer client_peer_;
  Peer backend_peer_;
  std::unique_ptr<Relay> relay_;
};

// AllocationsOf100RoundTrips counts what 100 small round trips allocate, in the whole process.
uint64_t RelayTest::AllocationsOf100RoundTrips() {
  uint64_t rounds = 0;
  backend_peer_.on_data = [&](std::string_view) { backend_peer_.stream->Write("* 1 EXISTS\r\n"); };
  client_peer_.on_data = [&](std::string_view) {
    ++rounds;
    client_peer_.stream->Write("a NOOP\r\n");
  };
  client_peer_.stream->Write("a NOOP\r\n");
  EXPECT_TRUE(RunUntil([&] { return rounds >= 10; }));  // scratch has grown to its size by then
  const uint64_t before = test::Allocations();
  const uint64_t target = rounds + 100;
  // Not RunUntil: its std::function would be ours to explain.
  for (int turn = 0; turn < 200'000 && rounds < target; ++turn) uv_run(&loop_, UV_RUN_NOWAIT);
  EXPECT_EQ(rounds, target);
  return test::Allocations() - before;
}

TEST_F(RelayTest, ARoundTripAllocatesNothing) {
  if (!test::CountsAllocations()) GTEST_SKIP() << "a sanitizer owns malloc";
  Connect(nullptr, false);
  EXPECT_EQ(AllocationsOf100RoundTrips(), 0U);
}

TEST_F(RelayTest, ARoundTripOverTlsAllocatesOnlyWhatBoringSslDoes) {
  if (!test::CountsAllocations()) GTEST_SKIP() << "a sanitizer owns malloc";
  Connect();
  // The library takes a buffer for each record that it reads or writes: one each on our side, and
  // one each in the test's client.
  EXPECT_LE(AllocationsOf100RoundTrips(), 400U);
}

TEST_F(RelayTest, AStalledClientBoundsWhatIsHeldAndNothingIsLost) {
  Connect();
  client_peer_.stream->PauseReading();
  constexpr uint64_t kTotal = 64ULL * 1024 * 1024;
  const std::string piece(128 * 1024, 'x');
  uint64_t offered = 0;
  size_t most_held = 0;
  const auto feed = [&] {
    while (offered < kTotal && backend_peer_.stream->unsent() == 0) {
      backend_peer_.stream->Write(piece);
      offered += piece.size();
    }
    most_held = std::max(most_held, client_->unsent());
  };
  // Until nothing moves any more: the sockets are full and the relay has stopped to read.
  uint64_t before = 0;
  int quiet = 0;
  ASSERT_TRUE(RunUntil([&] {
    feed();
    quiet = backend_->received_bytes() == before ? quiet + 1 : 0;
    before = backend_->received_bytes();
    return quiet > 2000;
  }));
  EXPECT_FALSE(backend_->reading());
  EXPECT_LT(offered, kTotal);
  EXPECT_LE(most_held, 160U * 1024);  // one read, encrypted
  client_peer_.on_data = [](std::string_view) {};
  client_peer_.stream->ResumeReading();
  ASSERT_TRUE(RunUntil([&] {
    feed();
    return client_peer_.received_bytes >= kTotal;
  }));
  EXPECT_EQ(client_peer_.received_bytes, kTotal);
  EXPECT_EQ(client_->unsent(), 0U);
}

TEST_F(RelayTest, AClientThatHasEndedStillHearsTheBackend) {
  Connect(nullptr, false);
  client_peer_.stream->Write("a FETCH 1 BODY[]\r\n");
  client_peer_.stream->ShutdownWrite();
  ASSERT_TRUE(RunUntil([&] { return backend_peer_.ended; }));
  EXPECT_EQ(backend_peer_.heard, "a FETCH 1 BODY[]\r\n");
  EXPECT_EQ(relay_->state(), Relay::State::kRunning);
  backend_peer_.stream->Write("* 1 FETCH …\r\na OK\r\n");
  backend_peer_.stream->ShutdownWrite();
  ASSERT_TRUE(RunUntil([&] { return relay_->state() == Relay::State::kEnded; }));
  EXPECT_EQ(relay_->reason(), CloseReason::kDone);
  ASSERT_TRUE(RunUntil([&] { return client_peer_.heard.ends_with("a OK\r\n"); }));
}

TEST_F(RelayTest, AClientOfATlsBackendIsNotCutOffByItsEnd) {
  Connect();
  client_peer_.stream->Write("a NOOP\r\n");
  client_peer_.stream->ShutdownWrite();  // close_notify
  ASSERT_TRUE(RunUntil([&] { return backend_peer_.ended; }));
  backend_peer_.stream->Write("a OK\r\n");
  ASSERT_TRUE(RunUntil([&] { return client_peer_.heard == "a OK\r\n"; }));
}

TEST_F(RelayTest, ARefusedCommandIsAnsweredInItsTurn) {
  Connect(std::make_unique<smtp::RelayScanner>(
      protocols::BareNewline::kReject, protocols::DialogueLimits{}, "gate.example", nullptr));
  // All in one segment; the backend answers late and in two pieces.
  client_peer_.stream->Write("NOOP\r\nXCLIENT LOGIN=root\r\nRSET\r\n");
  ASSERT_TRUE(RunUntil([&] { return backend_peer_.heard == "NOOP\r\n"; }));
  backend_peer_.stream->Write("250 2.0");
  ASSERT_TRUE(RunUntil([&] { return backend_->received_bytes() == 7; }));
  EXPECT_EQ(client_peer_.heard, "");
  backend_peer_.stream->Write(".0 first\r\n");
  ASSERT_TRUE(RunUntil([&] { return backend_peer_.heard == "NOOP\r\nRSET\r\n"; }));
  backend_peer_.stream->Write("250 2.0.0 third\r\n");
  ASSERT_TRUE(RunUntil([&] { return client_peer_.heard.ends_with("third\r\n"); }));
  EXPECT_EQ(client_peer_.heard.rfind("250 2.0.0 first\r\n550 ", 0), 0U) << client_peer_.heard;
}

TEST_F(RelayTest, AClientThatAsksAndDoesNotListenIsNotReadForEver) {
  protocols::DialogueLimits limits;
  limits.max_bad_commands = UINT_MAX;
  Connect(std::make_unique<smtp::RelayScanner>(protocols::BareNewline::kReject, limits,
                                               "gate.example", nullptr));
  client_peer_.stream->PauseReading();
  std::string flood;
  for (int i = 0; i < 20'000; ++i) flood += "A\r\n";  // each answered by us with 500
  uint64_t offered = 0;
  size_t most_held = 0;
  int quiet = 0;
  uint64_t before = 0;
  ASSERT_TRUE(RunUntil([&] {
    if (client_peer_.stream->unsent() == 0) {
      client_peer_.stream->Write(flood);
      offered += flood.size();
    }
    most_held = std::max(most_held, client_->unsent());
    quiet = client_->received_bytes() == before ? quiet + 1 : 0;
    before = client_->received_bytes();
    return quiet > 2000;
  }));
  EXPECT_FALSE(client_->reading());
  EXPECT_LE(most_held, 80U * 1024);
  // Once it listens, every command is answered after all.
  const uint64_t commands = offered / 3;
  uint64_t answers = 0;
  client_peer_.on_data = [&](std::string_view text) {
    answers += static_cast<uint64_t>(std::count(text.begin(), text.end(), '\n'));
  };
  client_peer_.stream->ResumeReading();
  EXPECT_TRUE(RunUntil([&] { return answers == commands; })) << answers << " of " << commands;
}

TEST_F(RelayTest, ABackendWithoutChunkingGetsNoChunkWhateverThePoolOffers) {
  const protocols::Capabilities pool = {"CHUNKING"};
  Connect(std::make_unique<smtp::RelayScanner>(protocols::BareNewline::kReject,
                                               protocols::DialogueLimits{}, "gate.example", &pool));
  client_peer_.stream->Write("BDAT 21 LAST\r\nXCLIENT LOGIN=root\r\n\r\nNOOP\r\n");
  ASSERT_TRUE(RunUntil([&] { return backend_peer_.heard.ends_with("NOOP\r\n"); }));
  EXPECT_EQ(backend_peer_.heard, "NOOP\r\n");
  ASSERT_TRUE(RunUntil([&] { return client_peer_.heard.ends_with("\r\n"); }));
  EXPECT_EQ(client_peer_.heard.rfind("502 ", 0), 0U) << client_peer_.heard;
}

TEST_F(RelayTest, ABackendIsNotToldOfTheEndWhileTheClientsWordsWait) {
  Connect(std::make_unique<smtp::RelayScanner>(
      protocols::BareNewline::kReject, protocols::DialogueLimits{}, "gate.example", nullptr));
  client_peer_.stream->Write("DATA\r\nhello\r\n.\r\nQUIT\r\n");
  client_peer_.stream->ShutdownWrite();
  ASSERT_TRUE(RunUntil([&] { return backend_peer_.heard == "DATA\r\n"; }));
  ASSERT_TRUE(RunUntil([&] { return client_->ended(); }));
  EXPECT_FALSE(relay_->half_closed());
  EXPECT_FALSE(backend_peer_.ended);
  backend_peer_.stream->Write("354 go\r\n");
  ASSERT_TRUE(RunUntil([&] { return backend_peer_.ended; }));
  EXPECT_EQ(backend_peer_.heard, "DATA\r\nhello\r\n.\r\nQUIT\r\n");
  backend_peer_.stream->Write("250 2.0.0 queued\r\n");
  ASSERT_TRUE(RunUntil([&] { return client_peer_.heard.ends_with("queued\r\n"); }));
}

}  // namespace
}  // namespace gatepost::session
