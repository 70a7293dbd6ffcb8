// SPDX-License-Identifier: Apache-2.0
#include "gateway/session/failure_filter.h"

#include <functional>
#include <string_view>

namespace gatepost::session {
namespace {

constexpr size_t kEntries = 4096;  // 128 KiB

}  // namespace

FailureFilter::FailureFilter(uint64_t interval_ms) : interval_ms_(interval_ms) {
  if (interval_ms_ > 0) entries_.resize(kEntries);
}

std::optional<uint32_t> FailureFilter::Admit(const net::Address& client, uint64_t now_ms) {
  if (interval_ms_ == 0) return 0;
  const net::Address::NetworkKey network = client.Network();
  const std::lock_guard lock(mutex_);
  Entry& entry = entries_[std::hash<std::string_view>()(
                              {reinterpret_cast<const char*>(network.data()), network.size()}) %
                          entries_.size()];
  const bool known = entry.used && entry.network == network;
  if (known && now_ms < entry.line_ms + interval_ms_) {
    ++entry.held_back;
    return std::nullopt;
  }
  if (const uint64_t second = now_ms / 1000; second > second_) {
    second_ = second;
    lines_ = 0;
  }
  if (lines_ == kLinesPerSecond) {
    if (known) ++entry.held_back;
    return std::nullopt;
  }
  ++lines_;
  const uint32_t held_back = known ? entry.held_back : 0;
  entry = {network, true, 0, now_ms};
  return held_back;
}

}  // namespace gatepost::session
