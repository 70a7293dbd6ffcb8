// The block-wise mail data scanner against the byte-wise reference, at pseudo-random splits.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "tests/unit/protocols/smtp_mail_data_reference.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  using Framing = gatepost::smtp::MailDataScanner::Framing;
  const Framing framing = (data[0] & 1) != 0 ? Framing::kCounted : Framing::kDotStuffed;
  uint32_t state = data[1];
  const auto next_piece = [&state] {
    state = state * 1664525 + 1013904223;
    return size_t{1} + (state >> 24) % 100;
  };
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  if (!gatepost::test::CompareWithReference(framing, bytes, next_piece).empty()) std::abort();
  return 0;
}
