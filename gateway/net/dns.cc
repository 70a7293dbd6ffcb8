// SPDX-License-Identifier: Apache-2.0
#include "gateway/net/dns.h"

#include <ares.h>
#include <arpa/nameser.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <memory>
#include <mutex>
#include <utility>

namespace gatepost::net {
namespace {

constexpr int kTimeoutMs = 2'000;  // of the first try
constexpr int kTries = 2;

// Asking is one query while it is under way.
struct Asking {
  DnsAnswer answer;
  bool done = false;
};

std::string Text(int status) {
  return ares_strerror(status);
}

void OnAddresses(void* argument, int status, int, ares_addrinfo* result) {
  auto& asking = *static_cast<Asking*>(argument);
  asking.done = true;
  const std::unique_ptr<ares_addrinfo, decltype(&ares_freeaddrinfo)> owned(result,
                                                                           &ares_freeaddrinfo);
  if (status != ARES_SUCCESS) {
    asking.answer.error = Text(status);
    return;
  }
  int ttl = 0;
  for (const ares_addrinfo_node* node = result->nodes; node != nullptr; node = node->ai_next) {
    asking.answer.addresses.emplace_back(node->ai_addr);
    if (node->ai_ttl > 0) ttl = ttl == 0 ? node->ai_ttl : std::min(ttl, node->ai_ttl);
  }
  for (const ares_addrinfo_cname* name = result->cnames; name != nullptr; name = name->next) {
    if (name->ttl > 0) ttl = ttl == 0 ? name->ttl : std::min(ttl, name->ttl);
  }
  asking.answer.ttl = std::chrono::seconds(ttl);
}

void OnServices(void* argument, int status, int, unsigned char* reply, int length) {
  auto& asking = *static_cast<Asking*>(argument);
  asking.done = true;
  ares_srv_reply* first = nullptr;
  if (status == ARES_SUCCESS) status = ares_parse_srv_reply(reply, length, &first);
  const std::unique_ptr<ares_srv_reply, decltype(&ares_free_data)> owned(first, &ares_free_data);
  if (status != ARES_SUCCESS) {
    asking.answer.error = Text(status);
    return;
  }
  for (const ares_srv_reply* record = first; record != nullptr; record = record->next) {
    asking.answer.services.push_back(
        {record->host, record->port, record->priority, record->weight});
  }
}

// Run waits for the channel's sockets until the question is answered or given up. Not select: a
// gateway has descriptors above its limit.
void Run(ares_channel channel, const Asking& asking) {
  while (!asking.done) {
    std::array<ares_socket_t, ARES_GETSOCK_MAXNUM> sockets{};
    const int wanted = ares_getsock(channel, sockets.data(), static_cast<int>(sockets.size()));
    std::array<pollfd, ARES_GETSOCK_MAXNUM> polled{};
    nfds_t count = 0;
    for (unsigned i = 0; i < sockets.size(); ++i) {
      const int events = (ARES_GETSOCK_READABLE(wanted, i) ? POLLIN : 0) |
                         (ARES_GETSOCK_WRITABLE(wanted, i) ? POLLOUT : 0);
      if (events != 0) polled[count++] = {sockets[i], static_cast<short>(events), 0};
    }
    timeval longest{1, 0};
    timeval buffer{};
    const timeval* wait = ares_timeout(channel, &longest, &buffer);
    (void)poll(polled.data(), count, static_cast<int>(wait->tv_sec * 1000 + wait->tv_usec / 1000));
    if (count == 0) ares_process_fd(channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    for (nfds_t i = 0; i < count; ++i) {
      ares_process_fd(
          channel,
          (polled[i].revents & (POLLIN | POLLERR | POLLHUP)) != 0 ? polled[i].fd : ARES_SOCKET_BAD,
          (polled[i].revents & POLLOUT) != 0 ? polled[i].fd : ARES_SOCKET_BAD);
    }
  }
}

DnsAnswer Ask(DnsQuery::Kind kind, const std::string& name, const std::string& server) {
  static std::once_flag once;
  std::call_once(once, [] { ares_library_init(ARES_LIB_INIT_ALL); });
  Asking asking;
  ares_options options{};
  options.timeout = kTimeoutMs;
  options.tries = kTries;
  ares_channel channel = nullptr;
  int status = ares_init_options(&channel, &options, ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES);
  if (status != ARES_SUCCESS) {
    asking.answer.error = Text(status);
    return std::move(asking.answer);
  }
  if (!server.empty()) status = ares_set_servers_ports_csv(channel, server.c_str());
  if (status != ARES_SUCCESS) {
    asking.answer.error = Text(status);
  } else {
    if (kind == DnsQuery::Kind::kAddresses) {
      ares_addrinfo_hints hints{};
      hints.ai_family = AF_UNSPEC;
      hints.ai_socktype = SOCK_STREAM;
      hints.ai_flags = ARES_AI_NOSORT;
      ares_getaddrinfo(channel, name.c_str(), nullptr, &hints, &OnAddresses, &asking);
    } else {
      ares_search(channel, name.c_str(), ns_c_in, ns_t_srv, &OnServices, &asking);
    }
    Run(channel, asking);
  }
  ares_destroy(channel);
  return std::move(asking.answer);
}

}  // namespace

struct DnsQuery::Job {
  uv_work_t uv;
  Kind kind;
  std::string name;
  std::string server;
  DnsAnswer answer;
  DnsQuery* query;     // null once it was given up
  Observer* observer;  // valid while the query is
};

DnsQuery::DnsQuery(uv_loop_t* loop, Kind kind, std::string name, std::string server,
                   Observer& observer)
    : job_(new Job{{}, kind, std::move(name), std::move(server), {}, this, &observer}) {
  job_->uv.data = job_;
  uv_queue_work(
      loop, &job_->uv,
      [](uv_work_t* uv) {
        auto& job = *static_cast<Job*>(uv->data);
        job.answer = Ask(job.kind, job.name, job.server);
      },
      [](uv_work_t* uv, int) {
        const std::unique_ptr<Job> job(static_cast<Job*>(uv->data));
        if (job->query == nullptr) return;
        job->query->job_ = nullptr;
        job->observer->OnDnsAnswer(std::move(job->answer));
      });
}

DnsQuery::~DnsQuery() {
  if (job_ != nullptr) job_->query = nullptr;
}

}  // namespace gatepost::net
