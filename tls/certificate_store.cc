// Loading and finding certificates. A pair is taken only whole; every check has its own words.
// SPDX-License-Identifier: Apache-2.0
#include "tls/certificate_store.h"

#include <openssl/ec_key.h>
#include <openssl/nid.h>

#include <algorithm>
#include <cassert>
#include <cstring>
#include <optional>

#include "tls/internal.h"
#include "tls/ocsp.h"

namespace gatepost::tls {
namespace {

constexpr unsigned kMinRsaBits = 2048;

std::string Quote(const std::filesystem::path& file) {
  return Printable(file.native(), 4096);
}

struct KeyFacts {
  KeyType type;
  uint16_t curve;
  std::string text;
};

// What kind of key this is, or nothing where clients could not use it.
std::optional<KeyFacts> DescribeKey(const EVP_PKEY& key, std::string& text) {
  if (EVP_PKEY_id(&key) == EVP_PKEY_RSA) {
    const auto bits = static_cast<unsigned>(EVP_PKEY_bits(&key));
    text = "RSA " + std::to_string(bits);
    if (bits < kMinRsaBits) return std::nullopt;
    return KeyFacts{KeyType::kRsa, 0, text};
  }
  if (EVP_PKEY_id(&key) == EVP_PKEY_EC) {
    const EC_KEY* ec = EVP_PKEY_get0_EC_KEY(&key);
    switch (EC_GROUP_get_curve_name(EC_KEY_get0_group(ec))) {
      case NID_X9_62_prime256v1:
        return KeyFacts{KeyType::kEcdsa, SSL_CURVE_SECP256R1, "ECDSA P-256"};
      case NID_secp384r1:
        return KeyFacts{KeyType::kEcdsa, SSL_CURVE_SECP384R1, "ECDSA P-384"};
      case NID_secp521r1:
        return KeyFacts{KeyType::kEcdsa, SSL_CURVE_SECP521R1, "ECDSA P-521"};
      default:
        text = "ECDSA on another curve";
        return std::nullopt;
    }
  }
  text = "neither RSA nor ECDSA";
  return std::nullopt;
}

// Each certificate must be issued by the next (RFC 8446 §4.4.2 lets clients be strict about it).
std::optional<std::string> CheckOrder(const std::vector<ParsedCertificate>& chain) {
  for (size_t i = 0; i + 1 < chain.size(); ++i) {
    if (X509_check_issued(chain[i + 1].x509.get(), chain[i].x509.get()) == X509_V_OK) continue;
    return "the chain is out of order: certificate " + std::to_string(i + 1) + " was issued by " +
           NameText(X509_get_issuer_name(chain[i].x509.get())) + ", but certificate " +
           std::to_string(i + 2) + " is " +
           NameText(X509_get_subject_name(chain[i + 1].x509.get())) +
           " (the server's certificate comes first, then each one's issuer)";
  }
  return std::nullopt;
}

// A root at the chain's end is not looked at by clients: its dates don't matter.
std::optional<std::string> CheckDates(const std::vector<ParsedCertificate>& chain,
                                      CertificateLoader::Time now) {
  for (size_t i = 0; i < chain.size(); ++i) {
    const X509* certificate = chain[i].x509.get();
    const bool self_issued =
        X509_NAME_cmp(X509_get_subject_name(certificate), X509_get_issuer_name(certificate)) == 0;
    if (i > 0 && self_issued) continue;
    const std::string which = i == 0 ? "the certificate"
                                     : "certificate " + std::to_string(i + 1) + " of the chain (" +
                                           NameText(X509_get_subject_name(certificate)) + ")";
    const auto not_after = TimePoint(X509_get0_notAfter(certificate));
    if (not_after < now) return which + " expired on " + DateText(not_after);
    const auto not_before = TimePoint(X509_get0_notBefore(certificate));
    if (not_before > now) return which + " is not valid before " + DateText(not_before);
  }
  return std::nullopt;
}

bool Matches(const X509& certificate, const EVP_PKEY& key) {
  bssl::UniquePtr<EVP_PKEY> public_key(X509_get_pubkey(const_cast<X509*>(&certificate)));
  const bool same = public_key && EVP_PKEY_cmp(public_key.get(), &key) == 1;
  ERR_clear_error();
  return same;
}

std::string MismatchText(const CertificateFiles& files, const std::vector<ParsedCertificate>& chain,
                         const EVP_PKEY& key) {
  std::string text = Quote(files.key) + ": the private key does not match the certificate in " +
                     Quote(files.chain);
  for (size_t i = 1; i < chain.size(); ++i) {
    if (!Matches(*chain[i].x509, key)) continue;
    text += ", but certificate " + std::to_string(i + 1) +
            " of its chain: the server's certificate must come first";
    break;
  }
  return text;
}

// AddStaple takes the OCSP response beside the chain, if there is one that is good.
void AddStaple(const X509& leaf, CertificateLoader::Time now, CertificateInfo& info,
               Credential& credential) {
  const std::filesystem::path file = OcspFile(info.chain_file);
  std::error_code error;
  if (!std::filesystem::exists(file, error) && !error) return;
  const auto bytes = ReadFile(file);
  if (!bytes) {
    info.staple_problem = bytes.error().text;
    return;
  }
  const auto until = CheckOcspResponse(bytes->bytes(), leaf);
  if (!until) {
    info.staple_problem = Quote(file) + " " + until.error().text;
  } else if (*until < now) {
    info.staple_problem = Quote(file) + " expired on " + DateText(*until);
  } else {
    info.stapled_until = credential.stapled_until = *until;
    credential.staple.reset(
        CRYPTO_BUFFER_new(bytes->bytes().data(), bytes->bytes().size(), nullptr));
  }
}

}  // namespace

std::filesystem::path OcspFile(const std::filesystem::path& chain) {
  return std::filesystem::path(chain) += ".ocsp";
}

Certificate::Certificate() = default;
Certificate::~Certificate() = default;

bool Certificate::SameAs(const Certificate& other) const {
  const auto same_bytes = [](const CRYPTO_BUFFER* one, const CRYPTO_BUFFER* another) {
    return CRYPTO_BUFFER_len(one) == CRYPTO_BUFFER_len(another) &&
           std::memcmp(CRYPTO_BUFFER_data(one), CRYPTO_BUFFER_data(another),
                       CRYPTO_BUFFER_len(one)) == 0;
  };
  const CRYPTO_BUFFER* staple = credential_->staple.get();
  const CRYPTO_BUFFER* others = other.credential_->staple.get();
  const bool same_staple =
      staple == nullptr || others == nullptr ? staple == others : same_bytes(staple, others);
  // The same leaf has the same key: each was checked against its own.
  return same_staple && info_.staple_problem == other.info_.staple_problem &&
         std::equal(credential_->chain.begin(), credential_->chain.end(),
                    other.credential_->chain.begin(), other.credential_->chain.end(), same_bytes);
}

// Intermediates are shared by many certificates: keep one copy.
class CertificateLoader::Deduplicator {
 public:
  // Share returns a reference to the copy that is known, which may be `der` itself.
  CRYPTO_BUFFER* Share(bssl::UniquePtr<CRYPTO_BUFFER> der) {
    const std::string_view bytes(reinterpret_cast<const char*>(CRYPTO_BUFFER_data(der.get())),
                                 CRYPTO_BUFFER_len(der.get()));
    const auto [place, inserted] = known_.try_emplace(bytes, der.get());
    if (inserted) owned_.push_back(std::move(der));
    CRYPTO_BUFFER_up_ref(place->second);
    return place->second;
  }

