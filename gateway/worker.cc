// SPDX-License-Identifier: Apache-2.0
#include "gateway/worker.h"

#include <fmt/format.h>
#include <pthread.h>

#include <algorithm>
#include <csignal>
#include <random>
#include <utility>

#include "gateway/auth/chain.h"
#include "gateway/net/networks.h"
#include "protocols/buffer.h"

namespace gatepost {
namespace {

constexpr uint64_t kTickMs = 1000;
constexpr uint64_t kAcceptErrorLogMs = 10'000;
constexpr uint32_t kMaxEarlyOpenings = 64;
constexpr size_t kVisitedAtOnce = 256;  // well below a millisecond
constexpr size_t kKeptCapacity = 1024;  // of the lists that every iteration empties

// Empty destroys what is in `list`, and gives the memory of a long list back: a crowd left at once.
template <typename T>
void Empty(std::vector<T>& list) {
  if (list.capacity() > kKeptCapacity) {
    std::vector<T>().swap(list);
  } else if (!list.empty()) {
    list.clear();
  }
}

}  // namespace

Worker::Worker(Runtime& runtime, uint32_t index, const std::vector<Socket>& sockets,
               ListenerContexts contexts, backends::BackendContexts backend_contexts)
    : runtime_(runtime),
      index_(index),
      id_salt_(std::random_device()()),
      contexts_(std::move(contexts)),
      peers_(std::move(backend_contexts)),
      shard_(runtime.metrics->NewShard()),
      end_of_iteration_(new uv_check_t),
      tick_(new uv_timer_t) {
  for (const auto& pool : runtime_.directory->pools()) rosters_.push_back(pool->roster());
  uv_loop_init(&loop_);
  inbox_ = std::make_unique<net::Inbox>(&loop_);
  io_ = std::make_unique<net::StreamIo>(&loop_);
  io_->UseSigner();
  deadlines_ = std::make_unique<net::Deadlines>(&loop_);
  resolver_ = std::make_unique<net::Resolver>(&loop_);
  authenticator_ = auth::MakeChain(*this);
  if (runtime.policy) policy_ = std::make_unique<auth::Policy>(*this, *runtime.policy, *this);
  uv_check_init(&loop_, end_of_iteration_.get());
  end_of_iteration_->data = this;
  uv_check_start(end_of_iteration_.get(), [](uv_check_t* check) {
    if (check->data != nullptr) static_cast<Worker*>(check->data)->EndOfIteration();
  });
  uv_timer_init(&loop_, tick_.get());
  tick_->data = this;
  for (const Socket& socket : sockets) {
    listeners_.push_back(
        std::make_unique<net::Listener>(&loop_, socket.descriptor, socket.listener, *this));
  }
  heartbeat_.store(uv_hrtime(), std::memory_order_relaxed);
}

Worker::~Worker() {
  // Whatever still refers to the loop closes first; the loop then runs their close callbacks, and
  // jobs on libuv's threads come home to nobody.
  discovery_.reset();
  prober_.reset();
  listeners_.clear();
  slots_.clear();
  ready_store_.reset();
  policy_.reset();
  authenticator_.reset();
  retired_sessions_.clear();
  buried_streams_.clear();
  io_->signer.reset();
  resolver_.reset();
  deadlines_.reset();
  end_of_iteration_.reset();
  inbox_.reset();
  tick_.reset();
  drain_timer_.reset();
  uv_run(&loop_, UV_RUN_DEFAULT);
  uv_loop_close(&loop_);
  runtime_.metrics->Retire(shard_);
}

// ---- the process's side
// --------------------------------------------------------------------------

void Worker::Start() {
  thread_ = std::thread([this] { Run(); });
}

void Worker::Join() {
  if (thread_.joinable()) thread_.join();
}

void Worker::Offer(ListenerContexts contexts) {
  inbox_->Post(
      [this, contexts = std::move(contexts)]() mutable { contexts_ = std::move(contexts); });
}

void Worker::SpeakTo(backends::BackendContexts contexts) {
  inbox_->Post(
      [this, contexts = std::move(contexts)]() mutable { peers_.Use(std::move(contexts)); });
}

void Worker::UseRoster(const backends::Pool& pool) {
  inbox_->Post([this, &pool, roster = pool.roster()]() mutable {
    rosters_[pool.index()] = std::move(roster);
    if (ready_store_ && !leaving_) ready_store_->Use(pool);
    if (prober_) prober_->Use(pool);
  });
}

void Worker::Supersede() {
  inbox_->Post([this] { BeginSupersede(); });
}

void Worker::Drain(uint64_t spread_ms, uint64_t deadline_ms) {
  inbox_->Post([this, spread_ms, deadline_ms] { BeginDrain(spread_ms, deadline_ms); });
}

void Worker::Visit(std::function<void(session::Session&)> visit) {
  inbox_->Post([this, visit = std::move(visit)]() mutable { VisitFrom(0, std::move(visit)); });
}

// ---- the loop
// ------------------------------------------------------------------------------------

void Worker::Run() {
  pthread_setname_np(pthread_self(), fmt::format("worker-{}", index_).c_str());
  // Signals are the main thread's.
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  uv_update_time(&loop_);
  for (const auto& listener : listeners_) {
    const int status = listener->Start();
    if (status != 0) {
      log().Write(observe::Level::kError, "listen_failed", {{"error", uv_strerror(status)}});
    }
  }
  ready_store_ = std::make_unique<backends::ReadyStore>(*this);
  if (index_ == 0) {
    prober_ = std::make_unique<backends::Prober>(*this);
    discovery_ = std::make_unique<backends::Discovery>(*this);
  }
  next_tick_ns_ = uv_hrtime() + kTickMs * 1'000'000;
  uv_timer_start(
      tick_.get(),
      [](uv_timer_t* timer) {
        if (timer->data != nullptr) static_cast<Worker*>(timer->data)->Tick();
      },
      kTickMs, kTickMs);
  uv_run(&loop_, UV_RUN_DEFAULT);
  inbox_->Close();
  resolver_.reset();  // its questions that have not begun keep others waiting no longer
}

void Worker::Tick() {
  const uint64_t now = uv_hrtime();
  heartbeat_.store(now, std::memory_order_relaxed);
  const uint64_t late = now > next_tick_ns_ ? now - next_tick_ns_ : 0;
  shard_.Observe(runtime_.loop_lag[index_], static_cast<double>(late) / 1e9);
  // libuv's clock is in whole milliseconds; the next tick is due one period after this one was.
  next_tick_ns_ = std::max(next_tick_ns_ + kTickMs * 1'000'000, now);
}

void Worker::EndOfIteration() {
  Empty(retired_sessions_);
  Empty(buried_streams_);
  io_->NextIteration();
  if (leaving_ && session_count_ == 0) uv_stop(&loop_);
}

// ---- sessions
// ------------------------------------------------------------------------------------

void Worker::OnAccept(size_t listener_index, const net::Address& client,
                      net::HandlePtr<uv_tcp_t> connection) {
  const ListenerRuntime& listener = *runtime_.listeners[listener_index];
  shard_.Add(listener.accepted);
  const bool proxied = listener.settings.proxy_protocol != config::ProxyProtocol::kOff;
  if (proxied && !net::IsIn(client, listener.settings.proxy_networks)) {
    return RefuseUntrusted(listener, client);
  }
  switch (Admit(listener, client)) {
    case net::ConnectionLimits::Outcome::kAdmitted:
      break;
    case net::ConnectionLimits::Outcome::kServerFull:
      shard_.Add(listener.rejected_full);
      return RefuseConnection(listener, protocols::Notice::kServerFull, *connection);
    case net::ConnectionLimits::Outcome::kTooManyOfAddress:
      shard_.Add(listener.rejected_address);
      return RefuseConnection(listener, protocols::Notice::kTooManyConnections, *connection);
  }
  shard_.Change(listener.active, 1);
  if (free_slots_.empty()) {
    free_slots_.push_back(static_cast<uint32_t>(slots_.size()));
    slots_.emplace_back();
  }
  const uint32_t index = free_slots_.back();
  free_slots_.pop_back();
  Slot& slot = slots_[index];
  slot.session = std::make_unique<session::Session>(*this, auth::SessionId{index, slot.generation},
                                                    listener, client, std::move(connection));
  ++session_count_;
  slot.session->Begin();
}

// Admit asks the limits. Who comes through a proxy is counted as its client when the proxy has said
// who that is: session/proxy_header.cc, session/introduction.cc.
net::ConnectionLimits::Outcome Worker::Admit(const ListenerRuntime& listener,
                                             const net::Address& client) {
  using Outcome = net::ConnectionLimits::Outcome;
  if (listener.KnowsClient(client)) return runtime_.limits->Admit(client);
  return runtime_.limits->AdmitUnknown() ? Outcome::kAdmitted : Outcome::kServerFull;
}

void Worker::RefuseUntrusted(const ListenerRuntime& listener, const net::Address& peer) {
  shard_.Add(listener.proxy_headers[0][static_cast<size_t>(ProxyHeaderResult::kUntrusted)]);
  const auto held_back = runtime_.failure_filter->Admit(peer, Now());
  if (!held_back) return shard_.Add(listener.series->lines_suppressed);
  log().Write(observe::Level::kWarning, "proxy_untrusted",
              {{"listener", listener.settings.name},
               {"protocol", protocols::Name(listener.protocol)},
               {"proxy", peer.Text()},
               {"suppressed", *held_back},
               {"detail", "not in proxy_networks"}});
}

// RefuseConnection says why where words are possible; inside implicit TLS that would cost a
// handshake, which is what the limit is there to save.
void Worker::RefuseConnection(const ListenerRuntime& listener, protocols::Notice notice,
                              uv_tcp_t& handle) {
  if (listener.settings.tls == config::ListenerTls::kImplicit) return;
  protocols::ServerFacts facts;
  facts.hostname = runtime_.config.hostname;
  protocols::Buffer text;
  protocols::MakeServerEngine(listener.protocol, std::move(facts))->Say(notice, text);
  std::string copy(text.view());
  const uv_buf_t buffer = uv_buf_init(copy.data(), static_cast<unsigned>(copy.size()));
  (void)uv_try_write(reinterpret_cast<uv_stream_t*>(&handle), &buffer, 1);
}

void Worker::OnAcceptError(size_t listener_index, int status) {
  const ListenerRuntime& listener = *runtime_.listeners[listener_index];
  shard_.Add(listener.rejected_error);
  if (last_accept_error_ms_ != 0 && Now() - last_accept_error_ms_ < kAcceptErrorLogMs) return;
  last_accept_error_ms_ = Now();
  log().Write(observe::Level::kError, "accept_failed",
              {{"listener", listener.settings.name}, {"error", uv_strerror(status)}});
}

session::Session* Worker::SessionOf(auth::SessionId id) const {
  if (id.index >= slots_.size()) return nullptr;
  const Slot& slot = slots_[id.index];
  return slot.generation == id.generation ? slot.session.get() : nullptr;
}

void Worker::OnVerdict(auth::SessionId id, auth::Verdict verdict) {
  if (session::Session* session = SessionOf(id)) session->OnVerdict(std::move(verdict));
}

void Worker::OnChallenge(auth::SessionId id, std::string_view challenge) {
  if (session::Session* session = SessionOf(id)) session->OnChallenge(challenge);
}

void Worker::OnPolicy(auth::SessionId id, auth::Policy::Decision decision) {
  if (session::Session* session = SessionOf(id)) session->OnPolicy(std::move(decision));
}

void Worker::Retire(auth::SessionId id, const net::Address* client,
                    const ListenerRuntime& listener) {
  Slot& slot = slots_[id.index];
  retired_sessions_.push_back(std::move(slot.session));
  ++slot.generation;
  free_slots_.push_back(id.index);
  --session_count_;
  shard_.Change(listener.active, -1);
  if (client != nullptr) {
    runtime_.limits->Release(*client);
  } else {
    runtime_.limits->ReleaseUnknown();
  }
}

bool Worker::BeginEarly() {
  if (leaving_ || early_openings_ >= kMaxEarlyOpenings) return false;
  ++early_openings_;
  return true;
}

void Worker::Bury(std::unique_ptr<net::Stream> stream) {
  stream->Abandon();
  buried_streams_.push_back(std::move(stream));
}

std::string Worker::IdText(auth::SessionId id) const {
  return fmt::format("{:08x}{:02x}{:06x}{:04x}", id_salt_, index_ & 0xFF, id.index & 0xFFFFFF,
                     id.generation & 0xFFFF);
}

// ---- shutting down
// -------------------------------------------------------------------------------

template <typename Function>
void Worker::ForEachSession(Function function) {
  for (size_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i].session) function(*slots_[i].session);
  }
}

