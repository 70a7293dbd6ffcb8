// SPDX-License-Identifier: Apache-2.0
#include "gateway/auth/challenge.h"

#include <fmt/core.h>
#include <sys/random.h>

#include <cstdint>
#include <ctime>

namespace gatepost::auth {

std::string NewChallenge(std::string_view host) {
  uint64_t random = 0;
  if (getrandom(&random, sizeof(random), 0) != static_cast<ssize_t>(sizeof(random))) return {};
  return fmt::format("<{}.{}@{}>", random, std::time(nullptr), host);
}

}  // namespace gatepost::auth
