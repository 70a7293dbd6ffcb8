// SPDX-License-Identifier: Apache-2.0
#include "gateway/net/dns.h"

#include <ares.h>
#include <arpa/nameser.h>

#include <algorithm>
#include <mutex>
#include <utility>

namespace gatepost::net {
namespace {

constexpr int kTimeoutMs = 2'000;  // of the first try
constexpr int kTries = 2;

// Takes what c-ares has found; it is c-ares' own.
void TakeAddresses(const ares_addrinfo& found, DnsAnswer& answer) {
  int ttl = 0;
  for (const ares_addrinfo_node* node = found.nodes; node != nullptr; node = node->ai_next) {
    answer.addresses.emplace_back(node->ai_addr);
    if (node->ai_ttl > 0) ttl = ttl == 0 ? node->ai_ttl : std::min(ttl, node->ai_ttl);
  }
  for (const ares_addrinfo_cname* name = found.cnames; name != nullptr; name = name->next) {
    if (name->ttl > 0) ttl = ttl == 0 ? name->ttl : std::min(ttl, name->ttl);
  }
  answer.ttl = std::chrono::seconds(ttl);
}

// TakeServices returns one of c-ares' statuses.
int TakeServices(const unsigned char* reply, int length, DnsAnswer& answer) {
  ares_srv_reply* first = nullptr;
  const int status = ares_parse_srv_reply(reply, length, &first);
  const std::unique_ptr<ares_srv_reply, decltype(&ares_free_data)> owned(first, &ares_free_data);
  if (status != ARES_SUCCESS) return status;
  for (const ares_srv_reply* record = first; record != nullptr; record = record->next) {
    answer.services.push_back({record->host, record->port, record->priority, record->weight});
  }
  return ARES_SUCCESS;
}

}  // namespace

DnsQuery::DnsQuery(uv_loop_t* loop, Kind kind, const std::string& name, const std::string& server,
                   Observer& observer)
    : loop_(loop), observer_(observer), timer_(new uv_timer_t) {
  uv_timer_init(loop, timer_.get());
  timer_->data = this;
  Ask(kind, name, server);
  Await();
}

void DnsQuery::Destroy::operator()(ares_channeldata* channel) const {
  ares_destroy(channel);
}

void DnsQuery::Ask(Kind kind, const std::string& name, const std::string& server) {
  static std::once_flag once;
  std::call_once(once, [] { ares_library_init(ARES_LIB_INIT_ALL); });
  ares_options options{};
  options.timeout = kTimeoutMs;
  options.tries = kTries;
  options.sock_state_cb = [](void* self, ares_socket_t socket, int readable, int writable) {
    static_cast<DnsQuery*>(self)->OnSocket(socket, readable != 0, writable != 0);
  };
  options.sock_state_cb_data = this;
  ares_channel channel = nullptr;
  int status = ares_init_options(&channel, &options,
                                 ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB);
  if (status != ARES_SUCCESS) return Fail(status);
  channel_.reset(channel);
  if (!server.empty()) status = ares_set_servers_ports_csv(channel, server.c_str());
  if (status != ARES_SUCCESS) return Fail(status);
  switch (kind) {
    case Kind::kAddresses: {
      ares_addrinfo_hints hints{};
      hints.ai_family = AF_UNSPEC;
      hints.ai_socktype = SOCK_STREAM;
      hints.ai_flags = ARES_AI_NOSORT;
      ares_getaddrinfo(
          channel, name.c_str(), nullptr, &hints,
          [](void* query, int result, int, ares_addrinfo* found) {
            const std::unique_ptr<ares_addrinfo, decltype(&ares_freeaddrinfo)> owned(
                found, &ares_freeaddrinfo);
            auto& self = *static_cast<DnsQuery*>(query);
            if (result != ARES_SUCCESS) return self.Fail(result);
            TakeAddresses(*found, self.answer_);
            self.done_ = true;
          },
          this);
      return;
    }
    case Kind::kServices:
      ares_search(
          channel, name.c_str(), ns_c_in, ns_t_srv,
          [](void* query, int result, int, unsigned char* reply, int length) {
            auto& self = *static_cast<DnsQuery*>(query);
            if (result == ARES_SUCCESS) result = TakeServices(reply, length, self.answer_);
            if (result != ARES_SUCCESS) return self.Fail(result);
            self.done_ = true;
          },
          this);
      return;
  }
}

void DnsQuery::Fail(int status) {
  answer_.error = ares_strerror(status);
  done_ = true;
}

// OnSocket is told by c-ares what it waits for at `socket`; for nothing before it closes it.
void DnsQuery::OnSocket(int socket, bool readable, bool writable) {
  if (!readable && !writable) {
    sockets_.erase(socket);
    return;
  }
  HandlePtr<uv_poll_t>& poll = sockets_[socket];
  if (!poll) {
    auto made = std::make_unique<uv_poll_t>();
    if (uv_poll_init(loop_, made.get(), socket) != 0) return;  // c-ares' own timer ends it
    poll.reset(made.release());
    poll->data = this;
  }
  uv_poll_start(poll.get(), (readable ? UV_READABLE : 0) | (writable ? UV_WRITABLE : 0),
                [](uv_poll_t* handle, int status, int events) {
                  uv_os_fd_t own = ARES_SOCKET_BAD;
                  uv_fileno(reinterpret_cast<uv_handle_t*>(handle), &own);
                  const auto has = [&](int event) {
                    return status < 0 || (events & event) != 0 ? own : ARES_SOCKET_BAD;
                  };
                  static_cast<DnsQuery*>(handle->data)->Proceed(has(UV_READABLE), has(UV_WRITABLE));
                });
}

// Proceed has c-ares use these sockets, and look at the time. It may destroy the query.
void DnsQuery::Proceed(int readable, int writable) {
  if (!done_) ares_process_fd(channel_.get(), readable, writable);
  if (!done_) return Await();
  channel_.reset();
  timer_.reset();
  observer_.OnDnsAnswer(std::move(answer_));
}

// Await sets the timer for what c-ares does next without a socket; what is done is told next.
void DnsQuery::Await() {
  uint64_t wait_ms = 0;
  if (!done_) {
    timeval longest{1, 0};
    timeval buffer{};
    const timeval* wait = ares_timeout(channel_.get(), &longest, &buffer);
    wait_ms = static_cast<uint64_t>(wait->tv_sec) * 1000 +
              static_cast<uint64_t>(wait->tv_usec) / 1000 + 1;  // not before
  }
  uv_timer_start(
      timer_.get(),
      [](uv_timer_t* timer) {
        static_cast<DnsQuery*>(timer->data)->Proceed(ARES_SOCKET_BAD, ARES_SOCKET_BAD);
      },
      wait_ms, 0);
}

}  // namespace gatepost::net
