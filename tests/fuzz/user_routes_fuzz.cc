// The file that says where users live: never a crash, errors for each bad line, and what was taken
// is found again.
// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "gateway/backends/routes.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using gatepost::backends::UserRoutes;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto routes = UserRoutes::Parse(text, "f", {"stores", "new"});
  if (!routes) {
    if (routes.error().empty()) std::abort();
    return 0;
  }
  // The first line, where it names a user.
  if (text.find_first_not_of("# \r\n") != 0) return 0;
  const std::string user(text.substr(0, text.find_first_of(" \n")));
  const auto* found = (*routes)->Find(user);
  if (found == nullptr) std::abort();
  if (found->pool.empty() && !found->backend) std::abort();
  return 0;
}