 private:
  std::unordered_map<std::string_view, CRYPTO_BUFFER*> known_;  // the views lie in owned_
  std::vector<bssl::UniquePtr<CRYPTO_BUFFER>> owned_;
};

CertificateLoader::CertificateLoader() : deduplicator_(std::make_unique<Deduplicator>()) {}
CertificateLoader::~CertificateLoader() = default;

void CertificateLoader::Know(const Certificate& certificate) {
  const std::vector<CRYPTO_BUFFER*>& chain = certificate.credential_->chain;
  for (size_t i = 1; i < chain.size(); ++i) {
    CRYPTO_BUFFER_free(deduplicator_->Share(bssl::UpRef(chain[i])));
  }
}

tl::expected<std::shared_ptr<const Certificate>, std::vector<Error>> CertificateLoader::Load(
    const CertificateFiles& files, Time now) {
  auto chain = ReadCertificates(files.chain);
  auto key = ReadPrivateKey(files.key);
  std::vector<Error> errors;
  if (!chain) errors.push_back(chain.error());
  if (!key) errors.push_back(key.error());
  if (!errors.empty()) return tl::unexpected(std::move(errors));

  const X509& leaf = *chain->front().x509;
  std::string key_text;
  std::optional<KeyFacts> facts = DescribeKey(**key, key_text);
  if (!facts) {
    errors.push_back({Quote(files.key) + ": the private key is " + key_text +
                      "; clients need ECDSA on P-256, P-384 or P-521, or RSA of " +
                      std::to_string(kMinRsaBits) + " bits or more"});
  }
  if (!Matches(leaf, **key)) errors.push_back({MismatchText(files, *chain, **key)});
  if (auto problem = CheckOrder(*chain)) {
    errors.push_back({Quote(files.chain) + ": " + *problem});
  }
  if (auto problem = CheckDates(*chain, now)) {
    errors.push_back({Quote(files.chain) + ": " + *problem});
  }
  if (!errors.empty()) return tl::unexpected(std::move(errors));

  std::shared_ptr<Certificate> loaded(new Certificate);
  CertificateInfo& info = loaded->info_;
  info.chain_file = files.chain;
  info.key_file = files.key;
  info.names = SubjectNames(leaf);
  info.subject = NameText(X509_get_subject_name(&leaf));
  info.issuer = NameText(X509_get_issuer_name(&leaf));
  info.not_before = TimePoint(X509_get0_notBefore(&leaf));
  info.not_after = TimePoint(X509_get0_notAfter(&leaf));
  info.key_type = facts->type;
  info.key_text = std::move(facts->text);
  loaded->credential_ = std::make_unique<Credential>();
  loaded->credential_->key = std::move(*key);
  loaded->credential_->curve = facts->curve;
  loaded->credential_->chain.reserve(chain->size());
  for (ParsedCertificate& certificate : *chain) {
    loaded->credential_->chain.push_back(deduplicator_->Share(std::move(certificate.der)));
  }
  AddStaple(leaf, now, info, *loaded->credential_);
  return loaded;
}

std::shared_ptr<const CertificateStore> CertificateStore::Make(Certificates certificates) {
  assert(!certificates.empty());
  std::shared_ptr<CertificateStore> store(new CertificateStore);
  store->certificates_ = std::move(certificates);
  store->AddNames();
  return store;
}

void CertificateStore::AddNames() {
  const auto slot = [](Choice& choice, const Certificate& certificate) -> const Credential*& {
    return certificate.info().key_type == KeyType::kEcdsa ? choice.ecdsa : choice.rsa;
  };
  for (const auto& certificate : certificates_) {
    for (const std::string& name : certificate->info().names) {
      Choice& choice = name.starts_with("*.") ? wildcards_[name.substr(2)] : exact_[name];
      const Credential*& credential = slot(choice, *certificate);
      if (credential == nullptr) credential = certificate->credential_.get();
    }
  }
  // The default is the first certificate, and beside it one of the other key type for its name.
  const Certificate& first = *certificates_[0];
  if (!first.info().names.empty()) {
    const std::string& name = first.info().names[0];
    default_ = name.starts_with("*.") ? wildcards_[name.substr(2)] : exact_[name];
  }
  slot(default_, first) = first.credential_.get();
  default_.known = false;
}

CertificateStore::Choice CertificateStore::Find(std::string_view server_name) const {
  if (server_name.empty()) return default_;
  if (const auto found = exact_.find(server_name); found != exact_.end()) return found->second;
  // A wildcard stands for exactly one label (RFC 9525 §6.3).
  const size_t dot = server_name.find('.');
  if (dot != std::string_view::npos && dot > 0) {
    const auto found = wildcards_.find(server_name.substr(dot + 1));
    if (found != wildcards_.end()) return found->second;
  }
  return default_;
}

}  // namespace gatepost::tls
