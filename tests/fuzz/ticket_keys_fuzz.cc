// A file of ticket keys: whatever is accepted is within its limits, and says the same when it is
// written out again.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "tls/ticket_ring.h"

using namespace gatepost::tls;  // NOLINT(google-build-using-namespace): one small program

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto ring = ParseTicketKeys({reinterpret_cast<const char*>(data), size});
  if (!ring) {
    for (const char c : ring.error().text) {
      if (c < 0x20 || c > 0x7e) std::abort();
    }
    return 0;
  }
  if (ring->keys.empty() || ring->keys.size() > 64 || ring->sealing >= ring->keys.size()) {
    std::abort();
  }
  std::string text;
  for (const TicketKey& key : ring->keys) {
    for (const uint8_t byte : key.bytes) {
      text += "0123456789abcdef"[byte >> 4];
      text += "0123456789abcdef"[byte & 15];
    }
    text += '\n';
  }
  const auto again = ParseTicketKeys(text);
  if (!again || again->keys != ring->keys || again->sealing != ring->sealing) std::abort();
  return 0;
}
