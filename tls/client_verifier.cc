// SPDX-License-Identifier: Apache-2.0
#include "tls/client_verifier.h"

#include <openssl/sha.h>

#include <algorithm>

#include "tls/internal.h"

namespace gatepost::tls {
namespace {

// More names than this make a CertificateRequest that old clients choke on; without any, a client
// chooses for itself (RFC 5246 §7.4.4, RFC 8446 §4.2.4).
constexpr size_t kMaxNameBytes = 16 << 10;

std::string_view NameOf(const X509& certificate) {
  const uint8_t* der = nullptr;
  size_t size = 0;
  // Not changed, only not declared so in older versions of the library.
  if (X509_NAME_get0_der(const_cast<X509_NAME*>(X509_get_subject_name(&certificate)), &der,
                         &size) != 1) {
    return {};
  }
  return {reinterpret_cast<const char*>(der), size};
}

}  // namespace

tl::expected<std::shared_ptr<const ClientVerifier>, Error> ClientVerifier::Make(
    const std::filesystem::path& ca_file, const std::optional<std::filesystem::path>& crl_file) {
  auto certificates = ReadCertificates(ca_file);
  if (!certificates) return tl::unexpected(certificates.error());
  auto store = TrustStore(*certificates);
  if (!store) return tl::unexpected(Error{ca_file.string() + ": " + store.error().text});

  std::shared_ptr<ClientVerifier> self(new ClientVerifier);
  bssl::UniquePtr<STACK_OF(CRYPTO_BUFFER)> names(sk_CRYPTO_BUFFER_new_null());
  std::string all;
  bool good = names != nullptr;
  SHA256_CTX content;
  SHA256_Init(&content);
  for (const ParsedCertificate& certificate : *certificates) {
    const std::string_view name = NameOf(*certificate.x509);
    SHA256_Update(&content, CRYPTO_BUFFER_data(certificate.der.get()),
                  CRYPTO_BUFFER_len(certificate.der.get()));
    all += name;
    bssl::UniquePtr<CRYPTO_BUFFER> buffer(
        CRYPTO_BUFFER_new(reinterpret_cast<const uint8_t*>(name.data()), name.size(), nullptr));
    good = good && buffer && bssl::PushToStack(names.get(), std::move(buffer));
  }
  if (all.size() > kMaxNameBytes) names.reset(sk_CRYPTO_BUFFER_new_null());
  self->digest_.resize(SHA256_DIGEST_LENGTH);
  SHA256(reinterpret_cast<const uint8_t*>(all.data()), all.size(),
         reinterpret_cast<uint8_t*>(self->digest_.data()));

  if (crl_file) {
    auto crls = ReadCrls(*crl_file);
    if (!crls) return tl::unexpected(crls.error());
    for (const bssl::UniquePtr<X509_CRL>& crl : *crls) {
      uint8_t* der = nullptr;
      const int size = i2d_X509_CRL(crl.get(), &der);
      const bssl::UniquePtr<uint8_t> owner(der);
      SHA256_Update(&content, der, static_cast<size_t>(std::max(size, 0)));
      good = good && size > 0 && X509_STORE_add_crl(store->get(), crl.get()) == 1;
      const ASN1_TIME* next = X509_CRL_get0_nextUpdate(crl.get());
      self->crls_.push_back(
          {NameText(X509_CRL_get_issuer(crl.get())),
           next == nullptr ? std::chrono::system_clock::time_point::max() : TimePoint(next)});
    }
    good = good && X509_STORE_set_flags(store->get(),
                                        X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL) == 1;
  }
  if (!good) return tl::unexpected(Error{ca_file.string() + ": " + TakeLibraryError()});
  self->content_.resize(SHA256_DIGEST_LENGTH);
  SHA256_Final(reinterpret_cast<uint8_t*>(self->content_.data()), &content);
  self->store_ = store->release();
  self->ca_names_ = names.release();
  ERR_clear_error();
  return self;
}

ClientVerifier::~ClientVerifier() {
  X509_STORE_free(store_);
  bssl::UniquePtr<STACK_OF(CRYPTO_BUFFER)> names(ca_names_);
}

}  // namespace gatepost::tls
