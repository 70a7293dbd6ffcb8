// Exchanges with the client that go through us: the backend asks, the client answers.
//
// The phase stands between two of BackendLogin; the client's part is the dialogue's (RFC 4422 §3.4:
// it answers or cancels). What is passed on is bounded by the limits of both
// engines, and the whole by limits.login_timeout.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "gateway/session/login.h"
#include "gateway/session/session.h"
#include "gateway/worker.h"
#include "protocols/backend_login.h"

namespace gatepost::session {

// OfferedMechanisms is what a client may log in with here. A token can be judged by the backend
// alone, so that it needs one which takes the client's own credentials, and tokens.
sasl::MechanismSet Session::OfferedMechanisms() const {
  using sasl::Mechanism;
  sasl::MechanismSet offered;
  const auto offer = [&](Mechanism mechanism) {
    if (listener_.mechanisms.Has(mechanism)) offered.Add(mechanism);
  };
  offer(Mechanism::kPlain);
  offer(Mechanism::kLogin);
  offer(Mechanism::kExternal);
  offer(Mechanism::kProtocol);
  const auto& authorities = worker_.runtime().config.authorities;
  if (std::none_of(authorities.begin(), authorities.end(), [&](const config::Authority& authority) {
        return authority.kind == config::AuthorityKind::kBackend &&
               config::MayDecide(authority, listener_.settings);
      })) {
    return offered;
  }
  const backends::Pool& pool = *listener_.pool;
  sasl::Credentials token;
  token.mechanism = Mechanism::kOauthbearer;
  const auto capabilities = pool.capabilities();
  if (!capabilities || pool.settings().login != config::BackendLogin::kSame) return offered;
  const auto mechanism = protocols::MechanismFor(
      token, backends::FromConfig(pool.settings().login_mechanism), *capabilities, false);
  if (mechanism && sasl::IsToken(*mechanism)) {
    // The same token does for both.
    offer(Mechanism::kXoauth2);
    offer(Mechanism::kOauthbearer);
  }
  if (pool.settings().login_mechanism != config::LoginMechanism::kAuto) return offered;
  // Relayed as they are: with "-PLUS" they would vouch for a channel that ends here.
  for (const Mechanism relayed : {Mechanism::kScramSha1, Mechanism::kScramSha256}) {
    if (protocols::OffersMechanism(*capabilities, relayed)) offer(relayed);
  }
  return offered;
}

// BeginExchange passes a challenge to the client. From here on the login is this backend's.
Session::Wait Session::BeginExchange(std::string_view challenge) {
  if (!login_->server) {  // a login anew, in the middle of the relay: the client can't be asked
    return Fail(protocols::LoginFailure::kUnavailable, "the backend has questions");
  }
  login_->exchanged = true;
  backend_->PauseReading();  // it is not its turn, and nobody would consume what it says
  login_->server->Challenge(challenge, login_->output);
  FlushToClient();
  return Enter(Phase::kExchange);
}

Session::Wait Session::GiveAnswer(std::string_view answer) {
  login_->client->Answer(answer);
  backend_->ResumeReading();
  return Enter(Phase::kBackendLogin);
}

// CancelExchange forgets the backend's side: closing it is the same in all protocols.
Session::Wait Session::CancelExchange() {
  DropBackend();
  login_->credentials.reset();
  return Enter(Phase::kDialogue);
}

}  // namespace gatepost::session
