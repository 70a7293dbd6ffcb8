// SPDX-License-Identifier: Apache-2.0
#include "gateway/backends/reports.h"

#include <optional>

#include "gateway/worker.h"

namespace gatepost::backends {
namespace {

void Tell(Worker& worker, const Pool& pool, const Member& member,
          const std::optional<Health::Change>& change) {
  if (!change) return;
  worker.log().Write(change->up ? observe::Level::kInfo : observe::Level::kWarning,
                     change->up ? "backend_up" : "backend_down",
                     {{"pool", pool.settings().name},
                      {"protocol", protocols::Name(pool.protocol())},
                      {"backend", member.name()},
                      {"cause", change->cause},
                      {"sessions", member.sessions()},
                      {change->up ? "down_ms" : "up_ms", change->lasted_ms}});
}

}  // namespace

void ReportFailure(Worker& worker, const Pool& pool, Member& member, const Failure& failure) {
  const uint64_t now = worker.Now();
  const auto kept_back =
      pool.troubles().Failed(failure.stage, member.address(), failure.cause, now);
  if (kept_back) {
    worker.log().Write(observe::Level::kWarning, "backend_failed",
                       {{"pool", pool.settings().name},
                        {"protocol", protocols::Name(pool.protocol())},
                        {"backend", member.name()},
                        {"cause", failure.cause},
                        {"kept_back", *kept_back},
                        {"detail", failure.detail}});
  }
  if (failure.stage == Stage::kTrust) return;  // it serves
  member.SetProblem(failure.detail);
  Health& health = member.health();
  if (failure.purpose == Purpose::kCheck) {
    Tell(worker, pool, member, health.Checked(failure.sign, failure.cause, now));
  } else if (failure.stage == Stage::kOpening || failure.sign == Health::Sign::kLeaves) {
    Tell(worker, pool, member, health.Met(failure.sign, failure.cause, now));
  } else {
    health.LoginFailed(StableHash(failure.user), now);
  }
}

void ReportSuccess(Worker& worker, const Pool& pool, Member& member, Stage stage, Purpose purpose) {
  const uint64_t now = worker.Now();
  const auto recovery = pool.troubles().Works(stage, member.address(), now);
  if (recovery) {
    worker.log().Write(observe::Level::kInfo, "backend_recovered",
                       {{"pool", pool.settings().name},
                        {"protocol", protocols::Name(pool.protocol())},
                        {"backend", member.name()},
                        {"failures", recovery->failures},
                        {"duration_ms", recovery->lasted_ms}});
  }
  Health& health = member.health();
  if (purpose == Purpose::kCheck) {
    Tell(worker, pool, member, health.Checked(Health::Sign::kWorks, {}, now));
  } else if (stage == Stage::kOpening) {
    Tell(worker, pool, member, health.Met(Health::Sign::kWorks, {}, now));
  } else if (stage == Stage::kLogin) {
    health.LoginAnswered();
  }
}

}  // namespace gatepost::backends
