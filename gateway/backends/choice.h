// Which member of a pool a login goes to.
//
// Pure: given the same roster and the same knowledge of who is healthy, the same question has the
// same answer, in every replica of the gateway. Called once a login and once for each further try;
// takes no lock and no memory.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "config/schema.h"
#include "gateway/backends/member.h"

namespace gatepost::backends {

struct Question {
  config::Balance balance = config::Balance::kUserHash;
  std::string_view user = {};
  std::span<const uint32_t> tried = {};  // indices that do not come into question any more
  uint64_t turn = 0;                     // kRoundRobin: the number of the login
  uint64_t now_ms = 0;
};

// Choose returns the index in `roster` of the member to try, or nothing where no usable one is
// left.
//
// kUserHash is rendezvous hashing: losing one of n members moves only its own users, about 1/n of
// all, and they spread over the others by weight; a member that comes back gets just these back.
// kLeastSessions takes the member with the fewest sessions and logins for its weight; where several
// have as few, as kUserHash. kRoundRobin goes round, each member as often as its weight says.
[[nodiscard]] std::optional<uint32_t> Choose(const Roster& roster, const Question& question);

}  // namespace gatepost::backends
