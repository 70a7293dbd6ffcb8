// SPDX-License-Identifier: Apache-2.0
#include "gateway/service_manager.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string>

namespace gatepost {
namespace {

// The manager's end: a datagram socket with an abstract name, and the environment that names it.
class Manager : public testing::Test {
 protected:
  Manager() : socket_(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string name = "@gatepost-manager-" + std::to_string(getpid());
    std::memcpy(address.sun_path + 1, name.data() + 1, name.size() - 1);
    EXPECT_EQ(bind(socket_, reinterpret_cast<sockaddr*>(&address),
                   static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size())),
              0);
    setenv("NOTIFY_SOCKET", name.c_str(), 1);
    setenv("WATCHDOG_USEC", "3000000", 1);
  }
  ~Manager() override {
    close(socket_);
    for (const char* name : {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}) unsetenv(name);
  }

  // What came; "" if nothing did.
  std::string Received() {
    std::array<char, 256> buffer{};
    const ssize_t size = recv(socket_, buffer.data(), buffer.size(), 0);
    return size > 0 ? std::string(buffer.data(), static_cast<size_t>(size)) : "";
  }

 private:
  const int socket_;
};

TEST_F(Manager, HearsWhatHappens) {
  ServiceManager manager;
  manager.Ready();
  EXPECT_EQ(Received(), "READY=1");
  manager.Alive();
  EXPECT_EQ(Received(), "WATCHDOG=1");
  manager.Status("12 clients");
  EXPECT_EQ(Received(), "STATUS=12 clients");
  manager.Stopping(std::chrono::seconds(40));
  EXPECT_EQ(Received(), "STOPPING=1\nEXTEND_TIMEOUT_USEC=40000000");
}

TEST_F(Manager, GetsNoSignOfLifeWithoutAWatchdog) {
  unsetenv("WATCHDOG_USEC");
  ServiceManager().Alive();
  EXPECT_EQ(Received(), "");
}

TEST_F(Manager, GetsNoSignOfLifeForAnotherProcess) {
  setenv("WATCHDOG_PID", std::to_string(getpid() + 1).c_str(), 1);
  ServiceManager().Alive();
  EXPECT_EQ(Received(), "");
  setenv("WATCHDOG_PID", std::to_string(getpid()).c_str(), 1);
  ServiceManager().Alive();
  EXPECT_EQ(Received(), "WATCHDOG=1");
}

TEST_F(Manager, WhoHasGoneIsNotWaitedFor) {
  // A queue is some hundred datagrams; beyond it they are lost, not waited for.
  ServiceManager manager;
  for (int i = 0; i < 10'000; ++i) manager.Status("full");
  EXPECT_EQ(Received(), "STATUS=full");
}

TEST(ServiceManager, TakesNoStrangeAddress) {
  for (const std::string& name : {std::string(), std::string("/"), std::string("relative/path"),
                                  "/" + std::string(200, 'x')}) {
    setenv("NOTIFY_SOCKET", name.c_str(), 1);
    ServiceManager().Ready();
  }
  unsetenv("NOTIFY_SOCKET");
  ServiceManager().Ready();
}

}  // namespace
}  // namespace gatepost
