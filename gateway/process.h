// The process: from a prepared configuration to running workers, through reloads, and back down.
//
// Main thread.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "gateway/prepare.h"

namespace gatepost {

// Serve binds, drops privileges, runs the workers and obeys signals, until one of them has drained
// the last session; returns the exit code.
[[nodiscard]] int Serve(Prepared prepared);

}  // namespace gatepost
