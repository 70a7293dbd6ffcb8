// SPDX-License-Identifier: Apache-2.0
//
// The phases stand below in the order in which they happen. A Do… function either enters another
// phase (Wait::kNothing) or says what the session waits for; every wake-up ends in Advance().
#include "gateway/session/session.h"

#include <algorithm>
#include <cassert>
#include <ctime>
#include <utility>

#include "gateway/auth/challenge.h"
#include "gateway/auth/user_names.h"
#include "gateway/backends/choice.h"
#include "gateway/session/login.h"
#include "gateway/worker.h"
#include "protocols/engines.h"
#include "protocols/sasl/mechanisms.h"

namespace gatepost::session {
namespace {

using net::Stream;
using protocols::LoginFailure;
using protocols::Notice;

constexpr size_t kMaxPipelinedBytes =
    size_t{64} * 1024;                      // read ahead of a login; the rest stays in the socket
constexpr uint64_t kHalfClosedMs = 60'000;  // for a backend to finish once the client has ended
constexpr uint64_t kVerdictMs = 600'000;    // for a backend to take a message: RFC 5321 §4.5.3.2.6
constexpr uint64_t kTellBackendMs = 2'000;  // of silence before a TLS backend learns that
constexpr uint64_t kFlushMs = 10'000;       // for a client to take its last bytes
constexpr uint64_t kLingerMs = 2'000;       // for its FIN, so that our last reply is not reset away
constexpr uint32_t kDeferredPerFailed = 4;  // outages are not the client's fault, but have an end
constexpr size_t kMaxLoggedUserBytes = 255;

template <typename... Ts>
struct Overloaded : Ts... {
  using Ts::operator()...;
};
template <typename... Ts>
Overloaded(Ts...) -> Overloaded<Ts...>;

AuthResult ResultOf(LoginFailure failure) {
  switch (failure) {
    case LoginFailure::kUnavailable:
    case LoginFailure::kBackendMisconfigured:
      return AuthResult::kTempFail;
    case LoginFailure::kTooManyConnections:
    case LoginFailure::kRateLimited:
      return AuthResult::kLimited;
    case LoginFailure::kBadCredentials:
    case LoginFailure::kAuthorizationDenied:
    case LoginFailure::kAccountDisabled:
    case LoginFailure::kPasswordExpired:
    case LoginFailure::kPolicy:
    case LoginFailure::kCount:
      break;
  }
  return AuthResult::kFailed;
}

// Not the client's fault: no penalty, no word to fail2ban.
bool IsTemporary(LoginFailure failure) {
  return ResultOf(failure) != AuthResult::kFailed;
}

// The backend sees the same account, or none, whoever the client is.
bool IsOneForAll(config::BackendLogin login) {
  return login == config::BackendLogin::kNone || login == config::BackendLogin::kFixed;
}

}  // namespace

Session::Session(Worker& worker, auth::SessionId id, const ListenerRuntime& listener,
                 const net::Address& client, net::HandlePtr<uv_tcp_t> connection)
    : worker_(worker),
      listener_(listener),
      id_(id),
      identified_(listener.KnowsClient(client)),
      client_address_(client),
      accepted_ms_(worker.Now()),
      phase_started_ms_(accepted_ms_),
      last_activity_ms_(accepted_ms_),
      client_(std::make_unique<Stream>(worker.io(), std::move(connection), *this)) {}

Session::~Session() {
  SetMember(nullptr);
}

void Session::Begin() {
  if (listener_.settings.proxy_protocol == config::ProxyProtocol::kOff) {
    (void)BeginClient();
  } else {
    BeginProxyHeader();
  }
  client_->ResumeReading();
  ArmDeadline();
}

Session::Wait Session::BeginClient() {
  if (listener_.settings.tls == config::ListenerTls::kImplicit) {
    tls_mode_ = TlsMode::kImplicit;
    client_->StartTls(worker_.Tls(listener_));
    return Enter(Phase::kClientTls);
  }
  StartServerEngine({});
  return Enter(Phase::kDialogue);
}

// ---- wake-ups
// ------------------------------------------------------------------------------------

void Session::OnPlaintext(Stream& stream, net::Bytes plaintext) {
  const bool from_client = &stream == client_.get();
  if (phase_ == Phase::kRelaying) {
    last_activity_ms_ = Now();
    from_client ? RelayIn(plaintext) : RelayOut(plaintext);
    if (relay_->scanner() != nullptr || relay_->state() != Relay::State::kRunning) Advance(false);
    return;
  }
  if (phase_ >= Phase::kClosing) return;  // lingering: what the client still says is dropped
  if (relay_ && from_client) return RelayIn(plaintext);
  if (from_client) {
    login_->client_input.Append(net::AsText(plaintext));
    if (phase_ != Phase::kDialogue && phase_ != Phase::kProxyHeader && phase_ != Phase::kExchange) {
      if (login_->client_input.size() > kMaxPipelinedBytes) client_->PauseReading();
      return;
    }
  } else {
    login_->backend_input.Append(net::AsText(plaintext));
  }
  Advance();
}

void Session::RelayIn(net::Bytes plaintext) {
  relayed_in_ += plaintext.size();
  worker_.shard().Add(listener_.series->bytes_in, plaintext.size());
  relay_->FromClient(plaintext);
}

void Session::RelayOut(net::Bytes plaintext) {
  relayed_out_ += plaintext.size();
  worker_.shard().Add(listener_.series->bytes_out, plaintext.size());
  relay_->FromBackend(plaintext);
}

void Session::OnStreamEvent(Stream& stream, Stream::Event event) {
  if (relay_ && phase_ < Phase::kClosing) {
    if (&stream == client_.get()) {
      relay_->OnClientEvent(event);
    } else if (phase_ == Phase::kRelaying) {
      relay_->OnBackendEvent(event);
    }
  }
  Advance();
}

void Session::OnDeadline() {
  expired_ = true;
  Advance();
}

void Session::OnOpened(backends::Opening&) {
  if (phase_ == Phase::kConnecting) return Advance();
  // One that was begun early: it waits, or the login will open another.
  if (login_->opening->state() != backends::Opening::State::kReady) EndEarly(false);
}

void Session::OnVerdict(auth::Verdict verdict) {
  if (asked_ && phase_ == Phase::kRelaying) {
    JudgeRecipient(verdict);
    return Advance();
  }
  if (phase_ != Phase::kAuthenticating && !AuthorityAsks()) return;
  login_->verdict = std::move(verdict);
  // To a client that has been asked something nothing can be said before it has answered.
  if (phase_ == Phase::kAuthenticating) Advance();
}

void Session::OnChallenge(std::string_view challenge) {
  if (phase_ != Phase::kAuthenticating) return;
  (void)BeginExchange(challenge);
  Advance();
}

void Session::Advance(bool arm) {
  const Phase before = phase_;
  Wait wait;
  do {
    wait = Step();
  } while (wait == Wait::kNothing);
  if (wait != Wait::kNever && (arm || phase_ != before)) ArmDeadline();
}

Session::Wait Session::Step() {
  if (!relay_ && phase_ < Phase::kClosing && PreloginLeft() == 0) {
    if (phase_ == Phase::kProxyHeader) return RefuseProxyHeader(ProxyHeaderResult::kTimeout, 0);
    if (phase_ == Phase::kClientTls) {
      CountTlsFailure(true);
      return Close(CloseReason::kTlsTimeout);
    }
    Say(Notice::kLoginTimeout);
    return Close(CloseReason::kLoginTimeout);
  }
  switch (phase_) {
    case Phase::kProxyHeader:
      return DoProxyHeader();
    case Phase::kClientTls:
      return DoClientTls();
    case Phase::kDialogue:
    case Phase::kExchange:
      return DoDialogue();
    case Phase::kPolicy:
      return DoPolicy();
    case Phase::kAuthenticating:
      return DoAuthenticating();
    case Phase::kPenalty:
      return DoPenalty();
    case Phase::kConnecting:
      return DoConnecting();
    case Phase::kBackendLogin:
      return DoBackendLogin();
    case Phase::kRelaying:
      return DoRelaying();
    case Phase::kClosing:
      return DoClosing();
    case Phase::kClosed:
      break;
  }
  return Wait::kNever;
}

Session::Wait Session::Enter(Phase phase) {
  phase_ = phase;
  phase_started_ms_ = Now();
  expired_ = false;
  return Wait::kNothing;
}

// ArmDeadline sets the one deadline of the wait in which the session is.
void Session::ArmDeadline() {
  const auto left = [&](uint64_t whole_ms, uint64_t since_ms) {
    const uint64_t passed = Now() - since_ms;
    return passed < whole_ms ? whole_ms - passed : 0;
  };
  const auto milliseconds = [](std::chrono::milliseconds duration) {
    return static_cast<uint64_t>(duration.count());
  };
  const config::Limits& limits = worker_.runtime().config.limits;
  uint64_t delay = relay_ ? UINT32_MAX : PreloginLeft();
  switch (phase_) {
    case Phase::kProxyHeader:
      delay = std::min(delay, left(milliseconds(limits.proxy_header_timeout), phase_started_ms_));
      break;
    case Phase::kClientTls:
      delay = std::min(delay, left(milliseconds(limits.tls_handshake_timeout), phase_started_ms_));
      break;
    case Phase::kDialogue:
    case Phase::kAuthenticating:
    case Phase::kConnecting:
    case Phase::kExchange:
      break;
    case Phase::kPolicy:
      if (login_->decision) {
        delay = std::min(delay, left(milliseconds(login_->decision->delay), phase_started_ms_));
      }
      break;
    case Phase::kPenalty:
      delay = std::min(delay, left(login_->penalty_ms, phase_started_ms_));
      break;
    case Phase::kBackendLogin:
      delay =
          std::min(delay, left(milliseconds(pool_->settings().login_timeout), phase_started_ms_));
      break;
    case Phase::kRelaying:
      // While a backend takes its time, the silence that begins with its answer is of other length.
      delay = std::min(left(RelayTimeout(), last_activity_ms_), IdleTimeout());
      if (ending_ != CloseReason::kNone) {
        delay = std::min(delay, end_at_ms_ > Now() ? end_at_ms_ - Now() : 1000);
      }
      break;
    case Phase::kClosing:
      delay = left(client_->unsent() > 0 ? kFlushMs : kLingerMs, phase_started_ms_);
      break;
    case Phase::kClosed:
      return;
  }
  worker_.deadlines().Arm(*this, delay);
}

// ---- the phases
// ----------------------------------------------------------------------------------

// RFC 8314 §3; after STARTTLS: RFC 3207 §4, RFC 9051 §6.2.1, RFC 2595 §4.
Session::Wait Session::DoClientTls() {
  if (client_->failed()) {
    CountTlsFailure(false);
    detail_ = client_->error();
    return Close(CloseReason::kTlsFailed);
  }
  if (!client_->channel()->established()) {
    if (!expired_) return Wait::kClient;
    CountTlsFailure(true);
    return Close(CloseReason::kTlsTimeout);
  }
  CountTls();
  std::string external_identity = IdentifyClient();
  if (tls_mode_ == TlsMode::kImplicit) {
    StartServerEngine(std::move(external_identity));
  } else {
    worker_.shard().Add(listener_.series->starttls_ok);
    login_->server->TlsStarted(std::move(external_identity));
  }
  OpenEarly();
  return Enter(Phase::kDialogue);
}

// StartServerEngine makes the engine that faces the client, and greets.
void Session::StartServerEngine(std::string external_identity) {
  const config::Config& config = worker_.runtime().config;
  const config::Limits& limits = config.limits;
  protocols::ServerFacts facts;
  facts.hostname = config.hostname;
  facts.tls_active = tls_mode_ == TlsMode::kImplicit;
  facts.starttls_offered = !facts.tls_active;
  facts.cleartext_login_allowed =
      listener_.settings.cleartext_login == config::CleartextLogin::kAllow;
  facts.mechanisms = OfferedMechanisms();
  facts.external_identity = std::move(external_identity);
  facts.trusted_proxy = !identified_;
  facts.backend_capabilities = listener_.pool->capabilities();
  if (listener_.inbound_pool != nullptr) {
    facts.local_domains = listener_.local_domains;
    facts.judges_recipients = listener_.settings.inbound_authority.has_value();
    facts.backend_capabilities = InboundCapabilities();
  }
  facts.keep_id =
      listener_.pool->settings().forward_client_address == config::ForwardClientAddress::kNative;
  facts.bare_newline = listener_.settings.bare_newline == config::BareNewline::kNormalize
                           ? protocols::BareNewline::kNormalize
                           : protocols::BareNewline::kReject;
  facts.limits.max_line_bytes = limits.max_line_bytes;
  facts.limits.max_literal_bytes = limits.max_literal_bytes;
  facts.limits.max_bad_commands = limits.max_bad_commands;
  login_ = std::make_unique<Login>();
  if (listener_.protocol == protocols::Protocol::kPop3 &&
      facts.mechanisms.Has(sasl::Mechanism::kApop)) {
    login_->challenge = auth::NewChallenge(config.hostname);
    facts.apop_timestamp = login_->challenge;
  }
  login_->server = protocols::MakeServerEngine(listener_.protocol, std::move(facts));
  login_->server->Greet(login_->output);
  FlushToClient();
}

// Greeting, capabilities, STARTTLS, login: the engine knows, we obey.
Session::Wait Session::DoDialogue() {
  if (client_->failed()) return Close(CloseReason::kClientGone);
  protocols::ServerAction action = login_->server->Next(login_->client_input, login_->output);
  FlushToClient();
  return std::visit(
      Overloaded{[&](protocols::NeedInput&) {
                   if (client_->ended()) return Close(CloseReason::kClientGone);
                   if (client_->unsent() > 0) {
                     client_->PauseReading();  // it asks and does not listen
                   } else {
                     client_->ResumeReading();
                   }
                   return Wait::kClient;
                 },
                 [&](protocols::StartTls&) { return BeginStartTls(); },
                 [&](protocols::Authenticate& authenticate) {
                   return BeginAuthentication(std::move(authenticate.credentials));
                 },
                 [&](protocols::Answer& answer) { return GiveAnswer(answer.message.Reveal()); },
                 [&](protocols::Cancelled&) { return CancelExchange(); },
                 [&](protocols::Inbound&) { return BeginInbound(); },
                 [&](protocols::Quit& quit) {
                   if (quit.reason == protocols::QuitReason::kCommandInjection) {
                     worker_.shard().Add(listener_.series->starttls_injection);
                   }
                   CountForeign(quit.reason);
                   return Close(FromQuit(quit.reason));
                 }},
      action);
}

Session::Wait Session::BeginStartTls() {
  login_->client_input.Clear();  // the engine made sure that nothing stands behind the command
  tls_mode_ = TlsMode::kStartTls;
  client_->StartTls(worker_.Tls(listener_));
  client_->ResumeReading();
  return Enter(Phase::kClientTls);
}

Session::Wait Session::BeginAuthentication(sasl::Credentials credentials) {
  auth::NormalizeUsers(worker_.runtime().config.users, credentials);
  mechanism_ = credentials.mechanism;
  if (!identified_ && !BeIntroduced()) return Close(CloseReason::kTooManyConnections);
  user_ = credentials.authentication_identity.substr(0, kMaxLoggedUserBytes);
  login_->named = user_;
  login_started_ns_ = uv_hrtime();
  NoteAuthority({});  // what the last one said is of the past
  login_->policy.reset();
  login_->verdict.reset();
  if (credentials.mechanism == sasl::Mechanism::kExternal &&
      !credentials.authorization_identity.empty()) {
    // A certificate stands for one user, who may act for nobody else (RFC 4422 §3.4.1).
    return Fail(LoginFailure::kAuthorizationDenied,
                "asked to act as " + credentials.authorization_identity);
  }
  if (const auto scope = ThrottledBy(credentials)) return RefuseThrottled(*scope);
  if (sasl::IsTooLong(credentials)) return RefuseTooLong();
  login_->credentials = std::move(credentials);
  return login_->named.empty() ? BeginAuthority() : BeginPolicy();
}

// RFC 4954 §4, RFC 9051 §6.2.2, RFC 5034 §4.
Session::Wait Session::DoAuthenticating() {
  if (client_->failed()) return Close(CloseReason::kClientGone);
  if (!login_->verdict) return Wait::kAuthenticator;
  const auth::Verdict& verdict = *login_->verdict;
  NoteAuthority(verdict);
  if (verdict.accepted ? !verdict.user.empty() : user_.empty()) {
    user_ = verdict.user.substr(0, kMaxLoggedUserBytes);
  }
  const bool unnamed = login_->named.empty();
  if (unnamed) login_->named = user_;
  if (!verdict.accepted) {
    const std::string detail = verdict.detail;
    return Fail(verdict.reason, detail);
  }
  if (unnamed) {
    if (const auto scope = ThrottledBy(*login_->credentials)) return RefuseThrottled(*scope);
    return BeginPolicy();
  }
  return BeginBackend();
}

// BeginBackend decides where the user lives and which account is used there.
Session::Wait Session::BeginBackend() {
  auth::Verdict verdict = std::move(*login_->verdict);
  login_->verdict.reset();
  login_->introduction.reset();  // of an earlier attempt
  login_->referred.clear();
  login_->exchanged = false;
  // The authority's word, else the user's own route, else its domain's, else the listener's pool.
  if (verdict.pool.empty() && !verdict.backend) {
    if (auto route = worker_.runtime().routes->Find(listener_.protocol, user_)) {
      verdict.pool = std::move(route->pool);
      verdict.backend = std::move(route->backend);
    }
  }
  pool_ = verdict.pool.empty()
              ? listener_.pool
              : worker_.runtime().directory->Find(verdict.pool, listener_.protocol);
  if (pool_ == nullptr) {
    return Fail(LoginFailure::kBackendMisconfigured, "there is no pool " + verdict.pool);
  }
  if (ttl_ <= 1) {
    return Fail(LoginFailure::kBackendMisconfigured,
                "passed on too often (TTL): proxies seem to lead to each other");
  }
  if (verdict.backend_tls.value_or(config::BackendTls::kNone) != config::BackendTls::kNone &&
      pool_->settings().tls == config::BackendTls::kNone) {
    return Fail(LoginFailure::kBackendMisconfigured,
                "the authority wants TLS with the backend, and pool " + pool_->settings().name +
                    " has tls = \"none\" and does not know whom to trust");
  }
  if (verdict.backend_tls == pool_->settings().tls) verdict.backend_tls.reset();
  login_->way = {verdict.backend_tls, verdict.backend_mechanism};
  auto account = ChooseAccount(verdict);
  if (!account) return Fail(LoginFailure::kBackendMisconfigured, account.error());
  login_->credentials = *std::move(account);
  if (!verdict.backend) return BeginPool();
  login_->only = true;
  login_->attempt = backends::Attempt(pool_->At(*verdict.backend));
  const backends::Member& member = *login_->attempt.member();
  if (!member.health().usable()) {
    return Fail(member.health().misconfigured() ? LoginFailure::kBackendMisconfigured
                                                : LoginFailure::kUnavailable,
                member.name() + " is down: " + member.problem());
  }
  return OpenBackend();
}

// BeginPool begins with the member of the pool that is the first choice.
Session::Wait Session::BeginPool() {
  login_->only = false;
  login_->tried.clear();
  if (ChooseMember()) return OpenBackend();
  const backends::Pool::Outage outage = pool_->WhyDown();
  return Fail(
      outage.misconfigured ? LoginFailure::kBackendMisconfigured : LoginFailure::kUnavailable,
      outage.text);
}

bool Session::ChooseMember() {
  if (login_->tried.empty()) {
    login_->turn = pool_->NextTurn();
    login_->roster = worker_.Roster(*pool_);
  }
  const backends::Roster& roster = *login_->roster;
  const std::string key = inbound_ ? client_address_.Host() : user_;
  const auto chosen = backends::Choose(
      roster, {pool_->settings().balance, key, login_->tried, login_->turn, Now()});
  if (!chosen) return false;
  login_->tried.push_back(*chosen);
  login_->attempt = backends::Attempt(roster[*chosen]);
  return true;
}

// OpenBackend begins to connect to the member whose turn it is, unless that has begun already or a
// connection lies ready (and `fresh` does not forbid it).
Session::Wait Session::OpenBackend(bool fresh) {
  const std::shared_ptr<backends::Member>& member = login_->attempt.member();
  backend_name_ = member->name();
  std::unique_ptr<backends::Opening>& opening = login_->opening;
  if (login_->early && opening->member() == member) {
    EndEarly(true);
  } else {
    EndEarly(false);
    if (!fresh && !login_->way.tls) opening = worker_.ready_store().Take(*member, *this);
  }
  login_->waited = opening != nullptr;
  if (!opening) {
    opening = std::make_unique<backends::Opening>(
        worker_, *pool_, member, backends::Purpose::kLogin, ProxyHeader(), *this, login_->way.tls);
  }
  return Enter(Phase::kConnecting);
}

// Connecting, TLS, greeting and capabilities are the Opening's: backends/opening.cc.
Session::Wait Session::DoConnecting() {
  if (client_->failed()) return Close(CloseReason::kClientGone);
  using State = backends::Opening::State;
  switch (login_->opening->state()) {
    case State::kOpening:
      return Wait::kBackend;
    case State::kFailed: {
      const std::unique_ptr<backends::Opening> failed = std::move(login_->opening);
      return NextBackend({}, failed->error());
    }
    case State::kMisconfigured: {
      const std::unique_ptr<backends::Opening> failed = std::move(login_->opening);
      return Fail(LoginFailure::kBackendMisconfigured, failed->error());
    }
    case State::kReady:
      break;
  }
  const std::unique_ptr<backends::Opening> opening = std::move(login_->opening);
  backend_ = opening->TakeStream(*this);
  login_->client = opening->TakeEngine();
  login_->backend_input = opening->TakeInput();
  Introduce();
  if (login_->way.mechanism) login_->client->Present(*login_->way.mechanism);
  login_->client->LogIn(*login_->credentials);
  return Enter(Phase::kBackendLogin);
}

Session::Wait Session::DoBackendLogin() {
  if (client_->failed()) return Close(CloseReason::kClientGone);
  if (backend_->failed()) {
    return BrokenOff(backends::CountFailure(worker_, *pool_, *backend_), backend_->error());
  }
  protocols::ClientAction action = login_->client->Next(login_->backend_input, login_->output);
  backend_->Write(login_->output.view());
  login_->output.Clear();
  if (std::holds_alternative<protocols::LoggedIn>(action) ||
      std::holds_alternative<protocols::Refused>(action) ||
      login_->client->trust() == protocols::Trust::kRefused) {
    ReportTrust();
  }
  return std::visit(
      Overloaded{
          [&](protocols::NeedInput&) {
            if (!backend_->ended() && !expired_) return Wait::kBackend;
            return expired_
                       ? NextBackend("timeout", "the backend did not answer in time")
                       : BrokenOff("closed", "the backend closed the connection during the login");
          },
          [&](protocols::StartTls&) {  // comes only before Ready
            return NextBackend("protocol", "STARTTLS out of turn");
          },
          [&](protocols::Ready&) { return Wait::kBackend; },  // comes only without credentials
          [&](protocols::Challenged& challenged) { return BeginExchange(challenged.message); },
          [&](protocols::LoggedIn& logged_in) {
            backends::ReportSuccess(worker_, *pool_, *login_->attempt.member(),
                                    backends::Stage::kLogin, backends::Purpose::kLogin);
            login_->attempt.member()->NoteLogin(Now() - phase_started_ms_);
            worker_.shard().Observe(pool_->series().login_duration,
                                    static_cast<double>(Now() - phase_started_ms_) / 1e3);
            if (!relay_ && !inbound_ && !AdmitUser()) {
              NoteBackendVerdict(*login_, auth::Outcome::kOk);
              login_->backend_decides = false;  // it has decided
              return Fail(LoginFailure::kTooManyConnections, "max_sessions_per_user");
            }
            return BeginRelay(logged_in.reply);
          },
          [&](protocols::Refused& refused) {
            if (!refused.referral.empty()) {
              if (const auto followed = FollowReferral(refused.referral)) return *followed;
            }
            if (login_->backend_decides &&
                pool_->settings().refusal_text == config::RefusalText::kPass &&
                !QuotesPassword(refused.text)) {
              login_->message = refused.text;
            }
            if (!IsTemporary(refused.reason)) login_->attempt.member()->health().LoginAnswered();
            // Where another authority has accepted the client, its password is not what is
            // wrong, and it must not be told so.
            return Fail(login_->backend_decides || IsTemporary(refused.reason)
                            ? refused.reason
                            : LoginFailure::kBackendMisconfigured,
                        "the backend said: " + refused.text);
          },
          [&](protocols::Failed& failed) {
            const std::string detail = backends::Describe(failed, pool_->settings());
            if (failed.reason == protocols::BackendFailure::kUnencodable) {
              return Fail(LoginFailure::kBadCredentials, detail);
            }
            // Where the wish is the client's own; that of a master login is the operator's.
            if (failed.reason == protocols::BackendFailure::kNoAuthorization && login_->own_wish) {
              return Fail(LoginFailure::kAuthorizationDenied, detail);
            }
            worker_.shard().Add(pool_->series().rejected);
            if (!backends::MayRetry(failed.reason)) {
              ReportLoginFailure(backends::CauseOf(failed), detail,
                                 backends::SignOf(failed.reason));
              return Fail(LoginFailure::kBackendMisconfigured, detail);
            }
            if (failed.reason != protocols::BackendFailure::kUnavailable &&
                failed.reason != protocols::BackendFailure::kShuttingDown) {
              return BrokenOff(backends::CauseOf(failed), detail, backends::SignOf(failed.reason));
            }
            return NextBackend(backends::CauseOf(failed), detail, backends::SignOf(failed.reason));
          }},
      action);
}

// BrokenOff is for a login that the backend has not answered. What the client wrote may be why:
// then it speaks against no member, and no other is to hear it.
Session::Wait Session::BrokenOff(std::string_view cause, const std::string& detail,
                                 backends::Health::Sign sign) {
  if ((!login_->waited || login_->exchanged) && login_->credentials &&
      sasl::IsLongToken(*login_->credentials)) {
    return Fail(LoginFailure::kUnavailable, detail);
  }
  return NextBackend(cause, detail, sign);
}

// NextBackend tries another member of the pool, or gives up. `detail` may be the dropped stream's
// own text: what is buried lives until the end of the loop iteration.
Session::Wait Session::NextBackend(std::string_view cause, const std::string& detail,
                                   backends::Health::Sign sign) {
  DropBackend();
  // The backend may have given up a connection that waited, just when it was needed: no fault of
  // the member's, and no answer to the login was heard.
  if (login_->waited && !login_->exchanged) return OpenBackend(true);
  if (!cause.empty()) ReportLoginFailure(cause, detail, sign);
  if (!login_->exchanged && !login_->only && ChooseMember()) return OpenBackend();
  return Fail(LoginFailure::kUnavailable, detail);
}

void Session::ReportLoginFailure(std::string_view cause, const std::string& detail,
                                 backends::Health::Sign sign) {
  backends::ReportFailure(worker_, *pool_, *login_->attempt.member(),
                          {backends::Stage::kLogin, backends::Purpose::kLogin, sign, cause,
                           WithoutPassword(detail), user_});
}

std::string Session::WithoutPassword(std::string_view detail) const {
  if (!login_ || !login_->credentials) return std::string(detail);
  return sasl::WithoutPassword(detail, *login_->credentials);
}

bool Session::QuotesPassword(std::string_view text) const {
  return login_ && login_->credentials && sasl::QuotesPassword(text, *login_->credentials);
}

// Fail tells the client that it is not logged in; it may try again.
Session::Wait Session::Fail(LoginFailure reason, std::string_view detail) {
  DropBackend();
  if (relay_) {
    detail_ = WithoutPassword(detail);
    SayInRelay(Notice::kBackendLost);
    return Close(CloseReason::kBackendLost);
  }
  if (inbound_) return InboundFailed(detail);
  const AuthResult result = ResultOf(reason);
  const bool temporary = result != AuthResult::kFailed;
  const std::string shown = WithoutPassword(detail);
  login_->verdict.reset();
  login_->failure = reason;
  ++(temporary ? deferred_logins_ : failed_logins_);
  CountAuth(result);
  NoteBackendVerdict(
      *login_, result == AuthResult::kTempFail ? auth::Outcome::kError : auth::Outcome::kDeny);
  if (!temporary) ReportToPolicy(*login_, reason);
  worker_.shard().Add(listener_.series->auth_failures[static_cast<size_t>(reason)]);
  worker_.log().Write(
      observe::Level::kWarning, temporary ? "login_deferred" : "login_failed",
      {{"id", worker_.IdText(id_)},
       {"listener", listener_.settings.name},
       {"protocol", protocols::Name(listener_.protocol)},
       {"client", client_address_.Host()},
       {"user", user_},
       {"mechanism", sasl::Name(mechanism_)},
       {"tls", gatepost::Name(tls_mode_)},
       {"reason", protocols::Name(reason)},
       {"attempt", static_cast<uint32_t>(failed_logins_ + deferred_logins_)},
       {"authority",
        login_->authority == nullptr ? std::string_view() : login_->authority->settings.name},
       {"backend", backend_name_},
       {"detail", shown}});
  worker_.runtime().failed_logins->Add({.time = std::time(nullptr),
                                        .protocol = protocols::Name(listener_.protocol),
                                        .listener = listener_.settings.name,
                                        .client = client_address_.Host(),
                                        .user = user_,
                                        .mechanism = sasl::Name(mechanism_),
                                        .reason = protocols::Name(reason)});
  // What it took to find out counts: some authorities hold refusals back themselves.
  const uint64_t took_ms = (uv_hrtime() - login_started_ns_) / 1'000'000;
  const uint64_t penalty_ms = temporary ? 0 : PenaltyFor(reason);
  login_->penalty_ms = std::max(penalty_ms - std::min(penalty_ms, took_ms), login_->wait_ms);
  login_->credentials.reset();
  return Enter(Phase::kPenalty);
}

// The refusal is held back for a while, longer each time, so that guessing is slow.
Session::Wait Session::DoPenalty() {
  if (client_->failed()) return Close(CloseReason::kClientGone);
  if (!expired_ && login_->penalty_ms > 0) return Wait::kPenalty;
  login_->server->LoginFailed(login_->failure, login_->message, login_->output);
  FlushToClient();
  const uint32_t most = worker_.runtime().config.limits.max_failed_logins;
  if (failed_logins_ >= most || deferred_logins_ >= kDeferredPerFailed * most ||
      login_->end_session) {
    Say(Notice::kTooManyFailures);
    return Close(CloseReason::kTooManyFailures);
  }
  return Enter(Phase::kDialogue);
}

// BeginRelay frees all that only the login needed. What the backend sent behind its answer, and
// what the client pipelined behind its login, goes first, in order.
Session::Wait Session::BeginRelay(const protocols::LoginReply& reply) {
  CountServer();
  const std::unique_ptr<Login> login = std::move(login_);
  if (relay_) {
    SetMember(relogin_->member);
  } else {
    SetMember(login->attempt.member());
    logged_in_ = true;
    if (!inbound_) {
      login->server->LoginSucceeded(reply, login->output);
      client_->Write(login->output.view());
      const uint64_t took_ns = uv_hrtime() - login_started_ns_;
      login_ms_ = static_cast<uint32_t>(took_ns / 1'000'000);
      worker_.shard().Observe(listener_.series->login_duration, static_cast<double>(took_ns) / 1e9);
      CountAuth(AuthResult::kOk);
      NoteBackendVerdict(*login, auth::Outcome::kOk);
      ReportToPolicy(*login, std::nullopt);
    }
    worker_.shard().Observe(listener_.series->prelogin_duration,
                            static_cast<double>(Now() - accepted_ms_) / 1e3);
    login_ = nullptr;
    relay_.emplace(*client_, login->server->MakeScanner());
    // Who has shown us no password can't log in anew.
    if (relay_->scanner() != nullptr &&
        !(login->credentials && sasl::IsRelayed(login->credentials->mechanism)) &&
        listener_.settings.bare_newline == config::BareNewline::kReject) {
      relogin_ =
          std::make_unique<Relogin>(Relogin{std::move(*login->credentials), login->attempt.member(),
                                            login->introduction, login->way});
    }
  }
  if (relogin_ && certificate_) {
    std::string().swap(certificate_->der);
  } else {
    certificate_.reset();
  }
  last_activity_ms_ = Now();
  (void)Enter(Phase::kRelaying);
  if (relay_->scanner() != nullptr && IsOneForAll(pool_->settings().login)) {
    relay_->scanner()->HideSubmitter();
  }
  relay_->AttachBackend(*backend_, login->client->capabilities());
  if (!login->backend_input.empty()) RelayOut(net::AsBytes(login->backend_input.view()));
  if (!login->client_input.empty()) RelayIn(net::AsBytes(login->client_input.view()));
  if (client_->ended()) relay_->OnClientEvent(Stream::Event::kEnd);
  if (backend_->ended()) relay_->OnBackendEvent(Stream::Event::kEnd);
  return Wait::kNothing;
}

Session::Wait Session::DoRelaying() {
  if (relay_->scanner() != nullptr) CountRelay();
  if (relay_->state() == Relay::State::kEnded) {
    // The SMTP scanner has spoken already.
    if (relay_->reason() == CloseReason::kBackendLost && relay_->scanner() == nullptr) {
      SayInRelay(Notice::kBackendLost);
    }
    if (client_->failed()) detail_ = client_->error();
    if (backend_->failed()) detail_ = backend_->error();
    return Close(relay_->reason());
  }
  if (relay_->state() == Relay::State::kNeedsBackend) return BeginRelogin();
  if (relay_->asks() && !asked_) {
    AskAboutRecipient();
    if (!asked_) return Wait::kNothing;  // the answer was there at once
  }
  if (ending_ != CloseReason::kNone && MayEnd()) {
    SayInRelay(Farewell());
    return Close(ending_);
  }
  if (expired_ && Now() - last_activity_ms_ >= RelayTimeout()) {
    if (relay_->half_closed() && !relay_->backend_told() && !AwaitsVerdict()) {
      relay_->TellBackend();
      last_activity_ms_ = Now();
      return Enter(Phase::kRelaying);
    }
    if (AwaitsVerdict()) {
      detail_ = "the backend did not answer a message in time";
      SayInRelay(Notice::kBackendSilent);
      return Close(CloseReason::kBackendLost);
    }
    SayInRelay(Notice::kIdleTimeout);
    return Close(CloseReason::kIdleTimeout);
  }
  expired_ = false;
  return Wait::kRelay;
}

// BeginRelogin replaces a backend connection on which a message was refused half-way: closing it
// before the end of the mail data is the one way to make the backend forget the message.
Session::Wait Session::BeginRelogin() {
  DropBackend();
  if (!relogin_) return Fail(LoginFailure::kUnavailable, "no credentials to log in anew with");
  login_ = std::make_unique<Login>();
  login_->credentials = relogin_->credentials.Clone();
  login_->attempt = backends::Attempt(relogin_->member);
  login_->only = true;
  login_->introduction = relogin_->introduction;
  login_->way = relogin_->way;
  client_->PauseReading();
  return OpenBackend();
}

// ---- the end
// -------------------------------------------------------------------------------------

// Close lets go of the backend and of everything else but the client's last bytes.
Session::Wait Session::Close(CloseReason reason) {
  close_reason_ = reason;
  ForgetAuthority();
  CountServer();
  DropBackend();
  login_.reset();
  relogin_.reset();
  return Enter(Phase::kClosing);
}

Session::Wait Session::DoClosing() {
  if (client_->failed()) return Finish();
  if (const size_t unsent = client_->unsent(); unsent > 0) {
    if (expired_ && unsent == flushing_bytes_) {
      close_reason_ = CloseReason::kSlowClient;
      return Finish();
    }
    if (unsent != flushing_bytes_) phase_started_ms_ = Now();  // it does take them
    flushing_bytes_ = static_cast<uint32_t>(unsent);
    expired_ = false;
    return Wait::kClient;
  }
  if (!lingering_) {
    lingering_ = true;
    expired_ = false;
    phase_started_ms_ = Now();
    client_->ShutdownWrite();
  }
  if (expired_) return Finish();
  if (client_->ended()) return Finish();
  // A close with unread input would be a reset, which can overtake our last reply at the client.
  client_->ResumeReading();
  return Wait::kClient;
}

Session::Wait Session::Finish() {
  net::Deadlines::Disarm(*this);
  DropBackend();
  ReleaseUser();
  client_->Abandon();
  phase_ = Phase::kClosed;
  observe::Shard& shard = worker_.shard();
  const ProtocolSeries& series = *listener_.series;
  shard.Add(series.closed[static_cast<size_t>(close_reason_)]);
  shard.Observe(logged_in_ ? series.session_duration : series.prelogin_duration,
                static_cast<double>(Now() - accepted_ms_) / 1e3);
  CountAlert();
  LogEnd();
  worker_.Retire(id_, identified_ ? &client_address_ : nullptr, listener_);
  return Wait::kNever;
}

// ---- small things
// --------------------------------------------------------------------------------

uint64_t Session::Now() const {
  return worker_.Now();
}

uint64_t Session::PreloginLeft() const {
  const auto whole = static_cast<uint64_t>(worker_.runtime().config.limits.login_timeout.count());
  const uint64_t passed = Now() - accepted_ms_;
  return passed < whole ? whole - passed : 0;
}

bool Session::AwaitsVerdict() const {
  return relay_->scanner() != nullptr && relay_->scanner()->AwaitsVerdict();
}

uint64_t Session::RelayTimeout() const {
  return AwaitsVerdict() ? std::max(IdleTimeout(), kVerdictMs) : IdleTimeout();
}

uint64_t Session::IdleTimeout() const {
  const auto idle = static_cast<uint64_t>(listener_.idle_timeout.count());
  if (!relay_->half_closed()) return idle;
  return std::min(idle, relay_->backend_told() ? kHalfClosedMs : kTellBackendMs);
}

void Session::FlushToClient() {
  client_->Write(login_->output.view());
  login_->output.Clear();
}

// Say tells the client something outside the relay.
void Session::Say(Notice notice) {
  if (!login_ || !login_->server) return;
  login_->server->Say(notice, login_->output);
  FlushToClient();
}

// SayInRelay tells a logged-in client something where it would be understood as ours.
void Session::SayInRelay(Notice notice) {
  if (!relay_ || client_->failed()) return;
  protocols::Buffer text;
  if (protocols::RelayScanner* scanner = relay_->scanner(); scanner != nullptr) {
    if (!scanner->CanSpeak()) return;
    scanner->Say(notice, text);
  } else if (listener_.protocol == protocols::Protocol::kImap
                 ? relay_->LineBoundary()
                 : ending_ == CloseReason::kKicked && Quiet()) {
    protocols::MakeServerEngine(listener_.protocol, {})->Say(notice, text);
  }
  client_->Write(text.view());
}

// DropBackend closes the backend's connection and forgets an attempt to make one.
void Session::DropBackend() {
  SetMember(nullptr);
  if (login_) {
    EndEarly(false);
    login_->opening.reset();
  }
  if (backend_) worker_.Bury(std::move(backend_));
}

// OpenEarly connects to the backend while the client still authenticates, where the route is known
// whoever it is: the login then waits for one round trip instead of several.
void Session::OpenEarly() {
  const backends::Roster& roster = *worker_.Roster(*listener_.pool);
  if (!identified_ || !listener_.pool->settings().connect_early || roster.size() != 1 ||
      !roster.front()->health().usable() || !listener_.only_backend_decides ||
      worker_.runtime().routes->Any(listener_.protocol) || !worker_.BeginEarly()) {
    return;
  }
  pool_ = listener_.pool;
  login_->early = true;
  login_->opening = std::make_unique<backends::Opening>(
      worker_, *pool_, roster.front(), backends::Purpose::kLogin, ProxyHeader(), *this);
}

// EndEarly counts what became of a connection that was begun early; an unused one is closed.
void Session::EndEarly(bool used) {
  if (!login_->early) return;
  login_->early = false;
  worker_.EndEarly();
  worker_.shard().Add(used ? pool_->series().early_used : pool_->series().early_unused);
  if (!used) login_->opening.reset();
}

void Session::SetMember(std::shared_ptr<backends::Member> member) {
  if (member_) member_->EndSession();
  member_ = std::move(member);
  if (member_) member_->BeginSession();
}

}  // namespace gatepost::session
