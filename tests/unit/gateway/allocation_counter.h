// Counts what this process allocates, BoringSSL included: malloc and its kin are replaced in
// gateway_test (allocation_counter.cc), but not under sanitizers, which have their own.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace gatepost::test {

// Allocations returns how often memory was asked for since the start; 0 always under sanitizers.
[[nodiscard]] uint64_t Allocations();

// CountsAllocations says whether Allocations() means anything.
[[nodiscard]] bool CountsAllocations();

}  // namespace gatepost::test
