// One mail session, from accept to close: the phases, what each waits for, and who is told what.
//
// Owned by its Worker, which alone frees it (never while one of its functions runs). It owns both
// streams. Nothing outside the worker keeps a Session*: the authenticator answers by SessionId.
// One loop thread. session.cc reads top to bottom in the order in which things happen.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <tl/expected.hpp>
#include <vector>

#include "gateway/auth/authenticator.h"
#include "gateway/auth/policy.h"
#include "gateway/auth/throttle.h"
#include "gateway/backends/directory.h"
#include "gateway/backends/opening.h"
#include "gateway/net/address.h"
#include "gateway/net/deadlines.h"
#include "gateway/net/stream.h"
#include "gateway/runtime.h"
#include "gateway/session/close_reason.h"
#include "gateway/session/relay.h"
#include "gateway/session/session_info.h"
#include "protocols/engine.h"

namespace gatepost {
class Worker;
}

namespace gatepost::session {

class Session final : public net::Stream::Observer,
                      private net::Deadlines::Entry,
                      public backends::Opening::Observer {
 public:
  Session(Worker& worker, auth::SessionId id, const ListenerRuntime& listener,
          const net::Address& client, net::HandlePtr<uv_tcp_t> connection);
  ~Session();

  // Begin greets or starts TLS. Call once, when the worker knows the session.
  void Begin();

  // OnVerdict is the authenticator's answer.
  void OnVerdict(auth::Verdict verdict);
  // OnChallenge is what the authenticator asks the client before it answers.
  void OnChallenge(std::string_view challenge);

  // OnPolicy is the policy service's decision about the login.
  void OnPolicy(auth::Policy::Decision decision);

  // Drain asks the session to end when it can be ended politely, `delay_ms` from now at the
  // earliest where it would otherwise go on for long.
  void Drain(uint64_t delay_ms);
  // DrainDeadline ends it now, politely where possible.
  void DrainDeadline();
  // Kick is Drain for one session, on the administrator's word; at the latest process.drain_timeout
  // after the delay it is ended wherever it is.
  void Kick(uint64_t delay_ms);

  [[nodiscard]] bool Matches(const SessionFilter& filter) const;
  [[nodiscard]] SessionInfo Describe() const;

  [[nodiscard]] auth::SessionId id() const { return id_; }

 private:
  // Where the session is.
  enum class Phase : uint8_t {
    kProxyHeader,
    kClientTls,
    kDialogue,
    kPolicy,
    kAuthenticating,
    kPenalty,
    kConnecting,
    kBackendLogin,
    kExchange,
    kRelaying,
    kClosing,
    kClosed
  };
  // Why it stopped there.
  enum class Wait : uint8_t {
    kNothing,
    kClient,
    kPolicy,
    kAuthenticator,
    kPenalty,
    kBackend,
    kRelay,
    kNever
  };

  // What a proxy in front of us said of the client's connection.
  struct Proxied {
    net::Address proxy;        // who said it
    net::Address destination;  // where the client connected to
    std::string session;       // its name for the session
    bool tls;                  // it speaks TLS with the client
  };

  struct Login;  // everything that only the login needs

  // How the authority wants the backend to be spoken to, where that is not as the pool has it.
  struct BackendWay {
    std::optional<config::BackendTls> tls;
    std::optional<protocols::LoginMechanism> mechanism;
  };

  // The account that an SMTP session logs in with again after a message was refused half-way.
  struct Relogin {
    sasl::Credentials credentials;
    std::shared_ptr<backends::Member> member;
    std::shared_ptr<const protocols::Introduction> introduction;
    BackendWay way;
  };

  void OnPlaintext(net::Stream& stream, net::Bytes plaintext) override;
  void OnStreamEvent(net::Stream& stream, net::Stream::Event event) override;
  size_t OnPeek(net::Stream& stream, net::Bytes waiting) override;
  void OnDeadline() override;
  void OnOpened(backends::Opening& opening) override;

  // RelayIn passes on what the client has said, RelayOut what the backend has; both count it.
  void RelayIn(net::Bytes plaintext);
  void RelayOut(net::Bytes plaintext);

  // Advance steps until the session waits; `arm` sets the deadline of that wait anew.
  void Advance(bool arm = true);
  Wait Step();
  Wait Enter(Phase phase);

  Wait DoProxyHeader();
  Wait DoClientTls();
  Wait DoDialogue();
  Wait DoPolicy();
  Wait DoAuthenticating();
  Wait DoPenalty();
  Wait DoConnecting();
  Wait DoBackendLogin();
  Wait DoRelaying();
  Wait DoClosing();

  // BeginClient begins to speak with the client, whose address is known.
  Wait BeginClient();
  void BeginProxyHeader();
  Wait RefuseProxyHeader(ProxyHeaderResult result, unsigned version);
  Wait BeginStartTls();
  Wait BeginAuthentication(sasl::Credentials credentials);
  // BeginPolicy asks the policy service, where there is one, about whoever login_->named is.
  Wait BeginPolicy();
  // ReportToPolicy tells it what became of that; nothing: the client is logged in.
  void ReportToPolicy(const Login& login, std::optional<protocols::LoginFailure> failure);
  // NoteDecision logs and keeps what the service has decided.
  void NoteDecision(auth::Policy::Decision decision);
  Wait BeginAuthority();
  // AskAuthority puts the question, and returns the answer where there is one at once.
  std::optional<auth::Verdict> AskAuthority(
      const sasl::Credentials& credentials,
      const protocols::RelayScanner::Recipient* recipient = nullptr);
  // NoteAuthority keeps in mind, and measures, whose verdict came.
  void NoteAuthority(const auth::Verdict& verdict);
  // NoteBackendVerdict counts the backend's answer where that was the verdict.
  void NoteBackendVerdict(const Login& login, auth::Outcome outcome);
  // ForgetAuthority waits for an answer no more.
  void ForgetAuthority();
  Wait BeginBackend();
  // ChooseAccount returns what to log in with at the backend, or why there is nothing.
  tl::expected<sasl::Credentials, std::string> ChooseAccount(auth::Verdict& verdict);
  Wait BeginPool();
  // ChooseMember decides whose turn it is; false: there is no other to try.
  bool ChooseMember();
  Wait BeginExchange(std::string_view challenge);
  // AuthorityAsks says whether the exchange is with the authority, not with a backend.
  [[nodiscard]] bool AuthorityAsks() const { return phase_ == Phase::kExchange && !backend_; }
  Wait GiveAnswer(std::string_view answer);
  Wait CancelExchange();
  Wait OpenBackend(bool fresh = false);
  // `cause`: what to report of the member; empty where the Opening has done so.
  Wait NextBackend(std::string_view cause, const std::string& detail,
                   backends::Health::Sign sign = backends::Health::Sign::kFails);
  Wait BrokenOff(std::string_view cause, const std::string& detail,
                 backends::Health::Sign sign = backends::Health::Sign::kFails);
  // FollowReferral goes where the backend says that the user is, or says why not. Nothing:
  // referrals are not followed here.
  std::optional<Wait> FollowReferral(const std::string& url);
  void ReportLoginFailure(std::string_view cause, const std::string& detail,
                          backends::Health::Sign sign);
  Wait Fail(protocols::LoginFailure reason, std::string_view detail);
  Wait BeginRelay(const protocols::LoginReply& reply);
  Wait BeginRelogin();
  // BeginInbound connects to where mail goes that nobody has logged in for; InboundFailed tells the
  // client that this is not possible now.
  Wait BeginInbound();
  Wait InboundFailed(std::string_view detail);
  // AskAboutRecipient has the listener's authority judge whom the relay asks about;
  // JudgeRecipient gives its verdict to the relay.
  void AskAboutRecipient();
  void JudgeRecipient(const auth::Verdict& verdict);
  // InboundCapabilities returns what the client may be offered wherever its mail will go.
  [[nodiscard]] std::shared_ptr<const protocols::Capabilities> InboundCapabilities() const;
  Wait Close(CloseReason reason);
  Wait Finish();

  void StartServerEngine(std::string external_identity);
  [[nodiscard]] auth::BackendMechanisms MechanismsOfBackends() const;
  [[nodiscard]] sasl::MechanismSet OfferedMechanisms() const;
  void FlushToClient();
  [[nodiscard]] bool QuotesPassword(std::string_view text) const;
  [[nodiscard]] std::string WithoutPassword(std::string_view detail) const;
  void Say(protocols::Notice notice);
  void OpenEarly();
  void EndEarly(bool used);
  void DropBackend();
  void SetMember(std::shared_ptr<backends::Member> member);
  void ArmDeadline();
  [[nodiscard]] uint64_t Now() const;
  [[nodiscard]] uint64_t PreloginLeft() const;
  [[nodiscard]] uint64_t RelayTimeout() const;
  [[nodiscard]] uint64_t IdleTimeout() const;
  [[nodiscard]] bool AwaitsVerdict() const;
  void SayInRelay(protocols::Notice notice);

  void EndPolitely(CloseReason reason, uint64_t delay_ms);
  [[nodiscard]] protocols::Notice Farewell() const;
  [[nodiscard]] bool MayEnd() const;
  // Quiet tells that neither side has said anything for a while, and that nothing is half said.
  [[nodiscard]] bool Quiet() const;
  [[nodiscard]] std::string_view PhaseName() const;

  // ThrottledBy says whether this login is to be refused unasked, since too many have failed.
  [[nodiscard]] std::optional<auth::Throttle::Scope> ThrottledBy(
      const sasl::Credentials& credentials) const;
  Wait RefuseThrottled(auth::Throttle::Scope scope);
  Wait RefuseTooLong();
  // PenaltyFor counts a failure and returns how long its answer is held back, in ms. While the
  // client's credentials are still there.
  [[nodiscard]] uint64_t PenaltyFor(protocols::LoginFailure reason);
  // AdmitUser forgives what failed before, and says whether the user may have one more session.
  [[nodiscard]] bool AdmitUser();
  void ReleaseUser();

  void CountServer();
  void CountTls();
  // IdentifyClient counts and logs the certificate that the client presented, and returns the user
  // for whom it stands; empty: nobody.
  std::string IdentifyClient();
  // ServerAddress is where the client connected to.
  [[nodiscard]] net::Address ServerAddress() const;
  // BeIntroduced takes over what a trusted proxy said of its client, and counts it. False: there
  // are too many of that client.
  [[nodiscard]] bool BeIntroduced();
  // Introduce has the client engine tell the backend who the client is, in the protocol's own
  // words, where the pool forwards that so.
  void Introduce();
  void ReportTrust();
  // ProxyHeader says who the client is, where the pool forwards that; else it is empty.
  [[nodiscard]] std::string ProxyHeader() const;
  void CountTlsFailure(bool timeout);
  void CountAuth(AuthResult result);
  void CountRelay();
  void CountForeign(protocols::QuitReason reason);
  void CountAlert();
  void LogEnd();

  Worker& worker_;
  const ListenerRuntime& listener_;
  const auth::SessionId id_;
  Phase phase_ = Phase::kDialogue;
  TlsMode tls_mode_ = TlsMode::kNone;
  CloseReason close_reason_ = CloseReason::kNone;
  CloseReason ending_ = CloseReason::kNone;  // kDrain, kKicked: it is to end for that
  sasl::Mechanism mechanism_ = sasl::Mechanism::kPlain;
  bool expired_ = false;
  bool logged_in_ = false;
  bool identified_;                     // the limits have counted it as client_address_'s
  bool inbound_ = false;                // nobody has logged in: mail for local domains alone
  bool asked_ = false;                  // inbound: the authority, about a recipient
  bool user_counted_ = false;           // among the sessions of the user
  bool lingering_ = false;              // closing: all is said, the client's FIN is awaited
  uint8_t ttl_ = protocols::kFirstTtl;  // how often the session may be passed on yet
  uint8_t failed_logins_ = 0;
  uint8_t deferred_logins_ = 0;  // for want of an authority or a backend
  uint32_t flushing_bytes_ = 0;  // closing: what the client had not taken at the last look
  net::Address client_address_;
  std::unique_ptr<Proxied> proxied_;  // null: the client itself is at the other end
  uint64_t accepted_ms_;              // loop time
  uint64_t phase_started_ms_;
  uint64_t last_activity_ms_;  // relaying
  uint64_t end_at_ms_ = 0;     // where it is to end
  uint64_t login_started_ns_ = 0;
  uint32_t login_ms_ = 0;
  uint64_t relayed_in_ = 0;
  uint64_t relayed_out_ = 0;
  protocols::RelayCounts counted_;  // what metrics know already
  std::string user_;
  std::string backend_name_;
  std::string detail_;  // the cause behind close_reason_, for the log
  backends::Pool* pool_ = nullptr;
  std::shared_ptr<backends::Member> member_;  // while counted in its sessions
  std::unique_ptr<net::Stream> client_;
  std::unique_ptr<net::Stream> backend_;
  // While a connection to a backend may still have to tell of it.
  std::unique_ptr<tls::ClientCertificate> certificate_;
  std::unique_ptr<Login> login_;
  std::unique_ptr<Relogin> relogin_;
  std::optional<Relay> relay_;
};

}  // namespace gatepost::session
