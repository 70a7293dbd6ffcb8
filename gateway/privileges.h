// What the process may do: descriptors up, core dumps off, root given up after binding.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <tl/expected.hpp>

namespace gatepost {

// RaiseDescriptorLimit lifts RLIMIT_NOFILE to the hard limit and returns the limit in force.
[[nodiscard]] uint64_t RaiseDescriptorLimit();

// ForbidCoreDumps keeps passwords and keys out of core files, and other processes of the same user
// from reading our memory.
void ForbidCoreDumps();

// BecomeUser gives up root for good: groups, ids and all capabilities. Fails with what went wrong.
[[nodiscard]] tl::expected<void, std::string> BecomeUser(const std::string& user);

}  // namespace gatepost
