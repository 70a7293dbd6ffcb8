// SPDX-License-Identifier: Apache-2.0
#include "gateway/listener_tls.h"

#include <filesystem>
#include <map>
#include <optional>
#include <tuple>
#include <utility>

#include "gateway/backends/directory.h"
#include "protocols/engines.h"

namespace gatepost {
namespace {

using Setting = tls::SettingError::Setting;

std::vector<std::string> NamesOf(const std::vector<config::PlacedName>& placed) {
  std::vector<std::string> names;
  names.reserve(placed.size());
  for (const config::PlacedName& element : placed) names.push_back(element.name);
  return names;
}

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

// CheckOffer returns what is wrong with the listener's tls_ keys.
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

// Maker makes contexts from one state of all files. Listeners that are alike share a context, and
// those with the same CA and CRL files what was read from them.
class Maker {
 public:
  Maker(std::shared_ptr<const tls::CertificateStore> certificates, std::string file)
      : certificates_(std::move(certificates)), file_(std::move(file)) {}

  // For returns the listener's context, or what is wrong with its keys and files; `path` is what
  // the listener is called there, "listener[1]". `before`: what it had so far, or null.
  tl::expected<std::shared_ptr<const tls::ServerContext>, std::vector<std::string>> For(
      const config::Listener& listener, const std::string& path, const tls::ServerContext* before);

 private:
  using Files = std::pair<std::filesystem::path, std::optional<std::filesystem::path>>;
  using Verifier = std::shared_ptr<const tls::ClientVerifier>;
  using Key = std::tuple<config::TlsProfile, tls::OfferSettings, config::Protocol, Verifier, bool>;

  tl::expected<Verifier, std::string> VerifierOf(const config::Listener& listener);

  std::shared_ptr<const tls::CertificateStore> certificates_;
  std::string file_;
  std::map<Files, Verifier> verifiers_;
  std::map<Key, std::shared_ptr<const tls::ServerContext>> contexts_;
};

tl::expected<std::shared_ptr<const tls::ServerContext>, std::vector<std::string>> Maker::For(
    const config::Listener& listener, const std::string& path, const tls::ServerContext* before) {
  std::vector<std::string> errors = CheckOffer(listener, path, file_);
  auto verifier = VerifierOf(listener);
  if (!verifier) errors.push_back(At(file_, listener.place) + path + ": " + verifier.error());
  if (!errors.empty()) return tl::unexpected(std::move(errors));

  const bool require = listener.client_certificates == config::ClientCertificates::kRequire;
  tls::OfferSettings offer = OfferSettingsOf(listener);
  auto& context = contexts_[{listener.profile, offer, listener.protocol, *verifier, require}];
  if (context) return context;
  const std::string_view alpn = protocols::AlpnId(backends::FromConfig(listener.protocol));
  auto made = before != nullptr
                  ? before->With(certificates_, *verifier)
                  : tls::ServerContext::Make({FromConfig(listener.profile), std::string(alpn),
                                              certificates_, std::move(offer), *verifier, require});
  if (!made) {
    return tl::unexpected(
        std::vector<std::string>{At(file_, listener.place) + path + ": " + made.error().text});
  }
  context = std::move(*made);
  return context;
}

tl::expected<Maker::Verifier, std::string> Maker::VerifierOf(const config::Listener& listener) {
  if (listener.client_certificates == config::ClientCertificates::kOff) return nullptr;
  auto& verifier = verifiers_[{*listener.client_ca_file, listener.client_crl_file}];
  if (verifier) return verifier;
  auto made = tls::ClientVerifier::Make(*listener.client_ca_file, listener.client_crl_file);
  if (!made) return tl::unexpected(made.error().text);
  verifier = std::move(*made);
  return verifier;
}

}  // namespace

std::string At(const std::string& file, const config::Place& place) {
  if (place.line == 0) return file + ": ";
  return file + ":" + std::to_string(place.line) + ":" + std::to_string(place.column) + ": ";
}

tl::expected<ListenerContexts, std::vector<std::string>> MakeListenerContexts(
    const config::Config& config, const std::shared_ptr<const tls::CertificateStore>& certificates,
    const std::string& file, const ListenerContexts* before) {
  std::vector<std::string> errors;
  ListenerContexts contexts;
  Maker maker(certificates, file);
  for (size_t i = 0; i < config.listeners.size(); ++i) {
    auto context = maker.For(config.listeners[i], "listener[" + std::to_string(i + 1) + "]",
                             before == nullptr ? nullptr : (*before)[i].get());
    if (context) {
      contexts.push_back(std::move(*context));
    } else {
      errors.insert(errors.end(), context.error().begin(), context.error().end());
    }
  }
  if (!errors.empty()) return tl::unexpected(std::move(errors));
  return contexts;
}

}  // namespace gatepost
