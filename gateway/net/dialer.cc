// SPDX-License-Identifier: Apache-2.0
#include "gateway/net/dialer.h"

#include <algorithm>
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
  if (const Resolver::Answer* cached = resolver.Cached(host_);
      cached != nullptr && !cached->addresses.empty()) {
    Use(cached->addresses);
  } else {
    deadlines_.Arm(*this, Left());
    ticket_ =
        resolver.Resolve(host_, [this](const Resolver::Answer& answer) { OnResolved(answer); });
  }
}

Dial::Dial(uv_loop_t* loop, const std::vector<Address>& addresses, Deadlines& deadlines,
           std::chrono::milliseconds timeout, Observer& observer)
    : loop_(loop),
      observer_(observer),
      deadlines_(deadlines),
      give_up_ms_(uv_now(loop) + static_cast<uint64_t>(timeout.count())) {
  Use(addresses);
}

Dial::~Dial() {
  for (const Attempt& attempt : attempts_) attempt.request->dial = nullptr;
}

uint64_t Dial::Left() const {
  const uint64_t now = uv_now(loop_);
  return give_up_ms_ > now ? give_up_ms_ - now : 0;
}

void Dial::OnResolved(const Resolver::Answer& answer) {
  if (answer.addresses.empty()) return Finish(Result::kUnresolved, answer.error);
  Use(answer.addresses);
}

// Use takes the families in turn, beginning with the one that the system prefers (RFC 8305 §4).
void Dial::Use(const std::vector<Address>& addresses) {
  std::vector<Address> others;
  for (const Address& address : addresses) {
    (address.family() == addresses.front().family() ? addresses_ : others).push_back(address);
  }
  for (size_t i = 0; i < others.size(); ++i) {
    const auto place = std::min(2 * i + 1, addresses_.size());
    addresses_.insert(addresses_.begin() + static_cast<ptrdiff_t>(place), others[i]);
  }
  TryNext();
}

void Dial::TryNext() {
  while (next_ < addresses_.size()) {
    if (attempts_.size() >= kMaxAttempts) {
      attempts_.front().request->dial = nullptr;
      attempts_.erase(attempts_.begin());
    }
    address_ = addresses_[next_++];
    if (port_ != 0) address_.set_port(port_);
    HandlePtr<uv_tcp_t> connection(new uv_tcp_t);
    uv_tcp_init(loop_, connection.get());
    auto request = std::make_unique<Request>();
    request->dial = this;
    request->uv.data = request.get();
    const int status = uv_tcp_connect(
        &request->uv, connection.get(), address_.get(), [](uv_connect_t* uv, int connect_status) {
          const std::unique_ptr<Request> done(static_cast<Request*>(uv->data));
          if (done->dial != nullptr) done->dial->OnConnect(done.get(), connect_status);
        });
    if (status == 0) {
      attempts_.push_back({request.release(), address_, std::move(connection)});
      deadlines_.Arm(*this, next_ < addresses_.size() ? std::min(kNextMs, Left()) : Left());
      return;
    }
    error_ = address_.Text() + ": " + uv_strerror(status);
  }
  // Every address failed at once (no descriptors left, say): report from the loop, not from here.
  if (attempts_.empty()) deadlines_.Arm(*this, 0);
}

void Dial::OnConnect(Request* request, int status) {
  const auto attempt = std::find_if(attempts_.begin(), attempts_.end(),
                                    [&](const Attempt& other) { return other.request == request; });
  if (status == 0) {
    address_ = attempt->address;
    connection_ = std::move(attempt->connection);
    attempts_.erase(attempt);
    return Finish(Result::kConnected, {});
  }
  error_ = attempt->address.Text() + ": " + uv_strerror(status);
  attempts_.erase(attempt);
  if (next_ < addresses_.size()) return TryNext();
  if (attempts_.empty()) Finish(Result::kRefused, error_);
}

void Dial::OnDeadline() {
  const bool begun = !addresses_.empty();
  if (begun && attempts_.empty()) return Finish(Result::kRefused, error_);
  if (next_ < addresses_.size() && Left() > 0) return TryNext();
  Finish(Result::kTimeout,
         (begun ? address_.Text() + ": connecting" : host_ + ": name resolution") + " timed out");
}

void Dial::Finish(Result result, std::string error) {
  Deadlines::Disarm(*this);
  ticket_.reset();
  for (const Attempt& attempt : attempts_) attempt.request->dial = nullptr;
  attempts_.clear();
  result_ = result;
  error_ = std::move(error);
  observer_.OnDialed(*this);
}

}  // namespace gatepost::net
