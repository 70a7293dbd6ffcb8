// The last failed logins of the process, for who looks: a bounded ring, without secrets.
//
// Written once for each failure, which costs the client far more. Thread-safe.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace gatepost::observe {

struct FailedLogin {
  int64_t time = 0;  // Unix time
  std::string_view protocol{};
  std::string listener{};
  std::string client{};  // its address
  std::string user{};    // not trusted
  std::string_view mechanism{};
  std::string_view reason{};  // as in gatepost_auth_failures_total
};

class FailedLogins {
 public:
  static constexpr size_t kKept = 50;

  void Add(FailedLogin login);
  // The newest first.
  [[nodiscard]] std::vector<FailedLogin> Latest() const;

 private:
  mutable std::mutex mutex_;
  std::array<FailedLogin, kKept> ring_;
  size_t next_ = 0;
  size_t count_ = 0;
};

}  // namespace gatepost::observe
