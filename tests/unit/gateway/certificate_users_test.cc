// Whom a client's certificate stands for: by its names, and by a file.
// SPDX-License-Identifier: Apache-2.0
#include "gateway/auth/certificate_users.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace gatepost::auth {
namespace {

using config::CertificateUser;

std::filesystem::path Write(const std::string& text) {
  const auto path = std::filesystem::temp_directory_path() /
                    ("gatepost-certificate-users-" + std::to_string(getpid()));
  std::ofstream(path) << text;
  return path;
}

auto Load(const std::string& text) {
  const auto path = Write(text);
  auto loaded = CertificateMap::Load(path);
  std::filesystem::remove(path);
  return loaded;
}

const std::string kDigest(64, 'a');

tls::ClientCertificate Alice() {
  tls::ClientCertificate certificate;
  certificate.verified = true;
  certificate.subject = "CN=Alice,O=Example";
  certificate.common_name = "Alice";
  certificate.emails = {"alice@example.org", "a@example.org"};
  certificate.spki_sha256 = kDigest;
  return certificate;
}

TEST(CertificateUsers, ANameStandsForItselfWhereThereIsOne) {
  tls::ClientCertificate certificate = Alice();
  const CertificateUsers by_email(CertificateUser::kEmail, nullptr);
  EXPECT_EQ(by_email.UserOf(certificate).error(), "the certificate has several e-mail addresses");
  certificate.emails.pop_back();
  EXPECT_EQ(by_email.UserOf(certificate).value(), "alice@example.org");
  certificate.emails.clear();
  EXPECT_FALSE(by_email.UserOf(certificate));
  const CertificateUsers by_name(CertificateUser::kCommonName, nullptr);
  EXPECT_EQ(by_name.UserOf(certificate).value(), "Alice");
  certificate.common_name.clear();
  EXPECT_FALSE(by_name.UserOf(certificate));
  EXPECT_FALSE(CertificateUsers(CertificateUser::kNone, nullptr).UserOf(Alice()));
}

TEST(CertificateMap, FindsByEveryKindAndByNothingLess) {
  const auto user = [](const std::string& text, const tls::ClientCertificate& certificate) {
    const auto map = Load(text);
    EXPECT_TRUE(map) << map.error().front();
    return (*map)->UserOf(certificate).value_or("(nobody)");
  };
  for (const std::string line : {"al email:alice@example.org", "al  email:a@example.org",
                                 "al cn:Alice", "al subject:CN=Alice,O=Example"}) {
    EXPECT_EQ(user("# who\n\n" + line + "\r\n", Alice()), "al") << line;
  }
  EXPECT_EQ(user("al spki-sha256:" + std::string(64, 'A'), Alice()), "al");
  for (const std::string line :
       {"al email:Alice@example.org", "al email:alice@example.or", "al email:alice@example.org.x",
        "al cn:alice", "al cn:Alic", "al subject:CN=Alice", "al cn:alice@example.org",
        "al subject:O=Example,CN=Alice"}) {
    EXPECT_EQ(user(line, Alice()), "(nobody)") << line;
  }
  tls::ClientCertificate nobody;
  nobody.verified = true;
  EXPECT_EQ(user("al cn:Alice", nobody), "(nobody)");
}

TEST(CertificateMap, OfSeveralNamesThoseThatItKnowsMustAgree) {
  const auto map = Load(
      "al email:alice@example.org\nal cn:Alice\nbo email:a@example.org\n"
      "al spki-sha256:" +
      kDigest + "\n");
  ASSERT_TRUE(map);
  tls::ClientCertificate certificate = Alice();
  EXPECT_NE((*map)->UserOf(certificate).error().find("different users"), std::string::npos);
  certificate.emails.pop_back();
  EXPECT_EQ((*map)->UserOf(certificate).value(), "al");
  certificate.emails = {"a@example.org"};
  EXPECT_FALSE((*map)->UserOf(certificate));
  certificate.common_name.clear();
  certificate.spki_sha256.clear();
  EXPECT_EQ((*map)->UserOf(certificate).value(), "bo");
}

TEST(CertificateMap, EveryErrorNamesItsLine) {
  const auto map = Load(
      "alice\nalice email\n email:a@b\nalice email:\nalice email:ab\nalice mail:a@b\n"
      "alice spki-sha256:12\nalice subject:Alice\nal\tice email:a@b\nalice cn:A \n"
      "alice cn:A\nbob cn:A\nalice email:gr\xc3\xbc@b\nalice spki-sha256:" +
      std::string(64, 'g') + "\n");
  ASSERT_FALSE(map);
  std::string lines;
  for (const std::string& error : map.error()) {
    const size_t colon = error.find(':');
    lines += error.substr(colon + 1, error.find(' ', colon) - colon - 1);
  }
  EXPECT_EQ(lines, "1:2:3:4:5:6:7:8:9:10:12:13:14:");
  EXPECT_NE(map.error()[10].find("\"cn:A\" stands in line 11 already"), std::string::npos);
  EXPECT_NE(CertificateMap::Load("/nonexistent").error().front().find("can't be read"),
            std::string::npos);
}

TEST(CertificateUsers, TakeANewerFile) {
  CertificateUsers users(CertificateUser::kMap, *Load("al cn:Alice\n"));
  EXPECT_EQ(users.UserOf(Alice()).value(), "al");
  users.Renew(*Load("bo cn:Alice\n"));
  EXPECT_EQ(users.UserOf(Alice()).value(), "bo");
  EXPECT_EQ(users.map()->size(), 1U);
}

}  // namespace
}  // namespace gatepost::auth
