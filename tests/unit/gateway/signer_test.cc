// The signer's thread: answers on the loop, to whoever is still there, and no more at a time than
// it takes. The key operations are those of real handshakes.
// SPDX-License-Identifier: Apache-2.0
#include "gateway/net/signer.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/unit/tls/channel_pair.h"
#include "tests/unit/tls/fixtures.h"
#include "tls/certificate_store.h"
#include "tls/context.h"

namespace gatepost::net {
namespace {

// What the clients heard, in order: "a signed", "b room".
using Heard = std::vector<std::string>;

class Client final : public Signer::Client {
 public:
  Client(std::string name, Heard& heard) : name_(std::move(name)), heard_(heard) {}
  void OnSigned(std::unique_ptr<tls::KeyOperation> operation) override {
    heard_.push_back(name_ + " signed");
    signed_operation = std::move(operation);
  }
  void OnRoom() override { heard_.push_back(name_ + " room"); }

  std::unique_ptr<tls::KeyOperation> signed_operation;

 private:
  std::string name_;
  Heard& heard_;
};

// A handshake that has come as far as its signature.
struct Handshake {
  Handshake() {
    static const tls::test::Folder folder;
    static const auto server_context = [] {
      tls::test::Request request;
      request.key = tls::test::KeyKind::kRsa2048;
      const auto store =
          tls::test::StoreOf({folder.WritePair("signer", tls::test::Issue(request))});
      return *tls::ServerContext::Make({tls::Profile::kIntermediate, "imap", store});
    }();
    static const auto client_context = *tls::ClientContext::Make({false, {}, "imap"});
    pair = std::make_unique<tls::test::Pair>(client_context, server_context);
    pair->server_wire.defer_slow_keys = true;
    pair->Handshake();
    operation = pair->server.TakeKeyOperation();
  }

  std::unique_ptr<tls::test::Pair> pair;
  std::unique_ptr<tls::KeyOperation> operation;
};

class SignerTest : public testing::Test {
 protected:
  SignerTest() {
    uv_loop_init(&loop_);
    uv_timer_init(&loop_, &limit_);
    uv_timer_start(
        &limit_, [](uv_timer_t*) { GTEST_FAIL() << "no answer"; }, 60'000, 0);
    signer_ = std::make_unique<Signer>(&loop_);
  }

  ~SignerTest() override {
    signer_.reset();
    uv_close(reinterpret_cast<uv_handle_t*>(&limit_), nullptr);
    uv_run(&loop_, UV_RUN_DEFAULT);
    EXPECT_EQ(uv_loop_close(&loop_), 0);
  }

  void RunUntil(size_t heard) {
    while (heard_.size() < heard && !HasFailure()) uv_run(&loop_, UV_RUN_ONCE);
  }

  uv_loop_t loop_;
  uv_timer_t limit_;
  Heard heard_;
  std::unique_ptr<Signer> signer_;
};

TEST_F(SignerTest, AnswersWithASignatureThatTheClientTakes) {
  Handshake handshake;
  Client client("a", heard_);
  signer_->Sign(std::move(handshake.operation), client);
  EXPECT_EQ(heard_, Heard());  // never from inside the call
  RunUntil(1);
  EXPECT_EQ(heard_, Heard{"a signed"});
  std::vector<uint8_t> plaintext(2 * tls::Channel::kPlaintextMargin);
  EXPECT_EQ(handshake.pair->server.Complete(std::move(client.signed_operation), plaintext), 0u);
  tls::test::Deliver(handshake.pair->server_wire, handshake.pair->client);
  tls::test::Deliver(handshake.pair->client_wire, handshake.pair->server);
  EXPECT_TRUE(handshake.pair->client.established());
  EXPECT_TRUE(handshake.pair->server.established());
}

TEST_F(SignerTest, DoesNotCallWhoIsForgotten) {
  Client stays("stays", heard_);
  std::vector<std::unique_ptr<Client>> leave;
  for (int i = 0; i < 3; ++i) {
    leave.push_back(std::make_unique<Client>("leaves", heard_));
    signer_->Sign(std::move(Handshake().operation), *leave.back());
  }
  signer_->Sign(std::move(Handshake().operation), stays);
  for (auto& client : leave) {  // one of them may be at work by now
    signer_->Forget(*client);
    client.reset();
  }
  RunUntil(1);
  EXPECT_EQ(heard_, Heard{"stays signed"});
}

TEST_F(SignerTest, HasRoomAgainInTheOrderOfWaiting) {
  Client busy("busy", heard_);
  Client first("first", heard_);
  Client second("second", heard_);
  for (size_t i = 0; i < Signer::kMaxOperations; ++i) {
    EXPECT_FALSE(signer_->full());
    signer_->Sign(std::move(Handshake().operation), busy);
  }
  EXPECT_TRUE(signer_->full());
  signer_->WaitForRoom(first);
  signer_->WaitForRoom(second);
  RunUntil(Signer::kMaxOperations + 2);
  EXPECT_FALSE(signer_->full());
  const auto room = std::find(heard_.begin(), heard_.end(), "first room");
  const auto next = std::find(heard_.begin(), heard_.end(), "second room");
  EXPECT_LT(room, next);
  EXPECT_LT(next, heard_.end());
  EXPECT_GT(room, heard_.begin());  // a signature came first
}

TEST_F(SignerTest, HasRoomWhenEverybodyLeft) {
  std::vector<std::unique_ptr<Client>> busy;
  for (size_t i = 0; i < Signer::kMaxOperations; ++i) {
    busy.push_back(std::make_unique<Client>("busy", heard_));
    signer_->Sign(std::move(Handshake().operation), *busy.back());
  }
  std::vector<std::unique_ptr<Client>> wait;  // more than are called at a time
  for (size_t i = 0; i < 2 * Signer::kMaxOperations + 1; ++i) {
    wait.push_back(std::make_unique<Client>("waits", heard_));
    signer_->WaitForRoom(*wait.back());
  }
  for (auto& client : busy) signer_->Forget(*client);
  RunUntil(wait.size());
  EXPECT_EQ(heard_, Heard(wait.size(), "waits room"));
}

TEST_F(SignerTest, ForgetsWhoWaitsForRoom) {
  Client busy("busy", heard_);
  for (size_t i = 0; i < Signer::kMaxOperations; ++i) {
    signer_->Sign(std::move(Handshake().operation), busy);
  }
  Client leaves("leaves", heard_);
  signer_->WaitForRoom(leaves);
  signer_->Forget(leaves);
  RunUntil(Signer::kMaxOperations);
  EXPECT_EQ(heard_, Heard(Signer::kMaxOperations, "busy signed"));
}

TEST_F(SignerTest, EndsWithWorkLeft) {
  Client client("a", heard_);
  for (int i = 0; i < 5; ++i) signer_->Sign(std::move(Handshake().operation), client);
  signer_.reset();
  EXPECT_EQ(heard_, Heard());
}

}  // namespace
}  // namespace gatepost::net
