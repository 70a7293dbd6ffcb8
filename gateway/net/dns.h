// One question to the DNS, asked with c-ares off the loop: all addresses of a name, or SRV records.
//
// Beside getaddrinfo (net/resolver) it knows how long an answer is good, and any name server. Asked
// on one of libuv's threads, for seconds at most; the owner destroys it to give up. One loop
// thread. RFC 1035, RFC 2782. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <uv.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "gateway/net/address.h"

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
    // Called once, from the loop. The query may be destroyed by the observer.
    virtual void OnDnsAnswer(DnsAnswer answer) = 0;

   protected:
    ~Observer() = default;
  };

  // `server`: "ADDRESS:PORT" of the name server; empty: the system's, with its hosts file and
  // search list.
  DnsQuery(uv_loop_t* loop, Kind kind, std::string name, std::string server, Observer& observer);
  ~DnsQuery();
  DnsQuery(const DnsQuery&) = delete;
  DnsQuery& operator=(const DnsQuery&) = delete;

 private:
  struct Job;
  Job* job_;  // owned by libuv until its callback
};

}  // namespace gatepost::net
