// What several backends can all do, from what each of them says.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "protocols/engine.h"

namespace gatepost::backends {

// CommonCapabilities returns the lines of `a` that `b` has, too, in the order of `a`. Of two lines
// that differ behind the same keyword ("SASL PLAIN LOGIN" and "SASL PLAIN") the words that both
// have are kept, of SIZE the smaller limit; nothing, where nothing is common.
[[nodiscard]] protocols::Capabilities CommonCapabilities(const protocols::Capabilities& a,
                                                         const protocols::Capabilities& b);

}  // namespace gatepost::backends
