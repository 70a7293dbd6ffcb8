// The process: from a prepared configuration to running workers, through reloads, and back down.
//
// Main thread.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "gateway/prepare.h"

namespace gatepost {

// Serve binds, drops privileges, runs the workers and obeys signals, until one of them has drained
// the last session; returns the exit code. `arguments`: what starts the program anew (SIGUSR2).
[[nodiscard]] int Serve(Prepared prepared, std::vector<std::string> arguments);

}  // namespace gatepost
