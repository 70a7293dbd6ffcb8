// Certificates for tests. Any failure here is a defect of the test: it aborts.
// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/tls/test_certificates.h"

#include <openssl/ec_key.h>
#include <openssl/nid.h>
#include <openssl/obj.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <stdlib.h>

#include <atomic>
#include <cstdio>
#include <ctime>
#include <fstream>

namespace gatepost::tls::test {
namespace {

void Check(bool good, const char* what) {
  if (good) return;
  std::fprintf(stderr, "test certificates: %s failed\n", what);
  ERR_print_errors_fp(stderr);
  abort();
}

bssl::UniquePtr<EVP_PKEY> Generate(int id, int curve) {
  bssl::UniquePtr<EVP_PKEY_CTX> context(EVP_PKEY_CTX_new_id(id, nullptr));
  Check(context && EVP_PKEY_keygen_init(context.get()) == 1, "keygen_init");
  if (id == EVP_PKEY_EC) {
    Check(EVP_PKEY_CTX_set_ec_paramgen_curve_nid(context.get(), curve) == 1, "curve");
  }
  if (id == EVP_PKEY_RSA) {
    Check(EVP_PKEY_CTX_set_rsa_keygen_bits(context.get(), curve) == 1, "bits");
  }
  EVP_PKEY* key = nullptr;
  Check(EVP_PKEY_keygen(context.get(), &key) == 1, "keygen");
  return bssl::UniquePtr<EVP_PKEY>(key);
}

std::string Contents(BIO* bio) {
  const uint8_t* data = nullptr;
  size_t size = 0;
  Check(BIO_mem_contents(bio, &data, &size) == 1, "BIO_mem_contents");
  return {reinterpret_cast<const char*>(data), size};
}

void AddNames(X509* certificate, const std::vector<std::string>& names) {
  if (names.empty()) return;
  bssl::UniquePtr<GENERAL_NAMES> list(GENERAL_NAMES_new());
  for (const std::string& text : names) {
    bssl::UniquePtr<GENERAL_NAME> name(GENERAL_NAME_new());
    if (text.starts_with("ip:")) {
      name->type = GEN_IPADD;
      name->d.iPAddress = a2i_IPADDRESS(text.c_str() + 3);
      Check(name->d.iPAddress != nullptr, "address");
    } else if (text.starts_with("email:")) {
      name->type = GEN_EMAIL;
      name->d.rfc822Name = ASN1_IA5STRING_new();
      Check(ASN1_STRING_set(name->d.rfc822Name, text.data() + 6,
                            static_cast<int>(text.size() - 6)) == 1,
            "mail address");
    } else {
      name->type = GEN_DNS;
      name->d.dNSName = ASN1_IA5STRING_new();
      Check(ASN1_STRING_set(name->d.dNSName, text.data(), static_cast<int>(text.size())) == 1,
            "name");
    }
    Check(bssl::PushToStack(list.get(), std::move(name)), "push");
  }
  Check(X509_add1_ext_i2d(certificate, NID_subject_alt_name, list.get(), 0, 0) == 1, "SAN");
}

}  // namespace

bssl::UniquePtr<EVP_PKEY> MakeKey(KeyKind kind) {
  switch (kind) {
    case KeyKind::kEcdsaP256:
      return Generate(EVP_PKEY_EC, NID_X9_62_prime256v1);
    case KeyKind::kEcdsaP384:
      return Generate(EVP_PKEY_EC, NID_secp384r1);
    case KeyKind::kRsa2048:
      return Generate(EVP_PKEY_RSA, 2048);
    case KeyKind::kRsa1024:
      return Generate(EVP_PKEY_RSA, 1024);
    case KeyKind::kEd25519:
      return Generate(EVP_PKEY_ED25519, 0);
  }
  return nullptr;
}

std::string Identity::CertificatePem() const {
  bssl::UniquePtr<BIO> bio(BIO_new(BIO_s_mem()));
  Check(PEM_write_bio_X509(bio.get(), certificate.get()) == 1, "PEM_write_bio_X509");
  return Contents(bio.get());
}

std::string Identity::ChainPem() const {
  std::string result = CertificatePem();
  for (const std::string& pem : issuer_pems) result += pem;
  return result;
}

std::string Identity::KeyPem(const char* pass_phrase) const {
  bssl::UniquePtr<BIO> bio(BIO_new(BIO_s_mem()));
  Check(PEM_write_bio_PKCS8PrivateKey(bio.get(), key.get(),
                                      pass_phrase == nullptr ? nullptr : EVP_aes_128_cbc(), nullptr,
                                      0, nullptr, const_cast<char*>(pass_phrase)) == 1,
        "PEM_write_bio_PKCS8PrivateKey");
  return Contents(bio.get());
}

Identity Issue(const Request& request) {
  static std::atomic<uint64_t> next_serial{1};
  Identity identity;
  identity.key = MakeKey(request.key);
  identity.certificate.reset(X509_new());
  X509* certificate = identity.certificate.get();
  Check(X509_set_version(certificate, X509_VERSION_3) == 1, "version");
  Check(ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate), next_serial++) == 1, "serial");
  const auto seconds = [](hours h) { return static_cast<long>(std::chrono::seconds(h).count()); };
  const std::time_t now = std::time(nullptr);
  ASN1_TIME_set(X509_getm_notBefore(certificate), now + seconds(request.starts));
  ASN1_TIME_set(X509_getm_notAfter(certificate), now + seconds(request.ends));
  X509_NAME* subject = X509_get_subject_name(certificate);
  std::vector<std::string> common_names = request.more_names;
  common_names.insert(common_names.begin(), request.common_name);
  for (const std::string& name : common_names) {
    Check(X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8,
                                     reinterpret_cast<const uint8_t*>(name.data()),
                                     static_cast<int>(name.size()), -1, 0) == 1,
          "subject");
  }
  const X509* issuer = request.issuer == nullptr ? certificate : request.issuer->certificate.get();
  Check(X509_set_issuer_name(certificate, X509_get_subject_name(issuer)) == 1, "issuer");
  Check(X509_set_pubkey(certificate, identity.key.get()) == 1, "public key");
  if (request.is_ca) {
    bssl::UniquePtr<BASIC_CONSTRAINTS> constraints(BASIC_CONSTRAINTS_new());
    constraints->ca = 1;
    Check(X509_add1_ext_i2d(certificate, NID_basic_constraints, constraints.get(), 1, 0) == 1,
          "basic constraints");
  }
  if (request.purpose != 0) {
    bssl::UniquePtr<EXTENDED_KEY_USAGE> usage(sk_ASN1_OBJECT_new_null());
    Check(sk_ASN1_OBJECT_push(usage.get(), OBJ_nid2obj(request.purpose)) > 0, "purpose");
    Check(X509_add1_ext_i2d(certificate, NID_ext_key_usage, usage.get(), 0, 0) == 1, "purpose");
  }
  AddNames(certificate, request.names);
  EVP_PKEY* signer = request.issuer == nullptr ? identity.key.get() : request.issuer->key.get();
  const bool digestless = EVP_PKEY_id(signer) == EVP_PKEY_ED25519;
  Check(X509_sign(certificate, signer, digestless ? nullptr : EVP_sha256()) > 0, "signing");
  // Roots (self-signed) are not sent.
  if (request.issuer != nullptr) {
    const X509* parent = request.issuer->certificate.get();
    if (X509_NAME_cmp(X509_get_subject_name(parent), X509_get_issuer_name(parent)) != 0) {
      identity.issuer_pems.push_back(request.issuer->CertificatePem());
      for (const std::string& pem : request.issuer->issuer_pems) {
        identity.issuer_pems.push_back(pem);
      }
    }
  }
  return identity;
}

