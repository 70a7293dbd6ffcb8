// Lines about failed handshakes: one of a network now and then, and few in all.
// SPDX-License-Identifier: Apache-2.0
#include "gateway/session/failure_filter.h"

#include <gtest/gtest.h>

#include <string>

namespace gatepost::session {
namespace {

net::Address At(const std::string& host) {
  return *net::Address::Parse(host, 1);
}

TEST(FailureFilter, GivesANetworkALineAnInterval) {
  FailureFilter filter(60'000);
  EXPECT_EQ(filter.Admit(At("192.0.2.1"), 5'000), 0U);
  EXPECT_EQ(filter.Admit(At("192.0.2.1"), 5'000), std::nullopt);
  EXPECT_EQ(filter.Admit(At("192.0.2.1"), 64'999), std::nullopt);
  EXPECT_EQ(filter.Admit(At("192.0.2.1"), 65'000), 2U);
  EXPECT_EQ(filter.Admit(At("192.0.2.1"), 65'001), std::nullopt);
  EXPECT_EQ(filter.Admit(At("192.0.2.2"), 65'001), 0U);
}

TEST(FailureFilter, CountsAnIpv6NetworkAsOne) {
  FailureFilter filter(60'000);
  EXPECT_EQ(filter.Admit(At("2001:db8::1"), 1), 0U);
  EXPECT_EQ(filter.Admit(At("2001:db8::2"), 1), std::nullopt);
  EXPECT_EQ(filter.Admit(At("2001:db8:0:1::1"), 1), 0U);
}

TEST(FailureFilter, GivesManyNetworksFewLines) {
  FailureFilter filter(60'000);
  uint64_t lines = 0;
  for (int i = 0; i < 100'000; ++i) {
    const std::string host = "10." + std::to_string(i / 65536) + "." +
                             std::to_string(i / 256 % 256) + "." + std::to_string(i % 256);
    // Ten seconds.
    if (filter.Admit(At(host), 1'000 + static_cast<uint64_t>(i) / 10)) ++lines;
  }
  EXPECT_EQ(lines, 10 * FailureFilter::kLinesPerSecond);
}

TEST(FailureFilter, CanBeSwitchedOff) {
  FailureFilter filter(0);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(filter.Admit(At("192.0.2.1"), 1), 0U);
}

}  // namespace
}  // namespace gatepost::session
