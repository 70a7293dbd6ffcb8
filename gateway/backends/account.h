// Which account a client's session uses at the backend.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <tl/expected.hpp>

#include "gateway/backends/directory.h"
#include "protocols/sasl/credentials.h"

namespace gatepost::backends {

// AccountFor returns what to log in with at `pool` for a client with the credentials `own`, whose
// names are normal ones. `user`: who an authority has said the client is; nothing: the backend's
// answer to the client's own credentials, and to no others, is all that is known. The error says
// why there is no account, and is the operator's fault.
[[nodiscard]] tl::expected<sasl::Credentials, std::string> AccountFor(
    const Pool& pool, sasl::Credentials own, std::optional<std::string> user);

}  // namespace gatepost::backends
