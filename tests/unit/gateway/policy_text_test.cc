// SPDX-License-Identifier: Apache-2.0
#include "gateway/auth/policy_text.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace gatepost::auth {
namespace {

using protocols::LoginFailure;

PolicyCase Login() {
  return {.login = "alice",
          .password_hash = "0abc",
          .remote = "2001:db8::1",
          .protocol = "imap",
          .session = "5fba",
          .device = "\"name\" \"x\"",
          .tls = true};
}

// printf 'pepperalice\0secret' | sha256sum
TEST(PolicyText, HashesThePasswordWithNonceAndName) {
  const std::string whole = PasswordHash("pepper", "alice", "secret", 256);
  EXPECT_EQ(whole, "6fb0025bb06813da63b774a6a6b76066d161f545533e696909702d39a7259f59");
  EXPECT_EQ(PasswordHash("pepper", "alice", "secret", 12), "0" + whole.substr(0, 3));
  EXPECT_EQ(PasswordHash("pepper", "alice", "secret", 16), whole.substr(0, 4));
  EXPECT_EQ(PasswordHash("pepper", "alice", "secret", 4), "0" + whole.substr(0, 1));
  EXPECT_EQ(PasswordHash("pepper", "alice", "secret", 1), "00");
  EXPECT_NE(PasswordHash("pepper", "alice", "secret", 64),
            PasswordHash("pepper", "alic", "esecret", 64));
}

TEST(PolicyText, AsksWithTheFieldsOfDovecot) {
  EXPECT_EQ(AllowText(Login()),
            R"({"device_id":"\"name\" \"x\"","fail_type":"","login":"alice","protocol":"imap",)"
            R"("pwhash":"0abc","remote":"2001:db8::1","session_id":"5fba","tls":true})");
}

TEST(PolicyText, ReportsSuccessAndEachFailure) {
  const auto has = [](const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
  };
  const std::string success = ReportText(Login(), std::nullopt);
  EXPECT_TRUE(has(success, R"("policy_reject":false)") && has(success, R"("success":true)") &&
              has(success, R"("fail_type":"")"))
      << success;
  for (const auto& [failure, type] : {std::pair(LoginFailure::kBadCredentials, "credentials"),
                                      std::pair(LoginFailure::kAuthorizationDenied, "account"),
                                      std::pair(LoginFailure::kAccountDisabled, "disabled"),
                                      std::pair(LoginFailure::kPasswordExpired, "expired"),
                                      std::pair(LoginFailure::kPolicy, "policy"),
                                      std::pair(LoginFailure::kUnavailable, "internal")}) {
    const std::string text = ReportText(Login(), failure);
    EXPECT_TRUE(has(text, R"("fail_type":")" + std::string(type) + '"')) << text;
    EXPECT_TRUE(has(text, R"("success":false)")) << text;
    EXPECT_EQ(has(text, R"("policy_reject":true)"), failure == LoginFailure::kPolicy) << text;
  }
}

TEST(PolicyText, ANameThatIsNoUtf8IsStillJson) {
  PolicyCase login = Login();
  login.login = "b\xff\"\n";
  EXPECT_NE(AllowText(login).find(R"("login":"b�\"\n")"), std::string::npos) << AllowText(login);
}

TEST(PolicyText, ReadsAnAnswer) {
  const auto refused = ParsePolicyAnswer(R"({"msg": "no\r\n", "status": -1, "r_attrs": {}})");
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->status, -1);
  EXPECT_EQ(refused->message, "no??");
  EXPECT_EQ(ParsePolicyAnswer(R"({"status":0})")->status, 0);
  EXPECT_EQ(ParsePolicyAnswer(R"({"status":0, "msg":[]})")->message, "");
  EXPECT_EQ(ParsePolicyAnswer(R"({"status":18446744073709551615})")->status, INT64_MAX);
}

TEST(PolicyText, WhatIsNoAnswerIsAnError) {
  for (const std::string& text :
       {std::string(), std::string("0"), std::string("[]"), std::string("{}"),
        std::string(R"({"status":"0"})"), std::string(R"({"status":1.5})"),
        std::string(R"({"status":99999999999999999999})"), std::string(R"({"status":0)"),
        std::string(R"({"status":true})"), std::string(100'000, '[')}) {
    EXPECT_FALSE(ParsePolicyAnswer(text)) << text.substr(0, 30);
  }
}

}  // namespace
}  // namespace gatepost::auth
