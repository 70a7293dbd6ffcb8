// What `gatepost check` as root would not see: whether the user that the process becomes may read
// and write what it must.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "gateway/prepare.h"

namespace gatepost {

// One line each.
struct Rehearsal {
  std::vector<std::string> errors;    // the start would fail
  std::vector<std::string> warnings;  // the start would not, but reloads
};

// Rehearse has a child process become process.user and try what the gateway does as that user: it
// opens the log and makes the control socket, and reads certificates and all the rest again. Empty
// where nothing can be known: without process.user, and for all but root. The process must have no
// threads yet.
[[nodiscard]] Rehearsal Rehearse(const Prepared& prepared);

}  // namespace gatepost
