// Which files of a folder are taken for pairs of certificate and key.
// SPDX-License-Identifier: Apache-2.0
#include "tls/certificate_directory.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/unit/tls/test_certificates.h"

namespace gatepost::tls::test {
namespace {

namespace fs = std::filesystem;

// The folder's pairs, "chain|key" without the folder.
std::vector<std::string> PairsIn(const Folder& folder) {
  const auto found = FindCertificateFiles(folder.path());
  std::vector<std::string> pairs;
  if (!found) return {found.error().text.substr(folder.path().native().size())};
  for (const CertificateFiles& files : *found) {
    pairs.push_back(files.chain.lexically_relative(folder.path()).string() + "|" +
                    files.key.lexically_relative(folder.path()).string());
  }
  return pairs;
}

void Touch(const Folder& folder, const fs::path& name) {
  fs::create_directories((folder.path() / name).parent_path());
  folder.Write(name.string(), "");
}

using Pairs = std::vector<std::string>;

TEST(CertificateDirectory, HasPairsOfOneName) {
  const Folder folder;
  for (const char* name : {"b.crt", "b.key", "a.crt", "a.key", "ca.crt", "lone.key", "c.pem"}) {
    Touch(folder, name);
  }
  EXPECT_EQ(PairsIn(folder), (Pairs{"a.crt|a.key", "b.crt|b.key"}));
}

TEST(CertificateDirectory, IsLaidOutAsCertbotDoes) {
  const Folder folder;
  for (const char* host : {"one.example", "two.example"}) {
    const fs::path live = fs::path("live") / host;
    for (const char* name : {"fullchain1.pem", "privkey1.pem"}) {
      Touch(folder, fs::path("archive") / host / name);
    }
    fs::create_directories(folder.path() / live);
    for (const char* name : {"fullchain", "privkey"}) {
      fs::create_symlink(fs::path("../../archive") / host / (std::string(name) + "1.pem"),
                         folder.path() / live / (std::string(name) + ".pem"));
    }
    Touch(folder, live / "cert.pem");
  }
  Touch(folder, "live/README");
  const auto found = FindCertificateFiles(folder.path() / "live");
  ASSERT_TRUE(found);
  ASSERT_EQ(found->size(), 2u);
  EXPECT_EQ((*found)[1].chain, folder.path() / "live/two.example/fullchain.pem");
  EXPECT_EQ((*found)[1].key, folder.path() / "live/two.example/privkey.pem");
  EXPECT_EQ(CertificateFolders(folder.path() / "live"),
            (std::vector<fs::path>{folder.path() / "live", folder.path() / "live/one.example",
                                   folder.path() / "live/two.example"}));
}

TEST(CertificateDirectory, IsASecretVolumeOfKubernetes) {
  const Folder folder;
  for (const char* name : {"tls.crt", "tls.key", "ca.crt"}) {
    Touch(folder, fs::path("..2026_11_25_10_00_00.1") / name);
    fs::create_symlink(fs::path("..data") / name, folder.path() / name);
  }
  fs::create_symlink("..2026_11_25_10_00_00.1", folder.path() / "..data");
  EXPECT_EQ(PairsIn(folder), (Pairs{"tls.crt|tls.key"}));
}

TEST(CertificateDirectory, IsNotLookedIntoDeeply) {
  const Folder folder;
  for (const char* name : {"a/tls.crt", "a/tls.key", "a/b/tls.crt", "a/b/tls.key", ".hidden.crt",
                           ".hidden.key", ".hidden/tls.crt", ".hidden/tls.key"}) {
    Touch(folder, name);
  }
  EXPECT_EQ(PairsIn(folder), (Pairs{"a/tls.crt|a/tls.key"}));
}

TEST(CertificateDirectory, SaysWhatItShouldHave) {
  const Folder folder;
  Touch(folder, "lone.crt");
  EXPECT_EQ(PairsIn(folder),
            (Pairs{": holds no certificate with its key; expected NAME.crt with NAME.key, or "
                   "fullchain.pem with privkey.pem, there or in its sub-folders"}));
  const auto missing = FindCertificateFiles(folder.path() / "missing");
  ASSERT_FALSE(missing);
  EXPECT_NE(missing.error().text.find("missing: cannot be read: No such file"), std::string::npos);
}

}  // namespace
}  // namespace gatepost::tls::test
