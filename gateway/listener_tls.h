// What the listeners offer under TLS: built from the configuration, and anew when files change.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <tl/expected.hpp>
#include <vector>

#include "config/schema.h"
#include "tls/certificate_store.h"
#include "tls/context.h"

namespace gatepost {

// One context a listener, in the order of the configuration. Listeners that are alike share one.
// Immutable; each worker has a copy of its own.
using ListenerContexts = std::vector<std::shared_ptr<const tls::ServerContext>>;

// At returns "FILE:LINE:COLUMN: ", the beginning of an error's line.
[[nodiscard]] std::string At(const std::string& file, const config::Place& place);

// MakeListenerContexts checks the listeners' TLS keys, reads their CA and CRL files, and makes the
// contexts; on failure every problem as "FILE:LINE:COLUMN: what", where `file` is the
// configuration's name. With `before`, the contexts of the same configuration from an earlier state
// of its files, sessions made with those are resumed with the new ones.
[[nodiscard]] tl::expected<ListenerContexts, std::vector<std::string>> MakeListenerContexts(
    const config::Config& config, const std::shared_ptr<const tls::CertificateStore>& certificates,
    const std::string& file, const ListenerContexts* before = nullptr);

}  // namespace gatepost
