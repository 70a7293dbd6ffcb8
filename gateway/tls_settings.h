// A listener's TLS keys in the terms of tls/, with errors at the place of the key.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "config/schema.h"
#include "tls/profile.h"

namespace gatepost {

[[nodiscard]] tls::Profile FromConfig(config::TlsProfile profile);
[[nodiscard]] tls::OfferSettings OfferSettingsOf(const config::Listener& listener);

// At returns "FILE:LINE:COLUMN: ", the beginning of an error's line.
[[nodiscard]] std::string At(const std::string& file, const config::Place& place);

// CheckOffer returns what is wrong with the listener's tls_ keys, each "FILE:LINE:COLUMN: what";
// `path` is what the listener is called in messages, "listener[1]".
[[nodiscard]] std::vector<std::string> CheckOffer(const config::Listener& listener,
                                                  const std::string& path, const std::string& file);

}  // namespace gatepost
