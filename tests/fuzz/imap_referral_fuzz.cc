// An IMAP login referral: whatever a backend calls one, what is made of it can stand in a command
// and in a line of the log.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "protocols/imap/referral.h"
#include "protocols/line_framer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using gatepost::imap::ParseReferral;
  const std::string_view url(reinterpret_cast<const char*>(data), size);
  const auto referral = ParseReferral(url);
  if (!referral) return 0;
  if (gatepost::protocols::HasControl(referral->user) || referral->host.empty()) std::abort();
  // What it means it means again.
  std::string again = "imap://";
  for (const char c : referral->user) {
    constexpr std::string_view kHex = "0123456789ABCDEF";
    const auto byte = static_cast<uint8_t>(c);
    again += '%';
    again += kHex[byte >> 4];
    again += kHex[byte & 15];
  }
  again += "@[" + referral->host + "]";
  if (referral->port != 0) again += ":" + std::to_string(referral->port);
  if (referral->host.find_first_of("]") != std::string::npos) return 0;
  const auto second = ParseReferral(again);
  if (!second || second->user != referral->user || second->host != referral->host ||
      second->port != referral->port) {
    std::abort();
  }
  return 0;
}
