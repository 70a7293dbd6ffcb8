// What a session asks the policy service before anybody is asked about a login, and what it tells
// it of the outcome.
// SPDX-License-Identifier: Apache-2.0
#include "gateway/auth/policy.h"

#include "gateway/session/login.h"
#include "gateway/session/session.h"
#include "gateway/worker.h"
#include "protocols/imap/quoted.h"
#include "protocols/introduction.h"

namespace gatepost::session {
namespace {

// What an IMAP client says of itself, as Dovecot's client_id has it.
std::string DeviceOf(const protocols::Introduction* introduction) {
  protocols::Buffer device;
  if (introduction != nullptr) imap::AppendIdPairs(introduction->id, device);
  return std::string(device.view());
}

}  // namespace

Session::Wait Session::BeginPolicy() {
  auth::Policy* const policy = worker_.policy();
  if (policy == nullptr) return login_->verdict ? BeginBackend() : BeginAuthority();
  const auth::PolicyRuntime& service = policy->service();
  const sasl::Credentials& credentials = *login_->credentials;
  // Where the client only proves that it knows its password, nobody here does.
  const bool told = !sasl::IsRelayed(credentials.mechanism);
  const std::string& named = login_->verdict ? login_->named : credentials.authentication_identity;
  login_->policy = std::make_unique<auth::PolicyCase>(auth::PolicyCase{
      .login = named,
      .password_hash = auth::PasswordHash(service.nonce.Reveal(), named,
                                          told ? credentials.password.Reveal() : std::string_view(),
                                          service.settings.hash_bits),
      .remote = client_address_.Host(),
      .protocol = protocols::Name(listener_.protocol),
      .session = worker_.IdText(id_),
      .device = DeviceOf(login_->server->introduction()),
      .tls = client_->channel() != nullptr && client_->channel()->established()});
  login_->decision.reset();
  (void)Enter(Phase::kPolicy);
  if (auto decision = policy->Ask(id_, *login_->policy)) NoteDecision(*std::move(decision));
  return Wait::kNothing;
}

void Session::OnPolicy(auth::Policy::Decision decision) {
  if (phase_ != Phase::kPolicy) return;
  (void)Enter(Phase::kPolicy);  // a delay counts from here
  NoteDecision(std::move(decision));
  Advance();
}

void Session::NoteDecision(auth::Policy::Decision decision) {
  using auth::PolicyResult;
  const config::Policy& settings = worker_.policy()->service().settings;
  const bool asks =
      decision.result == PolicyResult::kDelay || decision.result == PolicyResult::kRefuse;
  if (decision.result == PolicyResult::kDelay || (asks && settings.log_only)) {
    worker_.log().Write(observe::Level::kInfo, "login_policy",
                        {{"id", worker_.IdText(id_)},
                         {"listener", listener_.settings.name},
                         {"protocol", protocols::Name(listener_.protocol)},
                         {"client", client_address_.Host()},
                         {"user", user_},
                         {"result", auth::Name(decision.result)},
                         {"delay_ms", decision.delay.count()},
                         {"ignored", settings.log_only ? "yes" : ""},
                         {"detail", decision.detail}});
  }
  if (asks && settings.log_only) decision = {};
  login_->decision = std::move(decision);
}

// The client hears of the service nothing but a refusal or, where that is wanted, of its outage.
Session::Wait Session::DoPolicy() {
  using auth::PolicyResult;
  if (client_->failed()) return Close(CloseReason::kClientGone);
  if (!login_->decision) return Wait::kPolicy;
  const auth::Policy::Decision& decision = *login_->decision;
  switch (decision.result) {
    case PolicyResult::kRefuse:
      return Fail(protocols::LoginFailure::kPolicy, "the policy service said: " + decision.detail);
    case PolicyResult::kError:
    case PolicyResult::kTimeout:
    case PolicyResult::kDropped:
      if (!worker_.policy()->service().settings.reject_on_failure) break;
      return Fail(protocols::LoginFailure::kUnavailable, decision.detail);
    case PolicyResult::kDelay:
      if (!expired_) return Wait::kPolicy;
      break;
    case PolicyResult::kOk:
    case PolicyResult::kCount:
      break;
  }
  return login_->verdict ? BeginBackend() : BeginAuthority();
}

void Session::ReportToPolicy(const Login& login, std::optional<protocols::LoginFailure> failure) {
  if (login.policy) worker_.policy()->Report(*login.policy, failure);
}

}  // namespace gatepost::session
