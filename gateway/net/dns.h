// One question to the DNS, asked with c-ares on the loop: all addresses of a name, or SRV records.
//
// Beside getaddrinfo (net/resolver) it knows how long an answer is good, and any name server. It
// takes no thread, so that names without an answer, however many, hold up nothing else; the owner
// destroys it to give up, which takes no time. One loop thread. RFC 1035, RFC 2782.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <uv.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gateway/net/address.h"
#include "gateway/net/uv_handle.h"

struct ares_channeldata;

namespace gatepost::net {

struct DnsAnswer {
  struct Service {
    std::string host;
    uint16_t port;
    uint16_t priority;  // the lowest is to be used first
    uint16_t weight;
  };
  std::vector<Address> addresses;  // with port 0, in no certain order
  std::vector<Service> services;   // likewise
  std::chrono::seconds ttl{0};     // for which it is good; 0: not known
  std::string error;               // empty where there is an answer
};

class DnsQuery {
 public:
  enum class Kind : uint8_t { kAddresses, kServices };

  class Observer {
   public:
    // Called once, later, from the loop. The query may be destroyed by the observer.
    virtual void OnDnsAnswer(DnsAnswer answer) = 0;

   protected:
    ~Observer() = default;
  };

  // `server`: "ADDRESS:PORT" of the name server; empty: the system's, with its hosts file and
  // search list.
  DnsQuery(uv_loop_t* loop, Kind kind, const std::string& name, const std::string& server,
           Observer& observer);
  DnsQuery(const DnsQuery&) = delete;
  DnsQuery& operator=(const DnsQuery&) = delete;

 private:
  struct Destroy {
    void operator()(ares_channeldata* channel) const;
  };

  void Ask(Kind kind, const std::string& name, const std::string& server);
  void Fail(int status);
  void OnSocket(int socket, bool readable, bool writable);
  void Proceed(int readable, int writable);
  void Await();

  uv_loop_t* loop_;
  Observer& observer_;
  DnsAnswer answer_;
  bool done_ = false;
  HandlePtr<uv_timer_t> timer_;
  std::map<int, HandlePtr<uv_poll_t>> sockets_;         // those of c-ares
  std::unique_ptr<ares_channeldata, Destroy> channel_;  // calls back while it goes
};

}  // namespace gatepost::net
