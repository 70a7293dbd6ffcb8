// SPDX-License-Identifier: Apache-2.0
#include "gateway/tls_settings.h"

namespace gatepost {
namespace {

using Setting = tls::SettingError::Setting;

std::vector<std::string> NamesOf(const std::vector<config::PlacedName>& placed) {
  std::vector<std::string> names;
  names.reserve(placed.size());
  for (const config::PlacedName& element : placed) names.push_back(element.name);
  return names;
}

}  // namespace

tls::Profile FromConfig(config::TlsProfile profile) {
  switch (profile) {
    case config::TlsProfile::kModern:
      return tls::Profile::kModern;
    case config::TlsProfile::kIntermediate:
      return tls::Profile::kIntermediate;
    case config::TlsProfile::kLegacy:
      return tls::Profile::kLegacy;
  }
  return tls::Profile::kIntermediate;
}

tls::OfferSettings OfferSettingsOf(const config::Listener& listener) {
  constexpr uint16_t kTls10 = 0x0301;
  tls::OfferSettings settings;
  if (listener.tls_minimum_version) {
    settings.minimum_version =
        static_cast<uint16_t>(kTls10 + static_cast<uint16_t>(*listener.tls_minimum_version));
  }
  settings.groups = NamesOf(listener.tls_groups);
  settings.ciphers = NamesOf(listener.tls_ciphers);
  settings.signature_algorithms = NamesOf(listener.tls_signature_algorithms);
  return settings;
}

std::string At(const std::string& file, const config::Place& place) {
  if (place.line == 0) return file + ": ";
  return file + ":" + std::to_string(place.line) + ":" + std::to_string(place.column) + ": ";
}

std::vector<std::string> CheckOffer(const config::Listener& listener, const std::string& path,
                                    const std::string& file) {
  std::vector<std::string> errors;
  const auto offer = tls::MakeOffer(FromConfig(listener.profile), OfferSettingsOf(listener));
  if (offer) return errors;
  const auto in_list = [&](const std::vector<config::PlacedName>& list, const char* key,
                           const tls::SettingError& error) {
    return At(file, list[error.element].place) + path + "." + key + "[" +
           std::to_string(error.element + 1) + "]: " + error.text;
  };
  for (const tls::SettingError& error : offer.error()) {
    switch (error.setting) {
      case Setting::kMinimumVersion:
        errors.push_back(At(file, listener.place) + path + ".tls_minimum_version: " + error.text);
        break;
      case Setting::kGroups:
        errors.push_back(in_list(listener.tls_groups, "tls_groups", error));
        break;
      case Setting::kCiphers:
        errors.push_back(in_list(listener.tls_ciphers, "tls_ciphers", error));
        break;
      case Setting::kSignatureAlgorithms:
        errors.push_back(
            in_list(listener.tls_signature_algorithms, "tls_signature_algorithms", error));
        break;
    }
  }
  return errors;
}

}  // namespace gatepost
