// What is kept for a Redis that refuses it. The real Redis: tests/integration/test_shared_throttle.
// SPDX-License-Identifier: Apache-2.0
#include "gateway/auth/redis_courier.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace gatepost::auth {
namespace {

// FakeRedis answers one connection as the test says.
class FakeRedis {
 public:
  explicit FakeRedis(const std::filesystem::path& path)
      : listening_(socket(AF_UNIX, SOCK_STREAM, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.string().copy(address.sun_path, sizeof(address.sun_path) - 1);
    EXPECT_EQ(bind(listening_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(listen(listening_, 1), 0);
  }
  ~FakeRedis() {
    close(connection_);
    close(listening_);
  }
  FakeRedis(const FakeRedis&) = delete;
  FakeRedis& operator=(const FakeRedis&) = delete;

  void Accept() { connection_ = accept(listening_, nullptr, nullptr); }
  // AwaitCommand returns once `word` has come.
  void AwaitCommand(std::string_view word) {
    for (std::string seen; seen.find(word) == std::string::npos;) {
      char byte = 0;
      ASSERT_EQ(read(connection_, &byte, 1), 1) << seen;
      seen += byte;
    }
  }
  void Say(std::string_view text) {
    EXPECT_EQ(write(connection_, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  void AwaitEnd() {
    char byte = 0;
    while (read(connection_, &byte, 1) > 0) {
    }
  }

 private:
  const int listening_;
  int connection_ = -1;
};

TEST(RedisCourier, TheBoundHoldsWhereRedisRefusesWhatWasTakenOut) {
  const auto directory =
      std::filesystem::path(testing::TempDir()) / ("redis-courier-" + std::to_string(getpid()));
  std::filesystem::create_directory(directory);
  config::Throttle settings;
  settings.redis = config::ServiceSocket{directory / "redis", {}};
  FakeRedis redis(settings.redis->path);
  Throttle throttle(settings);
  config::Log log;
  log.file = directory / "log";
  {
    RedisCourier courier(settings, {}, throttle, std::make_shared<observe::Log>(log));
    for (size_t i = 0; i < RedisCourier::kKept; ++i) courier.Tell({});
    EXPECT_EQ(courier.figures().dropped, 0U);
    redis.Accept();
    redis.AwaitCommand("TIME");
    redis.Say("*2\r\n$10\r\n1700000000\r\n$1\r\n0\r\n");
    redis.AwaitCommand("XADD");
    courier.Tell({});
    redis.Say("-OOM command not allowed\r\n");
    redis.AwaitEnd();
    EXPECT_EQ(courier.figures().dropped, 1U);
    courier.Tell({});
    EXPECT_EQ(courier.figures().dropped, 2U);
  }
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace gatepost::auth
