// SPDX-License-Identifier: Apache-2.0
#include "gateway/net/dialer.h"

#include <utility>

namespace gatepost::net {

struct Dial::Request {
  uv_connect_t uv;
  Dial* dial;  // null once the attempt was given up
};

Dial::Dial(uv_loop_t* loop, Resolver& resolver, Deadlines& deadlines, std::string host,
           uint16_t port, std::chrono::milliseconds timeout, Observer& observer)
    : loop_(loop),
      host_(std::move(host)),
      port_(port),
      observer_(observer),
      deadlines_(deadlines),
      give_up_ms_(uv_now(loop) + static_cast<uint64_t>(timeout.count())) {
  deadlines_.Arm(*this, static_cast<uint64_t>(timeout.count()));
  if (const Resolver::Answer* cached = resolver.Cached(host_);
      cached != nullptr && !cached->addresses.empty()) {
    addresses_ = cached->addresses;
    TryNext();
  } else {
    ticket_ =
        resolver.Resolve(host_, [this](const Resolver::Answer& answer) { OnResolved(answer); });
  }
}

Dial::~Dial() {
  if (request_ != nullptr) request_->dial = nullptr;
}

void Dial::OnResolved(const Resolver::Answer& answer) {
  addresses_ = answer.addresses;
  if (addresses_.empty()) return Finish(Result::kUnresolved, answer.error);
  TryNext();
}

void Dial::TryNext() {
  while (next_ < addresses_.size()) {
    address_ = addresses_[next_++];
    address_.set_port(port_);
    connection_.reset(new uv_tcp_t);
    uv_tcp_init(loop_, connection_.get());
    auto request = std::make_unique<Request>();
    request->dial = this;
    request->uv.data = request.get();
    const int status = uv_tcp_connect(
        &request->uv, connection_.get(), address_.get(), [](uv_connect_t* uv, int connect_status) {
          const std::unique_ptr<Request> done(static_cast<Request*>(uv->data));
          if (done->dial == nullptr) return;
          done->dial->request_ = nullptr;
          done->dial->OnConnect(connect_status);
        });
    if (status == 0) {
      request_ = request.release();
      const uint64_t now = uv_now(loop_);
      const uint64_t left = give_up_ms_ > now ? give_up_ms_ - now : 0;
      deadlines_.Arm(*this, left / (addresses_.size() - next_ + 1));
      return;
    }
    error_ = address_.Text() + ": " + uv_strerror(status);
  }
  // Every address failed at once (no descriptors left, say): report from the loop, not from here.
  connection_.reset();
  result_ = Result::kRefused;
  deadlines_.Arm(*this, 0);
}

void Dial::OnConnect(int status) {
  if (status == 0) return Finish(Result::kConnected, {});
  error_ = address_.Text() + ": " + uv_strerror(status);
  connection_.reset();
  if (next_ < addresses_.size()) return TryNext();
  Finish(Result::kRefused, error_);
}

void Dial::OnDeadline() {
  if (request_ == nullptr && result_ == Result::kRefused) return Finish(Result::kRefused, error_);
  if (request_ != nullptr) std::exchange(request_, nullptr)->dial = nullptr;
  connection_.reset();
  if (next_ < addresses_.size() && uv_now(loop_) < give_up_ms_) return TryNext();
  Finish(Result::kTimeout,
         (addresses_.empty() ? host_ + ": name resolution" : address_.Text() + ": connecting") +
             " timed out");
}

void Dial::Finish(Result result, std::string error) {
  Deadlines::Disarm(*this);
  ticket_.reset();
  result_ = result;
  error_ = std::move(error);
  observer_.OnDialed(*this);
}

}  // namespace gatepost::net
