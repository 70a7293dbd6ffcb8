// SPDX-License-Identifier: Apache-2.0
#include "gateway/backends/backend_tls.h"

#include <algorithm>

#include "gateway/listener_tls.h"
#include "protocols/engines.h"

namespace gatepost::backends {
namespace {

// An authority may name members that no pool has.
constexpr size_t kMaxPeersPerPool = 4096;

tls::ClientOptions OptionsOf(const Pool& pool) {
  const config::Pool& settings = pool.settings();
  tls::ClientOptions options;
  options.verify = settings.verify;
  if (settings.ca_file) options.ca_file = settings.ca_file->string();
  if (settings.tls == config::BackendTls::kImplicit) {
    options.alpn = protocols::AlpnId(pool.protocol());
  }
  options.pins = settings.pins;
  if (settings.client_certificate && settings.client_key) {
    options.certificate = {*settings.client_certificate, *settings.client_key};
  }
  options.minimum_version = MinimumVersion(settings);
  return options;
}

}  // namespace

tl::expected<BackendContexts, std::vector<std::string>> MakeBackendContexts(
    const Directory& directory, const std::shared_ptr<const tls::KeyLog>& key_log,
    const std::string& file, const BackendContexts* before) {
  std::vector<std::string> errors;
  BackendContexts contexts(directory.pools().size());
  std::vector<std::pair<tls::ClientOptions, BackendContexts::value_type>> made;
  for (const auto& pool : directory.pools()) {
    const config::Pool& settings = pool->settings();
    if (settings.tls == config::BackendTls::kNone) continue;
    tls::ClientOptions options = OptionsOf(*pool);
    options.key_log = key_log;
    auto alike = std::find_if(made.begin(), made.end(),
                              [&](const auto& earlier) { return earlier.first == options; });
    if (alike == made.end()) {
      auto context =
          tls::ClientContext::Make(options, before == nullptr ? nullptr : (*before)[pool->index()]);
      if (!context) {
        errors.push_back(At(file, settings.place) + "pool." + settings.name + ": " +
                         context.error().text);
        continue;
      }
      alike = made.insert(made.end(), {std::move(options), std::move(*context)});
    }
    contexts[pool->index()] = alike->second;
  }
  if (!errors.empty()) return tl::unexpected(std::move(errors));
  return contexts;
}

const std::shared_ptr<tls::Peer>& Peers::Of(const Pool& pool, const Member& member) {
  auto& peers = peers_[pool.index()];
  if (peers.size() >= kMaxPeersPerPool) peers.clear();
  std::shared_ptr<tls::Peer>& peer = peers[member.name() + " " + member.tls_name()];
  if (!peer) {
    peer = std::make_shared<tls::Peer>(contexts_[pool.index()], pool.ServerName(member));
  }
  return peer;
}

void Peers::Use(BackendContexts contexts) {
  peers_.resize(contexts.size());
  for (size_t i = 0; i < contexts.size(); ++i) {
    if (i >= contexts_.size() || contexts_[i] != contexts[i]) peers_[i].clear();
  }
  contexts_ = std::move(contexts);
}

}  // namespace gatepost::backends
