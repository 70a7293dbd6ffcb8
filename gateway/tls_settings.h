// A listener's TLS keys in the terms of tls/, with errors at the place of the key.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tl/expected.hpp>
#include <tuple>
#include <utility>
#include <vector>

#include "config/schema.h"
#include "protocols/engines.h"
#include "tls/context.h"

namespace gatepost {

// At returns "FILE:LINE:COLUMN: ", the beginning of an error's line.
[[nodiscard]] std::string At(const std::string& file, const config::Place& place);

// ListenerContexts makes the TLS contexts of a configuration's listeners from one set of
// certificates; listeners that are alike share one. Reads the CA and CRL files, each pair once: for
// files that have changed, make another ListenerContexts.
class ListenerContexts {
 public:
  // `file` is the configuration's, for messages.
  ListenerContexts(std::shared_ptr<const tls::CertificateStore> certificates, std::string file)
      : certificates_(std::move(certificates)), file_(std::move(file)) {}

  // For returns the listener's context, or what is wrong with its keys and files, each
  // "FILE:LINE:COLUMN: what"; `path` is what the listener is called there, "listener[1]".
  [[nodiscard]] tl::expected<std::shared_ptr<const tls::ServerContext>, std::vector<std::string>>
  For(const config::Listener& listener, const std::string& path);

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

}  // namespace gatepost
