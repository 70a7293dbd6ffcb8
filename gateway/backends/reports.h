// How attempts to use a member went: into its health, its pool's troubles and the log.
//
// On the worker's thread.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

#include "gateway/backends/directory.h"
#include "gateway/backends/health.h"
#include "gateway/backends/member.h"
#include "gateway/backends/troubles.h"

namespace gatepost {
class Worker;
}

namespace gatepost::backends {

// What a connection is made for.
enum class Purpose : uint8_t { kLogin, kCheck };

struct Failure {
  Stage stage;
  Purpose purpose;
  Health::Sign sign;
  std::string_view cause;   // one word
  std::string_view detail;  // one line, without secrets
  std::string_view user;    // at Stage::kLogin
};

// ReportFailure notes a failure, and writes `event=backend_failed` and `event=backend_down` where
// they are news.
void ReportFailure(Worker& worker, const Pool& pool, Member& member, const Failure& failure);

// ReportSuccess notes that a stage went well, and writes `event=backend_recovered` and
// `event=backend_up` where they are news.
void ReportSuccess(Worker& worker, const Pool& pool, Member& member, Stage stage, Purpose purpose);

}  // namespace gatepost::backends