std::string MakeCrl(const Identity& issuer, const std::vector<const Identity*>& revoked,
                    hours ends) {
  bssl::UniquePtr<X509_CRL> crl(X509_CRL_new());
  const std::time_t now = std::time(nullptr);
  const auto seconds = [](hours h) { return static_cast<long>(std::chrono::seconds(h).count()); };
  const auto time_of = [](std::time_t time) {
    return bssl::UniquePtr<ASN1_TIME>(ASN1_TIME_set(nullptr, time));
  };
  Check(X509_CRL_set_version(crl.get(), X509_CRL_VERSION_2) == 1 &&
            X509_CRL_set_issuer_name(crl.get(), X509_get_subject_name(issuer.certificate.get())) ==
                1 &&
            X509_CRL_set1_lastUpdate(crl.get(), time_of(now - seconds(hours(200))).get()) == 1 &&
            X509_CRL_set1_nextUpdate(crl.get(), time_of(now + seconds(ends)).get()) == 1,
        "CRL");
  for (const Identity* identity : revoked) {
    bssl::UniquePtr<X509_REVOKED> entry(X509_REVOKED_new());
    Check(X509_REVOKED_set_serialNumber(entry.get(),
                                        X509_get_serialNumber(identity->certificate.get())) == 1 &&
              X509_REVOKED_set_revocationDate(entry.get(), time_of(now).get()) == 1 &&
              X509_CRL_add0_revoked(crl.get(), entry.release()) == 1,
          "revoking");
  }
  Check(X509_CRL_sign(crl.get(), issuer.key.get(), EVP_sha256()) > 0, "signing a CRL");
  bssl::UniquePtr<BIO> bio(BIO_new(BIO_s_mem()));
  Check(PEM_write_bio_X509_CRL(bio.get(), crl.get()) == 1, "PEM_write_bio_X509_CRL");
  return Contents(bio.get());
}

Folder::Folder() {
  std::string pattern = std::filesystem::temp_directory_path() / "gatepost-tls-XXXXXX";
  Check(mkdtemp(pattern.data()) != nullptr, "mkdtemp");
  path_ = pattern;
}

Folder::~Folder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::filesystem::path Folder::Write(std::string_view name, std::string_view content) const {
  std::filesystem::path file = path_ / name;
  std::ofstream stream(file, std::ios::binary);
  stream << content;
  Check(stream.good(), "writing a file");
  return file;
}

CertificateFiles Folder::WritePair(const std::string& name, const Identity& identity) const {
  return {Write(name + ".crt", identity.ChainPem()), Write(name + ".key", identity.KeyPem())};
}

}  // namespace gatepost::tls::test
