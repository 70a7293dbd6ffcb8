// Limits that look at who the client is: failed logins (auth/throttle) and sessions of one user.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "gateway/session/login.h"
#include "gateway/session/session.h"
#include "gateway/worker.h"

namespace gatepost::session {
namespace {

constexpr uint64_t kMaxPenaltyMs = 15'000;

}  // namespace

std::optional<auth::Throttle::Scope> Session::ThrottledBy(
    const sasl::Credentials& credentials) const {
  // A certificate can't be guessed.
  if (credentials.mechanism == sasl::Mechanism::kExternal) return std::nullopt;
  return worker_.runtime().throttle->Refuses(client_address_, login_->named, Now());
}

// RefuseThrottled says so without a line for each: the one that began the refusal is in the log.
Session::Wait Session::RefuseThrottled(auth::Throttle::Scope scope) {
  ++deferred_logins_;
  CountAuth(AuthResult::kLimited);
  worker_.shard().Add(worker_.runtime().throttled[static_cast<size_t>(scope)]);
  login_->failure = protocols::LoginFailure::kRateLimited;
  worker_.shard().Add(listener_.series->auth_failures[static_cast<size_t>(login_->failure)]);
  worker_.log().Write(observe::Level::kDebug, "login_throttled",
                      {{"id", worker_.IdText(id_)},
                       {"listener", listener_.settings.name},
                       {"protocol", protocols::Name(listener_.protocol)},
                       {"client", client_address_.Host()},
                       {"user", user_},
                       {"scope", auth::Name(scope)}});
  login_->penalty_ms =
      static_cast<uint64_t>(worker_.runtime().config.limits.failed_login_delay.count());
  return Enter(Phase::kPenalty);
}

// RefuseTooLong has nobody see what no user has: backends hang up on it, which is no outage.
Session::Wait Session::RefuseTooLong() {
  return Fail(protocols::LoginFailure::kBadCredentials, "credentials too long");
}

uint64_t Session::PenaltyFor(protocols::LoginFailure reason) {
  Runtime& runtime = worker_.runtime();
  uint32_t failures = std::max<uint32_t>(failed_logins_, 1);
  const bool guess = reason == protocols::LoginFailure::kBadCredentials &&
                     mechanism_ != sasl::Mechanism::kExternal;
  if (guess) {
    const std::string_view secret =
        login_->credentials ? login_->credentials->password.Reveal() : std::string_view();
    const auto failure = runtime.throttle->Failed(client_address_, login_->named, secret, Now());
    failures = std::max(failures, failure.weight);
    for (const auth::Throttle::Scope scope : failure.begun) {
      worker_.log().Write(observe::Level::kWarning, "ban",
                          {{"scope", auth::Name(scope)},
                           {"client", client_address_.Host()},
                           {"user", user_},
                           {"protocol", protocols::Name(listener_.protocol)},
                           {"listener", listener_.settings.name},
                           {"failures", runtime.throttle->limit(scope)},
                           {"for_ms", runtime.config.throttle.half_life.count()}});
    }
  }
  const auto first = static_cast<uint64_t>(runtime.config.limits.failed_login_delay.count());
  return std::min(first << std::min<uint32_t>(failures - 1, 10), kMaxPenaltyMs);
}

bool Session::AdmitUser() {
  Runtime& runtime = worker_.runtime();
  if (mechanism_ != sasl::Mechanism::kExternal) {
    runtime.throttle->Succeeded(client_address_, login_->named, Now());
  }
  const uint32_t most = runtime.config.limits.max_sessions_per_user;
  if (most == 0) return true;
  user_counted_ = runtime.user_sessions->Add(auth::UserKey(user_), most);
  return user_counted_;
}

void Session::ReleaseUser() {
  if (user_counted_) worker_.runtime().user_sessions->Remove(auth::UserKey(user_));
  user_counted_ = false;
}

}  // namespace gatepost::session
