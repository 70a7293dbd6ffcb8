// What gateways tell each other of failed logins: whatever Redis holds, an event is read in one
// form alone.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "gateway/auth/throttle_event.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto event = gatepost::auth::ParseThrottleEvent(text);
  if (event && gatepost::auth::Encode(*event) != text) std::abort();
  return 0;
}
