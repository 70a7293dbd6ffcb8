// Which addresses are in which networks.
// SPDX-License-Identifier: Apache-2.0
#include "gateway/net/networks.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "config/values.h"

namespace gatepost::net {
namespace {

bool In(const std::string& address, const std::vector<std::string>& networks) {
  std::vector<config::Network> parsed;
  for (const std::string& network : networks) {
    const auto one = config::ParseNetwork(network);
    EXPECT_TRUE(one) << network;
    if (one) parsed.push_back(*one);
  }
  return IsIn(*Address::Parse(address, 1), parsed);
}

TEST(Networks, HoldTheAddressesThatBeginAlike) {
  EXPECT_TRUE(In("10.0.0.0", {"10.0.0.0/8"}));
  EXPECT_TRUE(In("10.255.255.255", {"10.0.0.0/8"}));
  EXPECT_FALSE(In("11.0.0.0", {"10.0.0.0/8"}));
  EXPECT_TRUE(In("192.0.2.129", {"192.0.2.128/25"}));
  EXPECT_FALSE(In("192.0.2.127", {"192.0.2.128/25"}));
  EXPECT_TRUE(In("192.0.2.1", {"192.0.2.1"}));
  EXPECT_FALSE(In("192.0.2.2", {"192.0.2.1"}));
  EXPECT_TRUE(In("2001:db8:1::1", {"2001:db8::/32"}));
  EXPECT_FALSE(In("2001:db9::1", {"2001:db8::/32"}));
  EXPECT_TRUE(In("::1", {"::1"}));
  EXPECT_FALSE(In("::2", {"::1"}));
  EXPECT_TRUE(In("::1", {"10.0.0.0/8", "::1"}));
  EXPECT_FALSE(In("::1", {}));
}

TEST(Networks, DoNotMixTheFamilies) {
  EXPECT_TRUE(In("192.0.2.1", {"0.0.0.0/0"}));
  EXPECT_FALSE(In("192.0.2.1", {"::/0"}));
  EXPECT_TRUE(In("2001:db8::1", {"::/0"}));
  EXPECT_FALSE(In("2001:db8::1", {"0.0.0.0/0"}));
}

TEST(Networks, AMappedAddressIsTheIpv4AddressThatItIs) {
  const auto mapped = Address::FromMapped(Address::Parse("10.1.2.3", 25)->Mapped(), 25);
  EXPECT_EQ(mapped.Text(), "10.1.2.3:25");
  EXPECT_TRUE(IsIn(mapped, std::vector{*config::ParseNetwork("10.0.0.0/8")}));
  const auto v6 = Address::FromMapped(Address::Parse("2001:db8::1", 25)->Mapped(), 25);
  EXPECT_EQ(v6.Text(), "[2001:db8::1]:25");
}

}  // namespace
}  // namespace gatepost::net
