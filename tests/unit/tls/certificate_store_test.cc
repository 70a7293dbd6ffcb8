// The certificate store: what is refused with which words, and which certificate a name gets.
// SPDX-License-Identifier: Apache-2.0
#include "tls/certificate_store.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/unit/tls/fixtures.h"

namespace gatepost::tls::test {
namespace {

// What Load says about `files`, one error a line; empty when it is content.
std::string ErrorsOf(const std::vector<CertificateFiles>& files) {
  CertificateLoader loader;
  std::string text;
  for (const CertificateFiles& pair : files) {
    auto loaded = loader.Load(pair);
    if (loaded) continue;
    for (const Error& error : loaded.error()) text += error.text + "\n";
  }
  EXPECT_EQ(ERR_peek_error(), 0u);
  return text;
}

std::string CommonName(const Credential* credential) {
  if (credential == nullptr) return "none";
  bssl::UniquePtr<X509> certificate(X509_parse_from_buffer(credential->chain[0]));
  return NameText(X509_get_subject_name(certificate.get()));
}

TEST(CertificateStore, TellsWhatItLoaded) {
  const Authority& authority = TestAuthority();
  const auto files = authority.folder.WritePair(
      "told", authority.IssueFor({"IMAP.Example", "*.example", "ip:192.0.2.1", "ip:2001:db8::1"}));
  const auto store = StoreOf({files});
  ASSERT_TRUE(store);
  ASSERT_EQ(store->certificates().size(), 1u);
  const CertificateInfo& info = store->certificates()[0]->info();
  EXPECT_EQ(info.chain_file, files.chain);
  EXPECT_EQ(info.key_file, files.key);
  EXPECT_EQ(info.names, (std::vector<std::string>{"imap.example", "*.example", "192.0.2.1",
                                                  "2001:db8:0:0:0:0:0:1"}));
  EXPECT_EQ(info.subject, "CN=IMAP.Example");
  EXPECT_EQ(info.issuer, "CN=Test Intermediate");
  EXPECT_EQ(info.key_type, KeyType::kEcdsa);
  EXPECT_EQ(info.key_text, "ECDSA P-256");
  const auto now = std::chrono::system_clock::now();
  EXPECT_LT(info.not_before, now - std::chrono::minutes(59));
  EXPECT_GT(info.not_before, now - std::chrono::minutes(61));
  EXPECT_GT(info.not_after, now + hours(23));
  EXPECT_LT(info.not_after, now + hours(25));
  EXPECT_EQ(store->Find({}).ecdsa->chain.size(), 2u);  // without the root
}

TEST(CertificateStore, TakesChainAndKeyFromOneFile) {
  const Authority& authority = TestAuthority();
  const Identity identity = authority.IssueFor({"one.example"}, KeyKind::kRsa2048);
  const auto file =
      authority.folder.Write("both.pem", identity.KeyPem() + identity.ChainPem() + "trailing text");
  const auto store = StoreOf({{file, file}});
  ASSERT_TRUE(store);
  EXPECT_EQ(store->certificates()[0]->info().key_text, "RSA 2048");
}

TEST(CertificateStore, NamesFilesThatCannotBeRead) {
  const Folder folder;
  const std::string path = folder.path();
  EXPECT_EQ(ErrorsOf({{folder.path() / "no.crt", folder.path()}}),
            path + "/no.crt: cannot read: No such file or directory\n" + path +
                ": cannot read: it is a directory\n");
}

TEST(CertificateStore, NamesFilesWithoutThePart) {
  const Folder folder;
  const auto empty = folder.Write("empty.pem", "");
  EXPECT_EQ(ErrorsOf({{empty, empty}}),
            empty.string() + ": no certificate found (expected -----BEGIN CERTIFICATE-----)\n" +
                empty.string() + ": no private key found (expected -----BEGIN PRIVATE KEY-----)\n");
}

TEST(CertificateStore, RefusesBrokenPem) {
  const Folder folder;
  const Identity identity = TestAuthority().IssueFor({"x.example"});
  const std::string pem = identity.CertificatePem();
  const auto key = folder.Write("x.key", identity.KeyPem());
  const auto cut = folder.Write("cut.crt", pem.substr(0, pem.size() / 2));
  EXPECT_EQ(ErrorsOf({{cut, key}}), cut.string() + ": malformed PEM: bad end line\n");
  const auto junk = folder.Write("junk.crt",
                                 "-----BEGIN CERTIFICATE-----\nAAAA\n"
                                 "-----END CERTIFICATE-----\n");
  EXPECT_NE(ErrorsOf({{junk, key}}).find(junk.string() + ": certificate 1 cannot be parsed"),
            std::string::npos);
}

TEST(CertificateStore, RefusesAKeyOfAnotherCertificate) {
  const Folder folder;
  auto files = folder.WritePair("one", TestAuthority().IssueFor({"one.example"}));
  files.key = folder.WritePair("two", TestAuthority().IssueFor({"two.example"})).key;
  EXPECT_EQ(ErrorsOf({files}), files.key.string() +
                                   ": the private key does not match the certificate in " +
                                   files.chain.string() + "\n");
}

TEST(CertificateStore, SaysWhenTheServersCertificateIsNotFirst) {
  const Folder folder;
  const Identity identity = TestAuthority().IssueFor({"one.example"});
  auto files = folder.WritePair("one", identity);
  folder.Write("one.crt", identity.issuer_pems[0] + identity.CertificatePem());
  const std::string errors = ErrorsOf({files});
  EXPECT_NE(errors.find("but certificate 2 of its chain: the server's certificate must come first"),
            std::string::npos)
      << errors;
}

TEST(CertificateStore, RefusesAChainOutOfOrder) {
  const Folder folder;
  const Identity identity = TestAuthority().IssueFor({"one.example"});
  const auto files = folder.WritePair("one", identity);
  folder.Write("one.crt", identity.CertificatePem() + TestAuthority().root.CertificatePem() +
                              identity.issuer_pems[0]);
  EXPECT_EQ(ErrorsOf({files}),
            files.chain.string() +
                ": the chain is out of order: certificate 1 was issued by CN=Test Intermediate, "
                "but certificate 2 is CN=Test Root (the server's certificate comes first, then "
                "each one's issuer)\n");
}

TEST(CertificateStore, RefusesDatesThatDoNotFit) {
  const Folder folder;
  Request request;
  request.starts = hours(-48);
  request.ends = hours(-24);
  const auto past = folder.WritePair("past", Issue(request));
  request.starts = hours(48);
  request.ends = hours(96);
  const auto future = folder.WritePair("future", Issue(request));
  const auto day = [](int days) {
    return DateText(std::chrono::system_clock::now() + hours(24 * days));
  };
  EXPECT_EQ(ErrorsOf({past, future}), past.chain.string() + ": the certificate expired on " +
                                          day(-1) + "\n" + future.chain.string() +
                                          ": the certificate is not valid before " + day(2) + "\n");
}

TEST(CertificateStore, RefusesAnExpiredIntermediate) {
  const Folder folder;
  Request request;
  request.common_name = "Old Intermediate";
  request.is_ca = true;
  request.issuer = &TestAuthority().root;
  request.starts = hours(-48);
  request.ends = hours(-24);
  const Identity old = Issue(request);
  Request leaf;
  leaf.issuer = &old;
  EXPECT_NE(ErrorsOf({folder.WritePair("leaf", Issue(leaf))})
                .find("certificate 2 of the chain (CN=Old Intermediate) expired on"),
            std::string::npos);
}

TEST(CertificateStore, RefusesAnEncryptedKey) {
  const Folder folder;
  const Identity identity = TestAuthority().IssueFor({"one.example"});
  const auto files = folder.WritePair("one", identity);
  folder.Write("one.key", identity.KeyPem("secret"));
  EXPECT_EQ(ErrorsOf({files}),
            files.key.string() +
                ": the private key is encrypted; it must be readable without a pass phrase "
                "(openssl pkey -in <this file> -out <new file>)\n");
}

TEST(CertificateStore, RefusesKeysThatClientsCannotUse) {
  const Folder folder;
  for (const auto& [kind, words] : {std::pair(KeyKind::kRsa1024, "RSA 1024"),
                                    std::pair(KeyKind::kEd25519, "neither RSA nor ECDSA")}) {
    Request request;
    request.key = kind;
    const auto files = folder.WritePair("weak", Issue(request));
    EXPECT_EQ(ErrorsOf({files}),
              files.key.string() + ": the private key is " + words +
                  "; clients need ECDSA on P-256, P-384 or P-521, or RSA of 2048 bits or more\n");
  }
}

TEST(CertificateStore, FindsExactBeforeWildcardBeforeDefault) {
  const Folder folder;
  const Authority& authority = TestAuthority();
  const auto store = StoreOf({folder.WritePair("a", authority.IssueFor({"first.test"})),
                              folder.WritePair("b", authority.IssueFor({"*.example"})),
                              folder.WritePair("c", authority.IssueFor({"imap.example"})),
                              folder.WritePair("d", authority.IssueFor({"*.deep.example"}))});
  ASSERT_TRUE(store);
  const auto found = [&](std::string_view name) { return CommonName(store->Find(name).ecdsa); };
  EXPECT_EQ(found("imap.example"), "CN=imap.example");
  EXPECT_EQ(found("pop.example"), "CN=*.example");
  EXPECT_EQ(found("x.deep.example"), "CN=*.deep.example");
  EXPECT_EQ(found("deep.example"), "CN=*.example");
  EXPECT_EQ(found("a.b.example"), "CN=first.test");  // one label only
  EXPECT_EQ(found("example"), "CN=first.test");
  EXPECT_EQ(found(".example"), "CN=first.test");
  EXPECT_EQ(found("other.test"), "CN=first.test");
  EXPECT_EQ(found(""), "CN=first.test");
  EXPECT_TRUE(store->Find("first.test").known);
  EXPECT_TRUE(store->Find("pop.example").known);
  EXPECT_FALSE(store->Find("other.test").known);
}

TEST(CertificateStore, HasBothKeyTypesForAName) {
  const Folder folder;
  const Authority& authority = TestAuthority();
  const auto store =
      StoreOf({folder.WritePair("a", authority.IssueFor({"imap.example"}, KeyKind::kRsa2048)),
               folder.WritePair("b", authority.IssueFor({"imap.example"})),
               folder.WritePair("c", authority.IssueFor({"imap.example", "c.example"}))});
  ASSERT_TRUE(store);
  for (const char* name : {"imap.example", ""}) {  // the default has a companion too
    const auto choice = store->Find(name);
    EXPECT_EQ(CommonName(choice.ecdsa), "CN=imap.example");
    EXPECT_EQ(CommonName(choice.rsa), "CN=imap.example");
    EXPECT_EQ(choice.preferred(), choice.ecdsa);
    EXPECT_NE(choice.ecdsa, store->Find("c.example").ecdsa);  // the first one stays
  }
}

TEST(Certificates, AreTheSameWhereverTheyAreRead) {
  const Folder folder;
  const Identity identity = TestAuthority().IssueFor({"a.example"});
  CertificateLoader loader;
  const auto one = *loader.Load(folder.WritePair("one", identity));
  const auto copy = *loader.Load(folder.WritePair("copy", identity));
  const auto other =
      *loader.Load(folder.WritePair("other", TestAuthority().IssueFor({"a.example"})));
  EXPECT_TRUE(one->SameAs(*copy));
  EXPECT_FALSE(one->SameAs(*other));
  auto files = folder.WritePair("shorter", identity);
  folder.Write("shorter.crt", identity.CertificatePem());
  EXPECT_FALSE(one->SameAs(**loader.Load(files)));
}

TEST(Certificates, ShareTheirIssuers) {
  const Folder folder;
  CertificateLoader first;
  const auto one = *first.Load(folder.WritePair("a", TestAuthority().IssueFor({"a.example"})));
  CertificateLoader second;  // of a later round
  second.Know(*one);
  const auto two = *second.Load(folder.WritePair("b", TestAuthority().IssueFor({"b.example"})));
  const auto store = CertificateStore::Make({one, two});
  EXPECT_EQ(store->Find("a.example").ecdsa->chain[1], store->Find("b.example").ecdsa->chain[1]);
}

TEST(HostNames, AreLowerCaseAndClean) {
  EXPECT_EQ(HostName("Mail.Example."), "mail.example");
  EXPECT_EQ(HostName("2001:DB8::1"), "2001:db8:0:0:0:0:0:1");
  EXPECT_EQ(HostName("192.0.2.1"), "192.0.2.1");
  EXPECT_EQ(HostName("a:b"), "");
  EXPECT_EQ(HostName("a b"), "");
  EXPECT_EQ(HostName("a\"b"), "");
  EXPECT_EQ(HostName("caf\xc3\xa9.example"), "");
  EXPECT_EQ(HostName(std::string(256, 'a')), "");
  EXPECT_EQ(HostName(std::string(255, 'a')).size(), 255u);
}

}  // namespace
}  // namespace gatepost::tls::test
