// A policy service's answer: whatever it is, it is a decision or nonsense, and what goes to the log
// is one short line.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "gateway/auth/policy_text.h"
#include "protocols/line_framer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto answer = gatepost::auth::ParsePolicyAnswer(text);
  if (!answer) {
    if (answer.error().empty()) std::abort();
    return 0;
  }
  if (gatepost::protocols::HasControl(answer->message) || answer->message.size() > 200) {
    std::abort();
  }
  return 0;
}
