// SPDX-License-Identifier: Apache-2.0
#include "gateway/auth/challenge.h"

#include <gtest/gtest.h>

#include <regex>

namespace gatepost::auth {
namespace {

// RFC 1939 §7, RFC 2195 §2: the syntax of a message id
TEST(Challenge, IsAnotherEachTime) {
  const std::string first = NewChallenge("mail.example.org");
  EXPECT_TRUE(std::regex_match(first, std::regex("<[0-9]+\\.[0-9]+@mail\\.example\\.org>")))
      << first;
  EXPECT_NE(first, NewChallenge("mail.example.org"));
}

}  // namespace
}  // namespace gatepost::auth
