// SPDX-License-Identifier: Apache-2.0
#include "gateway/listener_tls.h"

#include <map>
#include <tl/expected.hpp>
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

// Maker makes contexts from one state of all files. Listeners that are alike share a context.
class Maker {
 public:
  Maker(std::shared_ptr<const tls::TicketKeys> ticket_keys,
        std::shared_ptr<const tls::KeyLog> key_log)
      : ticket_keys_(std::move(ticket_keys)), key_log_(std::move(key_log)) {}

  // For returns the listener's context, or what is wrong. `before`: what it had so far, or null.
  tl::expected<std::shared_ptr<const tls::ServerContext>, tls::Error> For(
      const config::Listener& listener, const ListenerFiles& files,
      const tls::ServerContext* before);

 private:
  using Key = std::tuple<config::TlsProfile, tls::OfferSettings, config::Protocol, bool, bool,
                         const void*, const void*>;

  std::shared_ptr<const tls::TicketKeys> ticket_keys_;
  std::shared_ptr<const tls::KeyLog> key_log_;
  std::map<Key, std::shared_ptr<const tls::ServerContext>> contexts_;
};

tl::expected<std::shared_ptr<const tls::ServerContext>, tls::Error> Maker::For(
    const config::Listener& listener, const ListenerFiles& files,
    const tls::ServerContext* before) {
  const bool require = listener.client_certificates == config::ClientCertificates::kRequire;
  tls::OfferSettings offer = OfferSettingsOf(listener);
  auto& context = contexts_[{listener.profile, offer, listener.protocol, require,
                             listener.strict_sni, files.certificates.get(), files.verifier.get()}];
  if (context) return context;
  const std::string_view alpn = protocols::AlpnId(backends::FromConfig(listener.protocol));
  auto made = before != nullptr ? before->With(files.certificates, files.verifier)
                                : tls::ServerContext::Make({.profile = FromConfig(listener.profile),
                                                            .alpn = std::string(alpn),
                                                            .certificates = files.certificates,
                                                            .settings = std::move(offer),
                                                            .client_verifier = files.verifier,
                                                            .require_client_certificate = require,
                                                            .strict_sni = listener.strict_sni,
                                                            .ticket_keys = ticket_keys_,
                                                            .key_log = key_log_});
  if (!made) return tl::unexpected(made.error());
  context = std::move(*made);
  return context;
}

}  // namespace

std::string At(const std::string& file, const config::Place& place) {
  if (place.line == 0) return file + ": ";
  return file + ":" + std::to_string(place.line) + ":" + std::to_string(place.column) + ": ";
}

std::vector<std::string> CheckOffers(const config::Config& config, const std::string& file) {
  std::vector<std::string> errors;
  for (size_t i = 0; i < config.listeners.size(); ++i) {
    for (std::string& error :
         CheckOffer(config.listeners[i], "listener[" + std::to_string(i + 1) + "]", file)) {
      errors.push_back(std::move(error));
    }
  }
  return errors;
}

MadeContexts MakeListenerContexts(const config::Config& config,
                                  const std::vector<ListenerFiles>& files,
                                  const std::shared_ptr<const tls::TicketKeys>& ticket_keys,
                                  const std::shared_ptr<const tls::KeyLog>& key_log,
                                  const ListenerContexts& before) {
  MadeContexts made;
  made.contexts = before;
  made.contexts.resize(config.listeners.size());
  made.problems.resize(config.listeners.size());
  Maker maker(ticket_keys, key_log);
  for (size_t i = 0; i < config.listeners.size(); ++i) {
    const config::Listener& listener = config.listeners[i];
    const bool complete =
        listener.client_certificates == config::ClientCertificates::kOff || files[i].verifier;
    const bool sound =
        tls::MakeOffer(FromConfig(listener.profile), OfferSettingsOf(listener)).has_value();
    if (!complete || !sound) continue;
    auto context = maker.For(listener, files[i], made.contexts[i].get());
    if (context) {
      made.contexts[i] = std::move(*context);
    } else {
      made.problems[i] = context.error().text;
    }
  }
  return made;
}

}  // namespace gatepost
