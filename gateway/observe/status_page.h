// The status page, status.html, as it is built in.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace gatepost::observe {

// The file; each kNonceMark in it stands for the nonce of the answer's Content-Security-Policy.
extern const std::string_view kStatusPage;
inline constexpr std::string_view kNonceMark = "@NONCE@";

// StatusPage returns the page with its nonce, which holds letters and digits alone.
[[nodiscard]] std::string StatusPage(std::string_view nonce);

// MayAsk tells whether a browser that sent this Host header may be shown the page and its figures:
// an address, localhost or our own name. A foreign name that leads here is how a foreign page would
// get at them (DNS rebinding).
[[nodiscard]] bool MayAsk(std::string_view host, std::string_view hostname);

}  // namespace gatepost::observe
