// SPDX-License-Identifier: Apache-2.0
#include "tls/algorithms.h"

#include <openssl/nid.h>

#include <algorithm>
#include <vector>

#include "tls/internal.h"

namespace gatepost::tls {
namespace {

struct GroupName {
  std::string_view name;   // the library's
  std::string_view alias;  // IANA's, where that is another
};
constexpr GroupName kGroups[] = {{"X25519MLKEM768", {}},
                                 {"X25519", {}},
                                 {"P-256", "secp256r1"},
                                 {"P-384", "secp384r1"},
                                 {"P-521", "secp521r1"}};

struct SignatureName {
  std::string_view name;
  uint16_t id;
};
// Ed25519 is missing: no certificate authority issues such certificates, and we take none.
constexpr SignatureName kSignatures[] = {
    {"ecdsa_secp256r1_sha256", SSL_SIGN_ECDSA_SECP256R1_SHA256},
    {"ecdsa_secp384r1_sha384", SSL_SIGN_ECDSA_SECP384R1_SHA384},
    {"ecdsa_secp521r1_sha512", SSL_SIGN_ECDSA_SECP521R1_SHA512},
    {"rsa_pss_rsae_sha256", SSL_SIGN_RSA_PSS_RSAE_SHA256},
    {"rsa_pss_rsae_sha384", SSL_SIGN_RSA_PSS_RSAE_SHA384},
    {"rsa_pss_rsae_sha512", SSL_SIGN_RSA_PSS_RSAE_SHA512},
    {"rsa_pkcs1_sha256", SSL_SIGN_RSA_PKCS1_SHA256},
    {"rsa_pkcs1_sha384", SSL_SIGN_RSA_PKCS1_SHA384},
    {"rsa_pkcs1_sha512", SSL_SIGN_RSA_PKCS1_SHA512},
    {"ecdsa_sha1", SSL_SIGN_ECDSA_SHA1},
    {"rsa_pkcs1_sha1", SSL_SIGN_RSA_PKCS1_SHA1}};

// An absent alias equals nothing.
bool EqualsIgnoreCase(std::string_view a, std::string_view b) {
  return !b.empty() && std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
    const auto lower = [](char c) {
      return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    };
    return lower(x) == lower(y);
  });
}

void AddToList(std::string_view name, std::string& list) {
  if (!list.empty()) list += ", ";
  list += name;
}

bssl::UniquePtr<SSL_CTX> ScratchContext() {
  return bssl::UniquePtr<SSL_CTX>(SSL_CTX_new(TLS_with_buffers_method()));
}

bool HasGroup(SSL_CTX* context, std::string_view name) {
  const bool has = SSL_CTX_set1_curves_list(context, std::string(name).c_str()) == 1;
  ERR_clear_error();
  return has;
}

struct CipherNames {
  std::string name;
  std::string iana;
  uint16_t minimum_version;
};

std::vector<CipherNames> Ciphers() {
  const bssl::UniquePtr<SSL_CTX> context = ScratchContext();
  // "ALL" leaves 3DES out, which the oldest devices have alone. One suite that the library has
  // dropped does not fail this list.
  if (SSL_CTX_set_cipher_list(context.get(), "ALL:DES-CBC3-SHA") != 1) ERR_clear_error();
  std::vector<CipherNames> result;
  for (const SSL_CIPHER* cipher : SSL_CTX_get_ciphers(context.get())) {
    // PSK needs a shared secret with each client, which mail has no place for.
    if (SSL_CIPHER_get_auth_nid(cipher) == NID_auth_psk) continue;
    result.push_back({SSL_CIPHER_get_name(cipher), SSL_CIPHER_standard_name(cipher),
                      SSL_CIPHER_get_min_version(cipher)});
  }
  return result;
}

}  // namespace

std::optional<std::string> FindGroup(std::string_view name) {
  for (const GroupName& group : kGroups) {
    if (!EqualsIgnoreCase(name, group.name) && !EqualsIgnoreCase(name, group.alias)) continue;
    if (HasGroup(ScratchContext().get(), group.name)) return std::string(group.name);
  }
  return std::nullopt;
}

std::string GroupList() {
  std::string list;
  for (const GroupName& group : kGroups) {
    if (HasGroup(ScratchContext().get(), group.name)) AddToList(group.name, list);
  }
  return list;
}

std::optional<Cipher> FindCipher(std::string_view name) {
  for (const CipherNames& cipher : Ciphers()) {
    if (EqualsIgnoreCase(name, cipher.name) || EqualsIgnoreCase(name, cipher.iana)) {
      return Cipher{cipher.name, cipher.minimum_version};
    }
  }
  return std::nullopt;
}

std::string CipherList() {
  std::string list;
  for (const CipherNames& cipher : Ciphers()) AddToList(cipher.name, list);
  return list;
}

std::optional<uint16_t> FindSignatureAlgorithm(std::string_view name) {
  for (const SignatureName& signature : kSignatures) {
    if (EqualsIgnoreCase(name, signature.name)) return signature.id;
  }
  return std::nullopt;
}

std::string SignatureAlgorithmList() {
  std::string list;
  for (const SignatureName& signature : kSignatures) AddToList(signature.name, list);
  return list;
}

bool Signs(uint16_t algorithm, uint16_t curve, bool tls13) {
  switch (algorithm) {
    case SSL_SIGN_ECDSA_SECP256R1_SHA256:
      return tls13 ? curve == SSL_CURVE_SECP256R1 : curve != 0;
    case SSL_SIGN_ECDSA_SECP384R1_SHA384:
      return tls13 ? curve == SSL_CURVE_SECP384R1 : curve != 0;
    case SSL_SIGN_ECDSA_SECP521R1_SHA512:
      return tls13 ? curve == SSL_CURVE_SECP521R1 : curve != 0;
    case SSL_SIGN_ECDSA_SHA1:
      return !tls13 && curve != 0;
    case SSL_SIGN_RSA_PSS_RSAE_SHA256:
    case SSL_SIGN_RSA_PSS_RSAE_SHA384:
    case SSL_SIGN_RSA_PSS_RSAE_SHA512:
      return curve == 0;
    default:  // rsa_pkcs1_*
      return !tls13 && curve == 0;
  }
}

}  // namespace gatepost::tls