void Worker::VisitFrom(size_t first, std::function<void(session::Session&)> visit) {
  const size_t end = std::min(first + kVisitedAtOnce, slots_.size());
  for (size_t i = first; i < end; ++i) {
    if (slots_[i].session) visit(*slots_[i].session);
  }
  if (end == slots_.size()) return;
  inbox_->Post(
      [this, end, visit = std::move(visit)]() mutable { VisitFrom(end, std::move(visit)); });
}

void Worker::BeginSupersede() {
  leaving_ = true;
  listeners_.clear();
  discovery_.reset();
  prober_.reset();
  ready_store_->Clear();
}

void Worker::BeginDrain(uint64_t spread_ms, uint64_t deadline_ms) {
  BeginSupersede();
  uint64_t position = 0;
  const uint64_t count = std::max<uint64_t>(session_count_, 1);
  ForEachSession([&](session::Session& session) { session.Drain(spread_ms * position++ / count); });
  drain_timer_.reset(new uv_timer_t);
  uv_timer_init(&loop_, drain_timer_.get());
  drain_timer_->data = this;
  uv_timer_start(
      drain_timer_.get(),
      [](uv_timer_t* timer) {
        if (timer->data == nullptr) return;
        auto& self = *static_cast<Worker*>(timer->data);
        self.ForEachSession([](session::Session& session) { session.DrainDeadline(); });
      },
      deadline_ms, 0);
}

}  // namespace gatepost
