// Files that hold one secret.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <tl/expected.hpp>

#include "protocols/sasl/credentials.h"

namespace gatepost {

// ReadSecret returns the first line of `file`, which is not empty, or in one line what is wrong
// with it. No copy of it stays behind.
[[nodiscard]] tl::expected<sasl::Secret, std::string> ReadSecret(const std::filesystem::path& file);

}  // namespace gatepost
