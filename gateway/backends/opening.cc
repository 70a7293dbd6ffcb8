// SPDX-License-Identifier: Apache-2.0
#include "gateway/backends/opening.h"

#include <algorithm>
#include <array>
#include <utility>
#include <variant>

#include "gateway/worker.h"
#include "protocols/engines.h"
#include "protocols/proxy_protocol.h"

namespace gatepost::backends {
namespace {

protocols::BackendTls FromConfig(config::BackendTls tls) {
  switch (tls) {
    case config::BackendTls::kNone:
      return protocols::BackendTls::kNone;
    case config::BackendTls::kStartTls:
      return protocols::BackendTls::kStartTls;
    case config::BackendTls::kImplicit:
      return protocols::BackendTls::kImplicit;
  }
  return protocols::BackendTls::kNone;
}

// LeadsToUs says whether `stream`, to `remote`, has come to a listener of ours.
bool LeadsToUs(const Runtime& runtime, const net::Address& remote, const net::Stream& stream) {
  for (const auto& listener : runtime.listeners) {
    for (const config::SocketAddress& address : listener->settings.addresses) {
      if (address.port != remote.port()) continue;
      const std::string host = remote.Host();
      // On all addresses: then also on that from which this machine speaks to itself.
      const bool all = address.host == "0.0.0.0" || address.host == "::";
      if (address.host == host || (all && stream.LocalAddress().Host() == host)) return true;
    }
  }
  return false;
}

// OwnProxyHeader returns the header of a connection that is made for no client.
std::string OwnProxyHeader(config::ForwardClientAddress method, const net::Stream& stream,
                           const net::Address& remote) {
  switch (method) {
    case config::ForwardClientAddress::kProxyV1: {
      const net::Address local = stream.LocalAddress();
      return protocols::EncodeProxyV1({local.Mapped(), local.port()},
                                      {remote.Mapped(), remote.port()});
    }
    case config::ForwardClientAddress::kProxyV2:
      return protocols::EncodeProxyV2Local();
    case config::ForwardClientAddress::kNone:
    case config::ForwardClientAddress::kNative:
      break;
  }
  return {};
}

}  // namespace

std::string Describe(const protocols::Failed& failed, const config::Pool& pool) {
  static constexpr std::array<std::string_view,
                              static_cast<size_t>(protocols::BackendFailure::kCount)>
      kTexts = {"the backend refuses service",
                "the backend shuts down",
                "the backend is temporarily unavailable",
                "the backend broke the protocol",
                "the backend does not offer STARTTLS",
                "the backend offers no mechanism that can carry this login",
                "the backend offers no mechanism that can say for whom the client acts",
                "the backend sent bytes behind its STARTTLS reply",
                "the credentials can't be written in this protocol"};
  static_assert(!kTexts.back().empty());
  std::string text(kTexts[static_cast<size_t>(failed.reason)]);
  if (!failed.detail.empty()) text += ": " + failed.detail;
  if (failed.reason == protocols::BackendFailure::kProtocolError &&
      (pool.forward_client_address == config::ForwardClientAddress::kProxyV1 ||
       pool.forward_client_address == config::ForwardClientAddress::kProxyV2)) {
    text += " (does this port expect the PROXY protocol, as forward_client_address has it?)";
  }
  return text;
}

std::string_view CauseOf(const protocols::Failed& failed) {
  static constexpr std::array<std::string_view,
                              static_cast<size_t>(protocols::BackendFailure::kCount)>
      kNames = {"refuses_service", "shutting_down", "unavailable", "protocol",   "no_starttls",
                "no_mechanism",    "no_mechanism",  "injection",   "unencodable"};
  static_assert(!kNames.back().empty());
  return kNames[static_cast<size_t>(failed.reason)];
}

std::string CountFailure(Worker& worker, const Pool& pool, const net::Stream& stream) {
  const tls::Channel* channel = stream.channel();
  // In TLS 1.3 a backend refuses our certificate when for us the handshake is over.
  if (channel == nullptr ||
      (channel->established() && channel->failure() != tls::Failure::kCertificateUnknown)) {
    return "connection_lost";
  }
  const PoolSeries& series = pool.series();
  worker.shard().Add(series.tls_failed);
  if (channel->failure() == tls::Failure::kVerify) {
    const tls::FailedCheck check = channel->failed_check();
    worker.shard().Add(series.failed_checks[static_cast<size_t>(check)]);
    return "tls_" + std::string(tls::Name(check));
  }
  // Without a failure of TLS, the connection was reset.
  const tls::Failure failure =
      channel->failure() == tls::Failure::kNone ? tls::Failure::kEof : channel->failure();
  worker.shard().Add(series.tls_failures[static_cast<size_t>(failure)]);
  return "tls_" + std::string(tls::Name(failure));
}

Health::Sign SignOf(protocols::BackendFailure reason) {
  if (reason == protocols::BackendFailure::kShuttingDown) return Health::Sign::kLeaves;
  return IsMisconfigured(reason) ? Health::Sign::kMisconfigured : Health::Sign::kFails;
}

bool MayRetry(protocols::BackendFailure reason) {
  return !IsMisconfigured(reason) && reason != protocols::BackendFailure::kUnencodable;
}

bool IsMisconfigured(protocols::BackendFailure reason) {
  using protocols::BackendFailure;
  return reason == BackendFailure::kNoStartTls || reason == BackendFailure::kNoMechanism ||
         reason == BackendFailure::kNoAuthorization || reason == BackendFailure::kInjection;
}

Opening::Opening(Worker& worker, const Pool& pool, std::shared_ptr<Member> member, Purpose purpose,
                 std::string proxy_header, Observer& observer,
                 std::optional<config::BackendTls> tls)
    : worker_(worker),
      pool_(pool),
      member_(std::move(member)),
      observer_(&observer),
      purpose_(purpose),
      tls_(tls.value_or(pool.settings().tls)),
      proxy_header_(std::move(proxy_header)),
      dial_started_ns_(uv_hrtime()),
      dial_(std::make_unique<net::Dial>(
          worker.loop(), worker.resolver(), worker.deadlines(), member_->address().host,
          member_->address().port,
          purpose == Purpose::kCheck
              ? std::min(pool.settings().connect_timeout, pool.settings().health_timeout)
              : pool.settings().connect_timeout,
          *this)) {}

Opening::~Opening() {
  if (stream_) worker_.Bury(std::move(stream_));
}

void Opening::OnDialed(net::Dial&) {
  const std::unique_ptr<net::Dial> dial = std::move(dial_);
  const PoolSeries& series = pool_.series();
  if (dial->result() != net::Dial::Result::kConnected) {
    worker_.shard().Add(dial->result() == net::Dial::Result::kTimeout ? series.timeout
                                                                      : series.refused);
    static constexpr std::array<std::string_view, static_cast<size_t>(net::Dial::Result::kCount)>
        kCauses = {"", "unreachable", "connect_timeout", "unresolved"};
    return Fail(Health::Sign::kFails, kCauses[static_cast<size_t>(dial->result())], dial->error());
  }
  const net::Address remote = dial->address();
  stream_ = std::make_unique<net::Stream>(worker_.io(), dial->TakeConnection(), *this);
  if (LeadsToUs(worker_.runtime(), remote, *stream_)) {
    return Fail(Health::Sign::kMisconfigured, "own_address",
                remote.Text() + " is one of our own listeners: sessions would go in circles");
  }
  worker_.shard().Add(series.connected);
  worker_.shard().Observe(series.connect_duration,
                          static_cast<double>(uv_hrtime() - dial_started_ns_) / 1e9);
  const config::Pool& settings = pool_.settings();
  const std::string header = std::exchange(proxy_header_, {});
  stream_->Write(header.empty() ? OwnProxyHeader(settings.forward_client_address, *stream_, remote)
                                : header);
  protocols::ClientFacts facts;
  facts.hostname = worker_.runtime().config.hostname;
  facts.tls = FromConfig(tls_);
  facts.authenticate = settings.login != config::BackendLogin::kNone;
  facts.login_mechanism = FromConfig(settings.login_mechanism);
  if (purpose_ == Purpose::kLogin) facts.known_capabilities = member_->capabilities();
  engine_ = protocols::MakeClientEngine(pool_.protocol(), std::move(facts));
  worker_.deadlines().Arm(
      *this, static_cast<uint64_t>(
                 (purpose_ == Purpose::kCheck ? settings.health_timeout : settings.login_timeout)
                     .count()));
  stream_->ResumeReading();
  if (tls_ == config::BackendTls::kImplicit) {
    StartTls();
  } else {
    Talk();
  }
}

void Opening::StartTls() {
  stream_->StartTls(worker_.peers().Of(pool_, *member_));
}

void Opening::OnPlaintext(net::Stream&, net::Bytes plaintext) {
  if (!engine_) return;
  input_.Append(net::AsText(plaintext));
  Talk();
}

void Opening::OnStreamEvent(net::Stream&, net::Stream::Event event) {
  if (!engine_) return;
  switch (event) {
    case net::Stream::Event::kTlsEstablished:
      worker_.shard().Add(stream_->channel()->resumed() ? pool_.series().tls_resumed
                                                        : pool_.series().tls_full);
      if (tls_ == config::BackendTls::kStartTls) engine_->TlsStarted();
      return Talk();
    case net::Stream::Event::kEnd:
      return Fail(Health::Sign::kFails, "closed", "the backend closed the connection");
    case net::Stream::Event::kFailed: {
      const std::string cause = CountFailure(worker_, pool_, *stream_);
      return Fail(Health::Sign::kFails, cause,
                  (cause.starts_with("tls_") ? "TLS with the backend: " : "") + stream_->error());
    }
    case net::Stream::Event::kDrained:
      return;
  }
}

void Opening::OnDeadline() {
  if (stream_ && stream_->channel() != nullptr && !stream_->channel()->established()) {
    worker_.shard().Add(pool_.series().tls_failed);
    worker_.shard().Add(pool_.series().tls_timeout);
  }
  Fail(Health::Sign::kFails, "timeout", "the backend did not answer in time");
}

void Opening::Talk() {
  protocols::Buffer output;
  const protocols::ClientAction action = engine_->Next(input_, output);
  stream_->Write(output.view());
  if (std::holds_alternative<protocols::StartTls>(action)) return StartTls();
  if (std::holds_alternative<protocols::Ready>(action)) {
    if (state_ != State::kOpening) return;
    net::Deadlines::Disarm(*this);
    state_ = State::kReady;
    ReportSuccess(worker_, pool_, *member_, Stage::kOpening, purpose_);
    return observer_->OnOpened(*this);
  }
  const auto* failed = std::get_if<protocols::Failed>(&action);
  if (failed == nullptr) return;
  worker_.shard().Add(pool_.series().rejected);
  Fail(SignOf(failed->reason), CauseOf(*failed), Describe(*failed, pool_.settings()));
}

void Opening::Fail(Health::Sign sign, std::string_view cause, std::string error) {
  net::Deadlines::Disarm(*this);
  // One that was ready may be given up by the backend when it likes.
  if (state_ == State::kOpening || sign == Health::Sign::kLeaves) {
    ReportFailure(worker_, pool_, *member_, {Stage::kOpening, purpose_, sign, cause, error, {}});
  }
  state_ = sign == Health::Sign::kMisconfigured ? State::kMisconfigured : State::kFailed;
  error_ = std::move(error);
  engine_.reset();
  if (stream_) worker_.Bury(std::move(stream_));
  observer_->OnOpened(*this);
}

std::unique_ptr<net::Stream> Opening::TakeStream(net::Stream::Observer& observer) {
  stream_->SetObserver(observer);
  return std::move(stream_);
}

void Opening::Leave() {
  protocols::Buffer farewell;
  engine_->LogOut(farewell);
  stream_->Write(farewell.view());
}

}  // namespace gatepost::backends
