// SPDX-License-Identifier: Apache-2.0
#include "gateway/backends/common_capabilities.h"

#include <gtest/gtest.h>

namespace gatepost::backends {
namespace {

using protocols::Capabilities;

TEST(CommonCapabilities, KeepWhatBothHaveInTheOrderOfTheFirst) {
  EXPECT_EQ(CommonCapabilities({"IMAP4rev1", "SORT", "AUTH=PLAIN", "IDLE"},
                               {"idle", "auth=plain", "MOVE", "IMAP4REV1"}),
            (Capabilities{"IMAP4rev1", "AUTH=PLAIN", "IDLE"}));
  EXPECT_EQ(CommonCapabilities({"TOP"}, {}), Capabilities{});
}

// RFC 2449 §6.3, RFC 4954 §3
TEST(CommonCapabilities, KeepTheWordsOfAListThatBothHave) {
  EXPECT_EQ(
      CommonCapabilities({"SASL SCRAM-SHA-256 PLAIN LOGIN", "UIDL"}, {"UIDL", "SASL LOGIN plain"}),
      (Capabilities{"SASL PLAIN LOGIN", "UIDL"}));
  EXPECT_EQ(CommonCapabilities({"AUTH PLAIN", "AUTH=PLAIN"}, {"AUTH LOGIN", "AUTH=PLAIN"}),
            (Capabilities{"AUTH=PLAIN"}));
  EXPECT_EQ(CommonCapabilities({"SASL PLAIN"}, {"SASL"}), Capabilities{});
}

// RFC 1870 §4
TEST(CommonCapabilities, KeepTheSmallerSize) {
  EXPECT_EQ(CommonCapabilities({"SIZE 100"}, {"SIZE 50"}), (Capabilities{"SIZE 50"}));
  EXPECT_EQ(CommonCapabilities({"SIZE 0"}, {"SIZE 50"}), (Capabilities{"SIZE 50"}));
  EXPECT_EQ(CommonCapabilities({"SIZE 50"}, {"SIZE 0"}), (Capabilities{"SIZE 50"}));
  EXPECT_EQ(CommonCapabilities({"SIZE"}, {"size 50"}), (Capabilities{"SIZE 50"}));
  EXPECT_EQ(CommonCapabilities({"SIZE 50"}, {"SIZE many"}), Capabilities{});
  EXPECT_EQ(CommonCapabilities({"DELIVERBY 10", "VRFY"}, {"VRFY", "DELIVERBY 20"}),
            (Capabilities{"VRFY"}));
}

}  // namespace
}  // namespace gatepost::backends
