// What a session tells an authority of its client, and what it notes of the answer.
// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "gateway/auth/chain.h"
#include "gateway/auth/user_names.h"
#include "gateway/backends/account.h"
#include "gateway/session/login.h"
#include "gateway/session/session.h"
#include "gateway/worker.h"
#include "tls/client_verifier.h"

namespace gatepost::session {

Session::Wait Session::BeginAuthority() {
  login_->asked_ns = uv_hrtime();
  login_->verdict = AskAuthority(*login_->credentials);
  return Enter(Phase::kAuthenticating);
}

std::optional<auth::Verdict> Session::AskAuthority(
    const sasl::Credentials& credentials, const protocols::RelayScanner::Recipient* recipient) {
  const std::string id = worker_.IdText(id_);
  const net::Address own = client_->LocalAddress();
  const net::Address& local = proxied_ ? proxied_->destination : own;
  tls::Facts facts;
  auth::Request request{.id = id_,
                        .credentials = credentials,
                        .protocol = listener_.protocol,
                        .listener = listener_.settings,
                        .client = client_address_,
                        .local = local,
                        .proxied = proxied_ != nullptr,
                        .real_client = proxied_ ? &proxied_->proxy : nullptr,
                        .real_local = proxied_ ? &own : nullptr,
                        .session = id,
                        .client_name = login_ ? login_->server->client_name() : std::string_view(),
                        .challenge = credentials.mechanism == sasl::Mechanism::kApop
                                         ? std::string_view(login_->challenge)
                                         : std::string_view(),
                        .recipient = recipient,
                        .attempt = recipient != nullptr
                                       ? recipient->number
                                       : uint32_t{failed_logins_} + deferred_logins_ + 1};
  if (client_->channel() != nullptr && client_->channel()->established()) {
    facts = client_->channel()->facts();
    request.tls = &facts;
    request.certificate = certificate_.get();
  }
  return worker_.authenticator().Check(request);
}

tl::expected<sasl::Credentials, std::string> Session::ChooseAccount(auth::Verdict& verdict) {
  login_->own_wish = false;
  if (verdict.backend_credentials) return *std::move(verdict.backend_credentials);
  sasl::Credentials own = *std::move(login_->credentials);
  login_->own_wish = pool_->settings().login == config::BackendLogin::kSame &&
                     !own.authorization_identity.empty() && !sasl::kPasswordless.Has(own.mechanism);
  if (verdict.backend_decides) return backends::AccountFor(*pool_, std::move(own), std::nullopt);
  std::string user = std::move(verdict.backend_user);
  if (user.empty()) user = std::move(verdict.user);
  if (user.empty()) user = own.authentication_identity;
  if (verdict.backend_password) {
    return sasl::Credentials{sasl::Mechanism::kPlain,
                             {},
                             auth::BackendUser(pool_->settings().backend_user, user),
                             *std::move(verdict.backend_password)};
  }
  return backends::AccountFor(*pool_, std::move(own), std::move(user));
}

void Session::NoteAuthority(const auth::Verdict& verdict) {
  login_->authority = verdict.authority;
  login_->message = verdict.message;
  login_->wait_ms = static_cast<uint64_t>(std::chrono::milliseconds(verdict.wait).count());
  login_->end_session = verdict.end_session;
  login_->backend_decides = verdict.backend_decides;
  if (verdict.authority == nullptr || verdict.backend_decides) return;
  verdict.authority->Observe(worker_.shard(), auth::OutcomeOf(verdict),
                             static_cast<double>(uv_hrtime() - login_->asked_ns) / 1e9);
}

void Session::NoteBackendVerdict(const Login& login, auth::Outcome outcome) {
  if (login.authority == nullptr || !login.backend_decides) return;
  login.authority->Count(worker_.shard(), outcome);
}

void Session::ForgetAuthority() {
  if (std::exchange(asked_, false)) return worker_.authenticator().Cancel(id_);
  if (phase_ == Phase::kPolicy && !login_->decision) worker_.policy()->Cancel(id_);
  if ((phase_ == Phase::kAuthenticating || AuthorityAsks()) && !login_->verdict) {
    worker_.authenticator().Cancel(id_);
  }
}

}  // namespace gatepost::session
