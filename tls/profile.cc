// The profiles' lists. A change here is a change of tls_profile in the configuration reference.
// SPDX-License-Identifier: Apache-2.0
#include "tls/profile.h"

#include <algorithm>

#include "tls/algorithms.h"

namespace gatepost::tls {
namespace {

using Setting = SettingError::Setting;

constexpr uint16_t kTls10 = 0x0301;
constexpr uint16_t kTls11 = 0x0302;
constexpr uint16_t kTls12 = 0x0303;
constexpr uint16_t kTls13 = 0x0304;

#define GATEPOST_AEAD_CIPHERS      \
  "ECDHE-ECDSA-AES128-GCM-SHA256:" \
  "ECDHE-RSA-AES128-GCM-SHA256:"   \
  "ECDHE-ECDSA-AES256-GCM-SHA384:" \
  "ECDHE-RSA-AES256-GCM-SHA384:"   \
  "ECDHE-ECDSA-CHACHA20-POLY1305:" \
  "ECDHE-RSA-CHACHA20-POLY1305"

constexpr char kAeadCiphers[] = GATEPOST_AEAD_CIPHERS;
constexpr char kAllCiphers[] = GATEPOST_AEAD_CIPHERS
    ":ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA"
    ":ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES256-SHA"
    ":AES128-GCM-SHA256:AES256-GCM-SHA384:AES128-SHA:AES256-SHA";

#undef GATEPOST_AEAD_CIPHERS

constexpr char kClassicGroups[] = "X25519:P-256:P-384";
constexpr char kPostQuantumGroup[] = "X25519MLKEM768";

// Append adds `name` to a list with colons, unless it has it already.
bool Append(const std::string& name, std::string& list) {
  if ((":" + list + ":").find(":" + name + ":") != std::string::npos) return false;
  if (!list.empty()) list += ':';
  list += name;
  return true;
}

Offer OfferOf(Profile profile) {
  Offer offer{kTls12, kTls13, kAeadCiphers, kClassicGroups, {}, false, false};
  if (FindGroup(kPostQuantumGroup)) {
    offer.groups = kPostQuantumGroup + std::string(":") + kClassicGroups;
  }
  switch (profile) {
    case Profile::kModern:
      offer.minimum_version = kTls13;
      break;
    case Profile::kIntermediate:
      break;
    case Profile::kLegacy:
      offer.minimum_version = kTls10;
      offer.ciphers = kAllCiphers;
      offer.split_cbc_records = true;  // against BEAST, in TLS 1.0 only
      offer.own_order = true;
      break;
  }
  return offer;
}

std::string Unknown(std::string_view name, std::string_view what, const std::string& known,
                    std::string_view example) {
  return "\"" + std::string(name) + "\" is not " + std::string(what) +
         " of this build's TLS library; use " + known + ", for example: " + std::string(example);
}

}  // namespace

tl::expected<Offer, std::vector<SettingError>> MakeOffer(Profile profile,
                                                         const OfferSettings& settings) {
  Offer offer = OfferOf(profile);
  std::vector<SettingError> errors;
  const auto repeated = [&](Setting setting, size_t element, const std::string& name) {
    errors.push_back({setting, element, "\"" + name + "\" stands there twice; remove one"});
  };
  if (settings.minimum_version) {
    offer.minimum_version = *settings.minimum_version;
    offer.split_cbc_records = offer.minimum_version == kTls10;
  }

  if (!settings.groups.empty() || !settings.ciphers.empty()) offer.own_order = true;
  if (!settings.groups.empty()) offer.groups.clear();
  for (size_t i = 0; i < settings.groups.size(); ++i) {
    if (const auto group = FindGroup(settings.groups[i])) {
      if (!Append(*group, offer.groups)) repeated(Setting::kGroups, i, settings.groups[i]);
    } else {
      errors.push_back({Setting::kGroups, i,
                        Unknown(settings.groups[i], "a group", GroupList(),
                                R"(tls_groups = ["X25519", "P-256"])")});
    }
  }

  if (!settings.ciphers.empty()) offer.ciphers.clear();
  uint16_t oldest_suite = kTls12;
  for (size_t i = 0; i < settings.ciphers.size(); ++i) {
    const std::string& name = settings.ciphers[i];
    if (const auto cipher = FindCipher(name)) {
      if (!Append(cipher->name, offer.ciphers)) repeated(Setting::kCiphers, i, name);
      oldest_suite = std::min(oldest_suite, cipher->minimum_version);
    } else if (name.starts_with("TLS_AES_") || name.starts_with("TLS_CHACHA20_")) {
      errors.push_back({Setting::kCiphers, i,
                        "\"" + name +
                            "\" is a suite of TLS 1.3, where the library offers all three and the "
                            "list is for TLS 1.2 and below; remove it"});
    } else {
      errors.push_back({Setting::kCiphers, i,
                        Unknown(name, "a cipher suite (for TLS 1.2 and below)", CipherList(),
                                R"(tls_ciphers = ["ECDHE-ECDSA-AES128-GCM-SHA256"])")});
    }
  }
  if (!settings.ciphers.empty() && offer.minimum_version == kTls13) {
    errors.push_back({Setting::kCiphers, 0,
                      "has no effect where TLS 1.3 is the only version, whose suites are the "
                      "library's; remove it, or use tls_minimum_version = \"1.2\""});
  }
  const bool has_old_suite =
      settings.ciphers.empty() ? profile == Profile::kLegacy : oldest_suite < kTls12;
  if (offer.minimum_version < kTls12 && !has_old_suite && errors.empty()) {
    errors.push_back({Setting::kMinimumVersion, 0,
                      "\"" + std::string(VersionText(offer.minimum_version)) +
                          "\" cannot be: none of the cipher suites works below TLS 1.2; use "
                          "tls_profile = \"legacy\", or tls_ciphers with one that does, for "
                          "example: tls_ciphers = [\"ECDHE-RSA-AES128-SHA\"]"});
  }

  for (size_t i = 0; i < settings.signature_algorithms.size(); ++i) {
    const std::string& name = settings.signature_algorithms[i];
    if (const auto id = FindSignatureAlgorithm(name)) {
      std::vector<uint16_t>& ids = offer.signature_algorithms;
      if (std::find(ids.begin(), ids.end(), *id) != ids.end()) {
        repeated(Setting::kSignatureAlgorithms, i, name);
      }
      ids.push_back(*id);
    } else {
      errors.push_back({Setting::kSignatureAlgorithms, i,
                        Unknown(name, "a signature algorithm", SignatureAlgorithmList(),
                                R"(tls_signature_algorithms = ["ecdsa_secp256r1_sha256"])")});
    }
  }
  if (!errors.empty()) return tl::unexpected(std::move(errors));
  return offer;
}

Offer BackendOffer(uint16_t minimum_version) {
  return {minimum_version,           kTls13, kAllCiphers, kClassicGroups, {},
          minimum_version == kTls10, false};
}

std::string_view VersionText(uint16_t version) {
  switch (version) {
    case kTls10:
      return "1.0";
    case kTls11:
      return "1.1";
    case kTls12:
      return "1.2";
    default:
      return "1.3";
  }
}

}  // namespace gatepost::tls
