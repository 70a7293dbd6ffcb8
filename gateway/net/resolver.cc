// SPDX-License-Identifier: Apache-2.0
#include "gateway/net/resolver.h"

#include <netdb.h>

#include <algorithm>
#include <utility>

namespace gatepost::net {

struct Resolver::Entry {
  std::string host;
  Answer answer;
  uint64_t answered_at = 0;
  bool known = false;
  Request* asking = nullptr;
  std::list<Ticket*> waiting;
};

struct Resolver::Request {
  uv_getaddrinfo_t uv;
  Entry* entry;  // null once the resolver is gone
};

Resolver::Ticket::~Ticket() {
  if (waiting_ != nullptr) waiting_->remove(this);
}

Resolver::Resolver(uv_loop_t* loop) : loop_(loop) {}

Resolver::~Resolver() {
  for (auto& [host, entry] : entries_) {
    if (entry->asking != nullptr) {
      entry->asking->entry = nullptr;
      uv_cancel(reinterpret_cast<uv_req_t*>(&entry->asking->uv));  // unless it has begun
    }
    for (Ticket* ticket : entry->waiting) ticket->waiting_ = nullptr;
  }
}

const Resolver::Answer* Resolver::Cached(const std::string& host) {
  std::unique_ptr<Entry>& entry = entries_[host];
  if (!entry) {
    entry = std::make_unique<Entry>();
    entry->host = host;
    if (const auto literal = Address::Parse(host, 0)) {
      entry->answer.addresses = {*literal};
      entry->known = true;
      entry->answered_at = UINT64_MAX;
    }
  }
  if (!entry->known) return nullptr;
  if (entry->answered_at == UINT64_MAX) return &entry->answer;
  const uint64_t age = uv_now(loop_) - entry->answered_at;
  if (entry->answer.addresses.empty() && age > kFailureMs) return nullptr;
  if (age > kFreshMs) Ask(*entry);
  return &entry->answer;
}

std::unique_ptr<Resolver::Ticket> Resolver::Resolve(const std::string& host, Callback callback) {
  (void)Cached(host);  // makes the entry
  Entry& entry = *entries_[host];
  std::unique_ptr<Ticket> ticket(new Ticket(std::move(callback)));
  entry.waiting.push_back(ticket.get());
  ticket->waiting_ = &entry.waiting;
  Ask(entry);
  return ticket;
}

void Resolver::Ask(Entry& entry) {
  if (entry.asking != nullptr) return;
  auto request = std::make_unique<Request>();
  request->entry = &entry;
  request->uv.data = request.get();
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_ADDRCONFIG;
  if (uv_getaddrinfo(loop_, &request->uv, &Resolver::OnAnswer, entry.host.c_str(), nullptr,
                     &hints) == 0) {
    entry.asking = request.release();
  }
}

void Resolver::OnAnswer(uv_getaddrinfo_t* uv, int status, addrinfo* result) {
  const std::unique_ptr<Request> request(static_cast<Request*>(uv->data));
  const std::unique_ptr<addrinfo, decltype(&uv_freeaddrinfo)> owned(result, &uv_freeaddrinfo);
  if (request->entry == nullptr) return;
  Entry& entry = *request->entry;
  entry.asking = nullptr;
  entry.answered_at = uv_now(uv->loop);
  if (status == 0) {
    entry.answer = {};
    for (const addrinfo* found = result; found != nullptr; found = found->ai_next) {
      entry.answer.addresses.emplace_back(found->ai_addr);
    }
  } else if (!entry.known || entry.answer.addresses.empty()) {
    // A name that was known keeps its last addresses while DNS is away.
    entry.answer = {{}, entry.host + ": " + uv_strerror(status)};
  }
  entry.known = true;
  // A callback may ask again or destroy other tickets: take them one by one.
  std::list<Ticket*> waiting;
  waiting.swap(entry.waiting);
  for (Ticket* ticket : waiting) ticket->waiting_ = &waiting;
  const Answer answer = entry.answer;
  while (!waiting.empty()) {
    Ticket* ticket = waiting.front();
    waiting.pop_front();
    ticket->waiting_ = nullptr;
    const Callback callback = std::move(ticket->callback_);
    callback(answer);
  }
}

}  // namespace gatepost::net
