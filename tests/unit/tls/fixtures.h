// One certificate authority and the contexts that most tests need; made once a program.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/unit/tls/test_certificates.h"
#include "tls/certificate_store.h"
#include "tls/client_context.h"
#include "tls/context.h"

namespace gatepost::tls::test {

struct Authority {
  Authority() {
    Request request;
    request.common_name = "Test Root";
    request.is_ca = true;
    root = Issue(request);
    request.common_name = "Test Intermediate";
    request.issuer = &root;
    intermediate = Issue(request);
    ca_file = folder.Write("ca.pem", root.CertificatePem());
  }

  Identity IssueFor(std::vector<std::string> names, KeyKind key = KeyKind::kEcdsaP256) const {
    Request request;
    request.common_name = names.empty() ? "nobody" : names[0];
    request.names = std::move(names);
    request.key = key;
    request.issuer = &intermediate;
    return Issue(request);
  }

  Folder folder;
  Identity root;
  Identity intermediate;
  std::filesystem::path ca_file;
};

inline const Authority& TestAuthority() {
  static const Authority authority;
  return authority;
}

inline std::shared_ptr<const CertificateStore> StoreOf(const std::vector<CertificateFiles>& files) {
  CertificateLoader loader;
  CertificateStore::Certificates certificates;
  for (const CertificateFiles& pair : files) {
    auto loaded = loader.Load(pair);
    if (!loaded) {
      ADD_FAILURE() << loaded.error()[0].text;
      return nullptr;
    }
    certificates.push_back(std::move(*loaded));
  }
  return CertificateStore::Make(std::move(certificates));
}

// A store with one ECDSA certificate for mail.example.
inline std::shared_ptr<const CertificateStore> SimpleStore() {
  static const auto store = [] {
    const Authority& authority = TestAuthority();
    return StoreOf({authority.folder.WritePair("simple", authority.IssueFor({"mail.example"}))});
  }();
  return store;
}

inline std::shared_ptr<const ServerContext> MakeServer(
    std::shared_ptr<const CertificateStore> store = SimpleStore(),
    Profile profile = Profile::kIntermediate, std::string alpn = "imap") {
  auto context = ServerContext::Make({profile, std::move(alpn), std::move(store)});
  if (!context) {
    ADD_FAILURE() << context.error().text;
    return nullptr;
  }
  return *context;
}

inline std::shared_ptr<const ClientContext> MakeClient(std::string alpn = {}) {
  auto context = ClientContext::Make({true, TestAuthority().ca_file, std::move(alpn)});
  if (!context) {
    ADD_FAILURE() << context.error().text;
    return nullptr;
  }
  return *context;
}

}  // namespace gatepost::tls::test
