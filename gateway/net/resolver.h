// Host names to addresses, off the loop (getaddrinfo on libuv's threads) and cached.
//
// One worker's. An answer is kept for kFreshMs; after that it is still used while a new one is
// fetched, so only the first login that meets a name waits for DNS. Failures are kept for 1 s.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <uv.h>

#include <functional>
#include <list>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "gateway/net/address.h"

namespace gatepost::net {

class Resolver {
 public:
  struct Answer {
    std::vector<Address> addresses;  // port 0; empty on failure
    std::string error;
  };
  using Callback = std::function<void(const Answer&)>;

  // Ticket is one question; destroying it before the answer forgets it.
  class Ticket {
   public:
    Ticket(const Ticket&) = delete;
    Ticket& operator=(const Ticket&) = delete;
    ~Ticket();

   private:
    friend class Resolver;
    explicit Ticket(Callback callback) : callback_(std::move(callback)) {}
    Callback callback_;
    std::list<Ticket*>* waiting_ = nullptr;  // the list that holds it
  };

  explicit Resolver(uv_loop_t* loop);
  ~Resolver();
  Resolver(const Resolver&) = delete;
  Resolver& operator=(const Resolver&) = delete;

  // Cached returns a usable answer without waiting (an address literal always has one), or null;
  // the pointer is valid until the next call. A stale answer is returned and refreshed.
  [[nodiscard]] const Answer* Cached(const std::string& host);

  // Resolve asks; `callback` runs later on the loop, once, unless the ticket is destroyed first.
  [[nodiscard]] std::unique_ptr<Ticket> Resolve(const std::string& host, Callback callback);

 private:
  static constexpr uint64_t kFreshMs = 30'000;
  static constexpr uint64_t kFailureMs = 1'000;
  struct Entry;
  struct Request;

  void Ask(Entry& entry);
  static void OnAnswer(uv_getaddrinfo_t* request, int status, addrinfo* result);

  uv_loop_t* loop_;
  std::unordered_map<std::string, std::unique_ptr<Entry>> entries_;
};

}  // namespace gatepost::net
