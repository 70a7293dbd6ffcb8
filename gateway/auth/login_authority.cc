// SPDX-License-Identifier: Apache-2.0
#include "gateway/auth/login_authority.h"

#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "gateway/backends/choice.h"
#include "gateway/backends/opening.h"
#include "gateway/net/deadlines.h"
#include "gateway/net/stream.h"
#include "gateway/worker.h"
#include "protocols/introduction.h"
#include "protocols/proxy_protocol.h"
#include "protocols/sasl/mechanisms.h"

namespace gatepost::auth {
namespace {

using protocols::LoginFailure;

Verdict Refusal(LoginFailure reason, std::string detail) {
  Verdict verdict;
  verdict.reason = reason;
  verdict.detail = std::move(detail);
  return verdict;
}

}  // namespace

// Attempt is one login, at one member after the other until one has an opinion.
class LoginAuthority::Attempt final : private net::Deadlines::Entry,
                                      public backends::Opening::Observer,
                                      public net::Stream::Observer {
 public:
  Attempt(LoginAuthority& owner, const Request& request)
      : owner_(owner),
        pool_(*owner.authority_.login_pool),
        id_(request.id),
        credentials_(request.credentials.Clone()),
        roster_(owner.worker_.Roster(pool_)) {
    Introduce(request);
  }
  ~Attempt() { Drop(); }

  [[nodiscard]] bool running() const { return running_; }

  // Start begins with the first member.
  void Start() {
    running_ = true;
    turn_ = pool_.NextTurn();
    const bool any = Open();
    // There is none: the answer comes from the loop, as every other.
    if (!any) owner_.worker_.deadlines().Arm(*this, 0);
  }

 private:
  // Introduce says whose login it is, as the pool forwards it: else the store would take the
  // guesses of all clients for the gateway's.
  void Introduce(const Request& request) {
    using config::ForwardClientAddress;
    protocols::ProxyHeader header;
    header.source = {request.client.Mapped(), request.client.port()};
    header.destination = {request.local.Mapped(), request.local.port()};
    switch (pool_.settings().forward_client_address) {
      case ForwardClientAddress::kNone:
        return;
      case ForwardClientAddress::kProxyV1:
        proxy_header_ = protocols::EncodeProxyV1(header.source, header.destination);
        return;
      case ForwardClientAddress::kProxyV2:
        header.session_id = request.session;
        proxy_header_ = protocols::EncodeProxyV2(header);
        return;
      case ForwardClientAddress::kNative:
        break;
    }
    auto introduction = std::make_shared<protocols::Introduction>();
    introduction->client_host = request.client.Host();
    introduction->client_port = request.client.port();
    introduction->server_host = request.local.Host();
    introduction->server_port = request.local.port();
    introduction->session_id = request.session;
    introduction->ttl = protocols::kFirstTtl - 1U;
    introduction->transport = request.tls != nullptr ? "TLS" : "insecure";
    introduction_ = std::move(introduction);
  }

  // Open begins with the member whose turn it is; false: there is no other to try.
  bool Open() {
    const auto chosen =
        backends::Choose(*roster_, {pool_.settings().balance, credentials_.authentication_identity,
                                    tried_, turn_, owner_.worker_.Now()});
    if (!chosen) return false;
    tried_.push_back(*chosen);
    at_ = backends::Attempt((*roster_)[*chosen]);
    opening_ = std::make_unique<backends::Opening>(owner_.worker_, pool_, at_.member(),
                                                   backends::Purpose::kLogin, proxy_header_, *this);
    return true;
  }

  void OnOpened(backends::Opening&) override {
    const std::unique_ptr<backends::Opening> opening = std::move(opening_);
    switch (opening->state()) {
      case backends::Opening::State::kOpening:
        return;
      case backends::Opening::State::kFailed:
        return NextMember(opening->error());
      case backends::Opening::State::kMisconfigured:
        return End(Refusal(LoginFailure::kBackendMisconfigured, opening->error()));
      case backends::Opening::State::kReady:
        break;
    }
    stream_ = opening->TakeStream(*this);
    engine_ = opening->TakeEngine();
    input_ = opening->TakeInput();
    owner_.worker_.deadlines().Arm(*this,
                                   static_cast<uint64_t>(pool_.settings().login_timeout.count()));
    if (introduction_) engine_->Introduce(introduction_);
    engine_->LogIn(credentials_);
    Talk();
  }

  void OnPlaintext(net::Stream&, net::Bytes plaintext) override {
    input_.Append(net::AsText(plaintext));
    Talk();
  }

  void OnStreamEvent(net::Stream&, net::Stream::Event event) override {
    switch (event) {
      case net::Stream::Event::kTlsEstablished:
      case net::Stream::Event::kDrained:
        return;
      case net::Stream::Event::kEnd:
        return Trouble("closed", "the backend closed the connection during the login");
      case net::Stream::Event::kFailed: {
        const std::string error = stream_->error();
        return Trouble(backends::CountFailure(owner_.worker_, pool_, *stream_), error);
      }
    }
  }

  void OnDeadline() override {
    if (tried_.empty()) {
      const backends::Pool::Outage outage = pool_.WhyDown();
      return End(Refusal(
          outage.misconfigured ? LoginFailure::kBackendMisconfigured : LoginFailure::kUnavailable,
          outage.text));
    }
    timed_out_ = true;
    Trouble("timeout", "the backend did not answer in time");
  }

  void Talk() {
    protocols::Buffer output;
    const protocols::ClientAction action = engine_->Next(input_, output);
    stream_->Write(output.view());
    if (std::holds_alternative<protocols::LoggedIn>(action)) {
      backends::ReportSuccess(owner_.worker_, pool_, *at_.member(), backends::Stage::kLogin,
                              backends::Purpose::kLogin);
      protocols::Buffer farewell;
      engine_->LogOut(farewell);
      stream_->Write(farewell.view());
      Verdict verdict;
      verdict.accepted = true;
      return End(std::move(verdict));
    }
    if (const auto* refused = std::get_if<protocols::Refused>(&action)) {
      return End(Refusal(refused->reason, "the backend said: " + refused->text));
    }
    if (std::holds_alternative<protocols::Challenged>(action)) {
      // A token that is refused, or proofs that we have not got: neither is passed on from here.
      return End(Refusal(LoginFailure::kBadCredentials, "the backend asks the client back"));
    }
    if (const auto* failed = std::get_if<protocols::Failed>(&action)) {
      const std::string detail = backends::Describe(*failed, pool_.settings());
      if (failed->reason == protocols::BackendFailure::kUnencodable) {
        return End(Refusal(LoginFailure::kBadCredentials, detail));
      }
      if (failed->reason == protocols::BackendFailure::kNoAuthorization) {
        return End(Refusal(LoginFailure::kAuthorizationDenied, detail));
      }
      if (!backends::MayRetry(failed->reason)) {
        return End(Refusal(LoginFailure::kBackendMisconfigured, detail));
      }
      return Trouble(backends::CauseOf(*failed), detail, backends::SignOf(failed->reason));
    }
  }

  // Trouble is the member's: it has said nothing about the credentials.
  void Trouble(std::string_view cause, const std::string& detail,
               backends::Health::Sign sign = backends::Health::Sign::kFails) {
    backends::ReportFailure(
        owner_.worker_, pool_, *at_.member(),
        {backends::Stage::kLogin, backends::Purpose::kLogin, sign, cause,
         sasl::WithoutPassword(detail, credentials_), credentials_.authentication_identity});
    NextMember(detail);
  }

  void NextMember(const std::string& detail) {
    Drop();
    if (Open()) return;
    Verdict verdict = Refusal(LoginFailure::kUnavailable, detail);
    verdict.timed_out = timed_out_;
    End(std::move(verdict));
  }

  void Drop() {
    net::Deadlines::Disarm(*this);
    engine_.reset();
    input_.Clear();
    if (stream_) owner_.worker_.Bury(std::move(stream_));
  }

  // End destroys the attempt.
  void End(Verdict verdict) { owner_.Finish(id_, std::move(verdict)); }

  LoginAuthority& owner_;
  const backends::Pool& pool_;
  const SessionId id_;
  const sasl::Credentials credentials_;
  const std::shared_ptr<const backends::Roster> roster_;
  std::string proxy_header_;                                     // where the pool wants one
  std::shared_ptr<const protocols::Introduction> introduction_;  // where it wants that
  uint64_t turn_ = 0;
  std::vector<uint32_t> tried_;  // of the roster
  backends::Attempt at_;
  bool running_ = false;
  bool timed_out_ = false;
  std::unique_ptr<backends::Opening> opening_;
  std::unique_ptr<net::Stream> stream_;
  std::unique_ptr<protocols::ClientEngine> engine_;
  protocols::Buffer input_;
};

LoginAuthority::LoginAuthority(Worker& worker, const AuthorityRuntime& authority, Answers& answers)
    : worker_(worker),
      authority_(authority),
      answers_(answers),
      turns_(authority.settings.max_concurrent) {}

LoginAuthority::~LoginAuthority() = default;

std::optional<Verdict> LoginAuthority::Check(const Request& request) {
  const sasl::Credentials& credentials = request.credentials;
  if (credentials.mechanism == sasl::Mechanism::kExternal) {
    Verdict verdict;
    verdict.accepted = true;
    return verdict;
  }
  if (!credentials.authorization_identity.empty() &&
      credentials.authorization_identity != credentials.authentication_identity) {
    // The store may allow it there; here nobody has said so (RFC 4422 §3.4.1).
    return Refusal(LoginFailure::kAuthorizationDenied, {});
  }
  if (turns_.full()) {
    return Refusal(LoginFailure::kUnavailable, "too many logins wait for the authority");
  }
  attempts_[KeyOf(request.id)] = std::make_unique<Attempt>(*this, request);
  turns_.Wait(KeyOf(request.id));
  StartNext();
  return std::nullopt;
}

void LoginAuthority::Cancel(SessionId id) {
  const auto found = attempts_.find(KeyOf(id));
  if (found == attempts_.end()) return;
  if (found->second->running()) turns_.Release();
  attempts_.erase(found);
  StartNext();
}

void LoginAuthority::StartNext() {
  turns_.Start([this](uint64_t key) {
    const auto found = attempts_.find(key);
    if (found == attempts_.end() || found->second->running()) return false;
    found->second->Start();
    return true;
  });
}

void LoginAuthority::Finish(SessionId id, Verdict verdict) {
  attempts_.erase(KeyOf(id));
  turns_.Release();
  StartNext();
  answers_.OnVerdict(id, std::move(verdict));
}

}  // namespace gatepost::auth
