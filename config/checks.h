// What must hold between keys of a configuration, and between it and the machine.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "config/diagnostics.h"
#include "config/schema.h"

namespace gatepost::config {

// CheckKeys reports keys that contradict each other. A key that has an error of its own is left
// out: one mistake gives one message.
void CheckKeys(const Config& config, Findings& findings);

// Parts of CheckKeys: about [[authority]], [throttle] and [policy].
void CheckAuthorities(const Config& config, Findings& findings);
void CheckThrottle(const Config& config, Findings& findings);
void CheckPolicy(const Policy& policy, Findings& findings);

// CheckMachine reports files that cannot be read and users that do not exist.
void CheckMachine(const Config& config, Findings& findings);

}  // namespace gatepost::config
