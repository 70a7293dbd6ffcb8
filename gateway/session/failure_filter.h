// Which failed handshakes get a line in the log: of each client network one now and then, so that
// no scanner can fill it.
//
// Shared by all workers and thread-safe; of fixed size. Where two networks fall on one place, the
// newer takes it, and the lines of all together are limited, so that many addresses help nobody.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include "gateway/net/address.h"

namespace gatepost::session {

class FailureFilter {
 public:
  // A network gets a line every `interval_ms`; 0: always. All together get kLinesPerSecond.
  explicit FailureFilter(uint64_t interval_ms);

  // Admit returns how many lines of this network were held back since its last one, or nothing:
  // this one is to be held back too. `now_ms`: the workers' clocks, which may differ a little.
  [[nodiscard]] std::optional<uint32_t> Admit(const net::Address& client, uint64_t now_ms);

  static constexpr uint64_t kLinesPerSecond = 20;

 private:
  struct Entry {
    net::Address::NetworkKey network{};
    bool used = false;
    uint32_t held_back = 0;
    uint64_t line_ms = 0;
  };

  const uint64_t interval_ms_;
  std::mutex mutex_;
  std::vector<Entry> entries_;
  uint64_t second_ = 0;  // the one in which `lines_` were admitted
  uint64_t lines_ = 0;
};

}  // namespace gatepost::session
