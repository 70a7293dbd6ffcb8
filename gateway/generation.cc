// SPDX-License-Identifier: Apache-2.0
#include "gateway/generation.h"

#include <uv.h>

#include <utility>

namespace gatepost {

Generation::Generation(Prepared prepared, uint64_t number,
                       const ListeningSockets::OfWorkers& sockets)
    : number_(number),
      runtime_(std::move(prepared.runtime)),
      inputs_(std::move(prepared.inputs)),
      ticket_keys_(prepared.tls_files->ticket_keys_to_rotate()),
      first_offer_(prepared.tls_files->contexts()) {
  for (uint32_t i = 0; i < sockets.size(); ++i) {
    workers_.push_back(std::make_unique<Worker>(*runtime_, i, sockets[i], first_offer_,
                                                prepared.tls_files->backend_contexts()));
  }
  runtime_->renew_roster = [this](const backends::Pool& pool) {
    for (const auto& worker : workers_) worker->UseRoster(pool);
  };
  for (const TlsFiles::Status& status : prepared.tls_files->statuses()) {
    if (status.problem.empty()) continue;
    runtime_->log->Write(observe::Level::kError, "certificate",
                         {{"result", "failed"}, {"file", status.part}, {"detail", status.problem}});
  }
  tls_watch_ = std::make_unique<TlsWatch>(
      std::move(prepared.tls_files), runtime_->config.process.file_poll_interval, *runtime_->log,
      [this](const TlsFiles& files) { OnFiles(files); });
}

Generation::~Generation() {
  Join();
  tls_watch_.reset();
  workers_.clear();
}

void Generation::OnFiles(const TlsFiles& files) {
  for (const auto& listener : runtime_->listeners) {
    if (auto map = files.certificate_map(listener->index)) {
      listener->certificate_users->Renew(std::move(map));
    }
  }
  RenewRoutes(files, runtime_->config.routes.size(), *runtime_->routes);
  for (const auto& worker : workers_) {
    worker->Offer(files.contexts());
    worker->SpeakTo(files.backend_contexts());
  }
}

void Generation::Start(std::function<void()> ended) {
  for (const auto& worker : workers_) worker->Start();
  joiner_ = std::thread([this, ended = std::move(ended)] {
    for (const auto& worker : workers_) worker->Join();
    ended_.store(true);
    ended();
  });
}

void Generation::Join() {
  if (joiner_.joinable()) joiner_.join();
}

void Generation::Supersede() {
  tls_watch_->End();
  for (const auto& worker : workers_) worker->Supersede();
  superseded_ = std::chrono::steady_clock::now();
}

bool Generation::OutOfTime(std::chrono::milliseconds limit) {
  if (!superseded_ || std::chrono::steady_clock::now() - *superseded_ < limit) return false;
  superseded_.reset();
  return true;
}

void Generation::Drain(uint64_t spread_ms, uint64_t deadline_ms) {
  for (const auto& worker : workers_) worker->Drain(spread_ms, deadline_ms);
}

std::optional<size_t> Generation::Stuck(uint64_t patience_ns) const {
  if (ended()) return std::nullopt;
  const uint64_t now = uv_hrtime();
  for (size_t i = 0; i < workers_.size(); ++i) {
    const uint64_t seen = workers_[i]->heartbeat();
    if (now > seen && now - seen > patience_ns) return i;
  }
  return std::nullopt;
}

}  // namespace gatepost
