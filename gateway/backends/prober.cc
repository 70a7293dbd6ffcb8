// SPDX-License-Identifier: Apache-2.0
#include "gateway/backends/prober.h"

#include <string>
#include <utility>
#include <variant>

#include "gateway/backends/directory.h"
#include "gateway/net/deadlines.h"
#include "gateway/net/dialer.h"
#include "gateway/net/stream.h"
#include "gateway/worker.h"
#include "protocols/engines.h"

namespace gatepost::backends {
namespace {

constexpr uint64_t kKnownMs = 60'000;
constexpr uint64_t kUnknownMs = 3'000;

}  // namespace

// Probe asks one pool, member after member until one answers, again and again.
class Prober::Probe final : private net::Deadlines::Entry,
                            public net::Dial::Observer,
                            public net::Stream::Observer {
 public:
  Probe(Worker& worker, Pool& pool) : worker_(worker), pool_(pool) { Begin(); }
  ~Probe() {
    if (stream_) worker_.Bury(std::move(stream_));
  }

 private:
  void Begin() {
    member_ = 0;
    Dial();
  }

  void Dial() {
    const config::Member& member = pool_.settings().members[member_];
    dial_ = std::make_unique<net::Dial>(worker_.loop(), worker_.resolver(), worker_.deadlines(),
                                        member.host, member.port, pool_.settings().connect_timeout,
                                        *this);
  }

  void OnDialed(net::Dial&) override {
    const std::unique_ptr<net::Dial> dial = std::move(dial_);
    if (dial->result() != net::Dial::Result::kConnected) return Failed(dial->error());
    stream_ = std::make_unique<net::Stream>(worker_.io(), dial->TakeConnection(), *this);
    protocols::ClientFacts facts;
    facts.hostname = worker_.runtime().config.hostname;
    facts.tls = pool_.settings().tls == config::BackendTls::kNone ? protocols::BackendTls::kNone
                : pool_.settings().tls == config::BackendTls::kImplicit
                    ? protocols::BackendTls::kImplicit
                    : protocols::BackendTls::kStartTls;
    engine_ = protocols::MakeClientEngine(pool_.protocol(), std::move(facts));
    input_.Clear();
    worker_.deadlines().Arm(*this, static_cast<uint64_t>(pool_.settings().login_timeout.count()));
    if (pool_.settings().tls == config::BackendTls::kImplicit) {
      StartTls();
      stream_->ResumeReading();
    } else {
      stream_->ResumeReading();
      Talk();
    }
  }

  void StartTls() {
    stream_->StartTls(pool_.tls(), pool_.ServerName(pool_.settings().members[member_]));
  }

  void OnPlaintext(net::Stream&, net::Bytes plaintext) override {
    input_.Append(net::AsText(plaintext));
    Talk();
  }

  void OnStreamEvent(net::Stream&, net::Stream::Event event) override {
    switch (event) {
      case net::Stream::Event::kTlsEstablished:
        if (pool_.settings().tls == config::BackendTls::kStartTls) engine_->TlsStarted();
        return Talk();
      case net::Stream::Event::kEnd:
        return Failed("the backend closed the connection");
      case net::Stream::Event::kFailed:
        return Failed(stream_->error());
      case net::Stream::Event::kDrained:
        return;
    }
  }

  void Talk() {
    protocols::Buffer output;
    const protocols::ClientAction action = engine_->Next(input_, output);
    stream_->Write(output.view());
    if (std::holds_alternative<protocols::StartTls>(action)) return StartTls();
    if (std::holds_alternative<protocols::LoggedIn>(action)) return Learnt();
    if (const auto* failed = std::get_if<protocols::Failed>(&action)) return Failed(failed->detail);
  }

  void Learnt() {
    pool_.SetCapabilities(engine_->capabilities());
    last_error_.clear();
    Rest(kKnownMs);
  }

  void Failed(const std::string& why) {
    Drop();
    if (why != last_error_) {  // once a cause, not once an attempt
      worker_.log().Write(
          observe::Level::kWarning, "probe_failed",
          {{"pool", pool_.settings().name},
           {"protocol", protocols::Name(pool_.protocol())},
           {"backend", pool_.settings().members[member_].host + ":" +
                           std::to_string(pool_.settings().members[member_].port)},
           {"detail", why.empty() ? std::string("the backend broke the protocol") : why}});
      last_error_ = why;
    }
    if (++member_ < pool_.settings().members.size()) return Dial();
    Rest(pool_.capabilities() ? kKnownMs : kUnknownMs);
  }

  void Rest(uint64_t delay_ms) {
    Drop();
    pool_.SetProbed();
    resting_ = true;
    worker_.deadlines().Arm(*this, delay_ms);
  }

  void Drop() {
    net::Deadlines::Disarm(*this);
    if (stream_) worker_.Bury(std::move(stream_));
  }

  void OnDeadline() override {
    if (std::exchange(resting_, false)) return Begin();
    Failed("the backend did not answer in time");
  }

  Worker& worker_;
  Pool& pool_;
  size_t member_ = 0;
  std::unique_ptr<net::Dial> dial_;
  std::unique_ptr<net::Stream> stream_;
  std::unique_ptr<protocols::ClientEngine> engine_;
  protocols::Buffer input_;
  std::string last_error_;
  bool resting_ = false;
};

Prober::Prober(Worker& worker) {
  for (const auto& pool : worker.runtime().directory->pools()) {
    probes_.push_back(std::make_unique<Probe>(worker, *pool));
  }
}

Prober::~Prober() = default;

}  // namespace gatepost::backends
