// What the listeners offer under TLS: built from the configuration, and anew when files change.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "config/schema.h"
#include "tls/certificate_store.h"
#include "tls/client_verifier.h"
#include "tls/context.h"
#include "tls/key_log.h"
#include "tls/ticket_keys.h"

namespace gatepost {

// One context a listener, in the order of the configuration. Listeners that are alike share one.
// Immutable; each worker has a copy of its own.
using ListenerContexts = std::vector<std::shared_ptr<const tls::ServerContext>>;

// At returns "FILE:LINE:COLUMN: ", the beginning of an error's line.
[[nodiscard]] std::string At(const std::string& file, const config::Place& place);

// CheckOffers returns what is wrong with the listeners' tls_ keys, each "FILE:LINE:COLUMN: what".
[[nodiscard]] std::vector<std::string> CheckOffers(const config::Config& config,
                                                   const std::string& file);

// What a listener's files held.
struct ListenerFiles {
  std::shared_ptr<const tls::CertificateStore> certificates;
  std::shared_ptr<const tls::ClientVerifier> verifier;  // null: there are no client certificates
};

struct MadeContexts {
  ListenerContexts contexts;          // where a listener's cannot be made: what it had before
  std::vector<std::string> problems;  // one a listener; empty: none
};

// MakeListenerContexts makes contexts of `files` (one a listener) for listeners in which
// CheckOffers found nothing wrong. With `before`, the contexts made from an earlier state of the
// files, sessions made with those are resumed with the new ones; else it is empty. A listener of
// client certificates whose verifier is null is left as it was. `key_log` may be null.
[[nodiscard]] MadeContexts MakeListenerContexts(
    const config::Config& config, const std::vector<ListenerFiles>& files,
    const std::shared_ptr<const tls::TicketKeys>& ticket_keys,
    const std::shared_ptr<const tls::KeyLog>& key_log, const ListenerContexts& before);

}  // namespace gatepost
