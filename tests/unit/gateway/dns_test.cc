// A question to the DNS, on the loop. With a real name server: tests/integration/test_names.
// SPDX-License-Identifier: Apache-2.0
#include "gateway/net/dns.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace gatepost::net {
namespace {

class DnsTest : public testing::Test, public DnsQuery::Observer {
 protected:
  DnsTest() { uv_loop_init(&loop_); }
  ~DnsTest() override {
    query_.reset();
    uv_run(&loop_, UV_RUN_DEFAULT);
    EXPECT_EQ(uv_loop_close(&loop_), 0);
  }

  void Ask(DnsQuery::Kind kind, const std::string& name, const std::string& server) {
    query_ = std::make_unique<DnsQuery>(&loop_, kind, name, server, *this);
  }

  uv_loop_t loop_;
  std::unique_ptr<DnsQuery> query_;
  std::optional<DnsAnswer> answer_;

 private:
  void OnDnsAnswer(DnsAnswer answer) override {
    EXPECT_FALSE(answer_);
    answer_ = std::move(answer);
    query_.reset();
  }
};

TEST_F(DnsTest, WhatIsKnownAtOnceIsToldLater) {
  Ask(DnsQuery::Kind::kAddresses, "localhost", {});  // RFC 6761 §6.3: nobody is asked
  EXPECT_FALSE(answer_);
  uv_run(&loop_, UV_RUN_DEFAULT);
  ASSERT_TRUE(answer_);
  EXPECT_EQ(answer_->error, "");
  EXPECT_FALSE(answer_->addresses.empty());
}

TEST_F(DnsTest, WhatCantBeAskedIsToldLater) {
  Ask(DnsQuery::Kind::kServices, "_imap._tcp.example.test", "nonsense");
  EXPECT_FALSE(answer_);
  uv_run(&loop_, UV_RUN_DEFAULT);
  ASSERT_TRUE(answer_);
  EXPECT_FALSE(answer_->error.empty());
}

TEST_F(DnsTest, ASilentServerIsGivenUpAtOnce) {
  const int server = socket(AF_INET, SOCK_DGRAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  ASSERT_EQ(bind(server, reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(getsockname(server, reinterpret_cast<sockaddr*>(&address), &size), 0);
  Ask(DnsQuery::Kind::kAddresses, "store.example.test",
      "127.0.0.1:" + std::to_string(ntohs(address.sin_port)));
  std::array<char, 512> question{};
  EXPECT_GT(recv(server, question.data(), question.size(), 0), 0);
  uv_run(&loop_, UV_RUN_NOWAIT);
  query_.reset();
  uv_run(&loop_, UV_RUN_NOWAIT);
  EXPECT_FALSE(uv_loop_alive(&loop_));
  EXPECT_FALSE(answer_);
  close(server);
}

}  // namespace
}  // namespace gatepost::net
