// SPDX-License-Identifier: Apache-2.0
#include "gateway/net/dialer.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <vector>

namespace gatepost::net {
namespace {

constexpr std::chrono::milliseconds kLong{60'000};

// A socket that listens, or lets everybody wait who comes.
class Peer {
 public:
  explicit Peer(const std::string& host, bool answers = true) : address_(*Address::Parse(host, 0)) {
    descriptor_ = socket(address_.family(), SOCK_STREAM, 0);
    EXPECT_EQ(bind(descriptor_, address_.get(), address_.length()), 0);
    EXPECT_EQ(listen(descriptor_, 0), 0);
    sockaddr_storage bound{};
    socklen_t length = sizeof(bound);
    getsockname(descriptor_, reinterpret_cast<sockaddr*>(&bound), &length);
    address_ = Address(reinterpret_cast<const sockaddr*>(&bound));
    // Who has room in the queue of a socket that does not accept is connected; nobody behind is.
    for (int i = 0; !answers && i < 8; ++i) {
      waiting_.push_back(socket(address_.family(), SOCK_STREAM | SOCK_NONBLOCK, 0));
      (void)connect(waiting_.back(), address_.get(), address_.length());
    }
  }
  ~Peer() {
    for (const int descriptor : waiting_) close(descriptor);
    close(descriptor_);
  }
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  [[nodiscard]] const Address& address() const { return address_; }
  // Refuse closes the socket: whoever comes is refused.
  [[nodiscard]] static Address Refusing(const std::string& host) { return Peer(host).address(); }

 private:
  Address address_;
  int descriptor_;
  std::vector<int> waiting_;
};

class DialTest : public testing::Test, public Dial::Observer {
 protected:
  DialTest() {
    uv_loop_init(&loop_);
    deadlines_ = std::make_unique<Deadlines>(&loop_);
  }
  ~DialTest() override {
    dial_.reset();
    deadlines_.reset();
    uv_run(&loop_, UV_RUN_DEFAULT);
    EXPECT_EQ(uv_loop_close(&loop_), 0);
  }

  // Connects and returns the Dial when it has ended.
  Dial& Connect(std::vector<Address> addresses, std::chrono::milliseconds timeout = kLong) {
    ended_ = false;
    uv_update_time(&loop_);
    dial_ = std::make_unique<Dial>(&loop_, std::move(addresses), *deadlines_, timeout, *this);
    while (!ended_) uv_run(&loop_, UV_RUN_ONCE);
    return *dial_;
  }

  uv_loop_t loop_{};
  std::unique_ptr<Deadlines> deadlines_;
  std::unique_ptr<Dial> dial_;

 private:
  void OnDialed(Dial&) override { ended_ = true; }

  bool ended_ = false;
};

TEST_F(DialTest, TakesTheFirstAddressThatConnects) {
  const Peer one("127.0.0.2");
  const Peer two("127.0.0.3");
  const Dial& dial = Connect({one.address(), two.address()});
  EXPECT_EQ(dial.result(), Dial::Result::kConnected);
  EXPECT_EQ(dial.address().Text(), one.address().Text());
}

TEST_F(DialTest, PassesOverOneThatRefuses) {
  const Peer good("127.0.0.3");
  const Dial& dial = Connect({Peer::Refusing("127.0.0.2"), good.address()});
  EXPECT_EQ(dial.result(), Dial::Result::kConnected);
  EXPECT_EQ(dial.address().Text(), good.address().Text());
}

// RFC 8305 §5
TEST_F(DialTest, DoesNotWaitForOneThatIsSilent) {
  const Peer silent("127.0.0.2", false);
  const Peer good("127.0.0.3");
  const Dial& dial = Connect({silent.address(), silent.address(), silent.address(),
                              silent.address(), silent.address(), good.address()});
  EXPECT_EQ(dial.result(), Dial::Result::kConnected);
  EXPECT_EQ(dial.address().Text(), good.address().Text());
}

// RFC 8305 §4
TEST_F(DialTest, TakesTheFamiliesInTurn) {
  const Peer silent("::1", false);
  const Peer good("127.0.0.2");
  const Address refusing = Peer::Refusing("127.0.0.3");
  const Dial& dial =
      Connect({silent.address(), silent.address(), silent.address(), refusing, good.address()});
  EXPECT_EQ(dial.result(), Dial::Result::kConnected);
  EXPECT_EQ(dial.address().Text(), good.address().Text());
}

TEST_F(DialTest, EndsInTimeAndSaysWhere) {
  const Peer silent("127.0.0.2", false);
  const Dial& dial = Connect({silent.address()}, std::chrono::milliseconds(200));
  EXPECT_EQ(dial.result(), Dial::Result::kTimeout);
  EXPECT_EQ(dial.error(), silent.address().Text() + ": connecting timed out");
}

TEST_F(DialTest, IsRefusedWhereAllRefuse) {
  const Address one = Peer::Refusing("127.0.0.2");
  const Address two = Peer::Refusing("127.0.0.3");
  const Dial& dial = Connect({one, two});
  EXPECT_EQ(dial.result(), Dial::Result::kRefused);
  EXPECT_EQ(dial.error(), two.Text() + ": connection refused");
}

TEST_F(DialTest, MayBeGivenUp) {
  const Peer silent("127.0.0.2", false);
  dial_ = std::make_unique<Dial>(&loop_, std::vector{silent.address(), silent.address()},
                                 *deadlines_, kLong, *this);
  uv_run(&loop_, UV_RUN_NOWAIT);
  dial_.reset();
  uv_run(&loop_, UV_RUN_NOWAIT);
}

}  // namespace
}  // namespace gatepost::net
