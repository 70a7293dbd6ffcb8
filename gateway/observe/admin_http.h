// The admin listener: /metrics, /healthz and /readyz over plain HTTP, and for people the status
// page / with /api/status, on threads of its own, so that a scrape never waits for a mail loop nor
// the reverse.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <tl/expected.hpp>

#include "config/schema.h"
#include "gateway/observe/metrics.h"

namespace gatepost::observe {

class AdminHttp {
 public:
  // What is served. All functions are called on the HTTP threads.
  struct Sources {
    const Metrics& metrics;
    // A check answers an empty string when all is well, else why not.
    std::function<std::string()> healthy;
    std::function<std::string()> ready;
    std::function<std::string()> status;  // the JSON of /api/status
    std::string hostname;                 // under which browsers may ask, besides addresses
  };

  // Start listens at `address`; everything given must outlive the object.
  [[nodiscard]] static tl::expected<std::unique_ptr<AdminHttp>, std::string> Start(
      const config::SocketAddress& address, Sources sources);
  ~AdminHttp();
  AdminHttp(const AdminHttp&) = delete;
  AdminHttp& operator=(const AdminHttp&) = delete;

 private:
  AdminHttp() = default;
  struct Server;
  std::unique_ptr<Server> server_;
};

}  // namespace gatepost::observe
