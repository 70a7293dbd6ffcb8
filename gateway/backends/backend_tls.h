// TLS towards the backends: each pool's context, made anew when files change, and what a worker
// knows of each member.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <tl/expected.hpp>
#include <utility>
#include <vector>

#include "config/schema.h"
#include "gateway/backends/directory.h"
#include "tls/client_context.h"

namespace gatepost::backends {

// By Pool::index(); null where a pool's tls is "none". Pools that are alike share one. Immutable;
// each worker has a copy of its own.
using BackendContexts = std::vector<std::shared_ptr<const tls::ClientContext>>;

// MakeBackendContexts reads the CA files and client certificates of all pools; on failure every
// problem as "FILE:LINE:COLUMN: what", where `file` is the configuration's name. With `before`, the
// contexts of the same directory from an earlier state of the files: where they are unchanged, the
// context is too. `key_log` may be null.
[[nodiscard]] tl::expected<BackendContexts, std::vector<std::string>> MakeBackendContexts(
    const Directory& directory, const std::shared_ptr<const tls::KeyLog>& key_log,
    const std::string& file, const BackendContexts* before = nullptr);

// Peers are the members as TLS servers. One worker's.
class Peers {
 public:
  explicit Peers(BackendContexts contexts) { Use(std::move(contexts)); }

  // Of returns the peer that stands for `member` of a pool with TLS.
  [[nodiscard]] const std::shared_ptr<tls::Peer>& Of(const Pool& pool, const Member& member);

  // Use replaces the contexts, from the next connection on. What a backend was verified for under
  // another context is forgotten.
  void Use(BackendContexts contexts);

 private:
  BackendContexts contexts_;
  // By Pool::index(), then by name of the member and of its certificate.
  std::vector<std::map<std::string, std::shared_ptr<tls::Peer>>> peers_;
};

}  // namespace gatepost::backends
