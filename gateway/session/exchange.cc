// Exchanges with the client that go through us: the authority or the backend asks, the client
// answers.
//
// The phase stands between two of Authenticating or between two of BackendLogin; the client's part
// is the dialogue's (RFC 4422 §3.4: it answers or cancels). What is passed on is bounded by the
// limits of both engines, and the whole by limits.login_timeout.
// SPDX-License-Identifier: Apache-2.0
#include "gateway/auth/chain.h"
#include "gateway/session/login.h"
#include "gateway/session/session.h"
#include "gateway/worker.h"
#include "protocols/backend_login.h"

namespace gatepost::session {

// MechanismsOfBackends is what is known of the pool's backends. Those that log everybody in as
// themselves, with the client's own credentials, can judge more than passwords, and need them.
auth::BackendMechanisms Session::MechanismsOfBackends() const {
  using sasl::Mechanism;
  const backends::Pool& pool = *listener_.pool;
  const config::Pool& settings = pool.settings();
  if (settings.login != config::BackendLogin::kSame) return {{}, sasl::MechanismSet::All()};
  auth::BackendMechanisms possible;
  possible.served = {Mechanism::kPlain, Mechanism::kLogin, Mechanism::kProtocol};
  if (settings.master_user) {
    possible.served = possible.served | sasl::kPasswordless;
  }
  const auto capabilities = pool.capabilities();
  if (!capabilities) return possible;
  sasl::Credentials token;
  token.mechanism = Mechanism::kOauthbearer;
  const auto mechanism = protocols::MechanismFor(
      token, backends::FromConfig(settings.login_mechanism), *capabilities, false);
  if (mechanism && sasl::IsToken(*mechanism)) {
    // The same token does for both.
    possible.judged = {Mechanism::kXoauth2, Mechanism::kOauthbearer};
    possible.served = possible.served | possible.judged;
  }
  if (settings.login_mechanism != config::LoginMechanism::kAuto) return possible;
  // Relayed as they are: with "-PLUS" they would vouch for a channel that ends here.
  for (const Mechanism relayed : {Mechanism::kScramSha1, Mechanism::kScramSha256}) {
    if (protocols::OffersMechanism(*capabilities, relayed)) possible.judged.Add(relayed);
  }
  return possible;
}

sasl::MechanismSet Session::OfferedMechanisms() const {
  return worker_.authenticator().MechanismsAt(listener_.settings, MechanismsOfBackends()) &
         listener_.mechanisms;
}

// BeginExchange passes a challenge to the client. Where it is a backend's, the login is that
// backend's from here on.
Session::Wait Session::BeginExchange(std::string_view challenge) {
  if (backend_) {
    if (!login_->server) {  // a login anew, in the middle of the relay: the client can't be asked
      return Fail(protocols::LoginFailure::kUnavailable, "the backend has questions");
    }
    login_->exchanged = true;
    backend_->PauseReading();  // it is not its turn, and nobody would consume what it says
  }
  login_->server->Challenge(challenge, login_->output);
  FlushToClient();
  return Enter(Phase::kExchange);
}

Session::Wait Session::GiveAnswer(std::string_view answer) {
  if (answer.size() > sasl::kMaxPasswordBytes) {
    ForgetAuthority();
    return RefuseTooLong();
  }
  if (!backend_) {
    // It may have its verdict without the answer: Dovecot does not wait for ever.
    if (!login_->verdict) worker_.authenticator().Continue(id_, answer);
    return Enter(Phase::kAuthenticating);
  }
  login_->client->Answer(answer);
  backend_->ResumeReading();
  return Enter(Phase::kBackendLogin);
}

// CancelExchange forgets the other side: closing a backend's connection is the same in all
// protocols.
Session::Wait Session::CancelExchange() {
  ForgetAuthority();
  DropBackend();
  login_->credentials.reset();
  login_->verdict.reset();
  return Enter(Phase::kDialogue);
}

}  // namespace gatepost::session
