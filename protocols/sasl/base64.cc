// SPDX-License-Identifier: Apache-2.0
#include "protocols/sasl/base64.h"

#include <array>
#include <cstdint>

namespace gatepost::sasl {
namespace {

constexpr std::string_view kAlphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

constexpr std::array<int8_t, 256> MakeReverse() {
  std::array<int8_t, 256> table{};
  for (auto& value : table) value = -1;
  for (size_t i = 0; i < kAlphabet.size(); ++i) {
    table[static_cast<unsigned char>(kAlphabet[i])] = static_cast<int8_t>(i);
  }
  return table;
}
constexpr std::array<int8_t, 256> kReverse = MakeReverse();

}  // namespace

void EncodeBase64(std::string_view bytes, protocols::Buffer& output) {
  std::array<char, 4> quantum;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t left = bytes.size() - i;
    const auto byte = [&](size_t k) {
      return k < left ? static_cast<uint32_t>(static_cast<unsigned char>(bytes[i + k])) : 0U;
    };
    uint32_t group = byte(0) << 16 | byte(1) << 8 | byte(2);
    quantum = {kAlphabet[group >> 18], kAlphabet[group >> 12 & 63],
               left > 1 ? kAlphabet[group >> 6 & 63] : '=', left > 2 ? kAlphabet[group & 63] : '='};
    output.Append({quantum.data(), quantum.size()});
    protocols::Wipe(&group, sizeof(group));
  }
  protocols::Wipe(quantum.data(), quantum.size());
}

bool DecodeBase64(std::string_view text, protocols::Buffer& output) {
  if (text.size() % 4 != 0) return false;
  size_t padding = 0;
  if (text.ends_with("==")) {
    padding = 2;
  } else if (text.ends_with("=")) {
    padding = 1;
  }
  std::array<char, 3> bytes;
  for (size_t i = 0; i < text.size(); i += 4) {
    const size_t digits = i + 4 == text.size() ? 4 - padding : 4;
    uint32_t group = 0;
    for (size_t k = 0; k < 4; ++k) {
      const int8_t value =
          k < digits ? kReverse[static_cast<unsigned char>(text[i + k])] : int8_t{0};
      if (value < 0) return false;
      group = group << 6 | static_cast<uint32_t>(value);
    }
    // The bits that padding hides must be zero, else two texts would mean the same bytes.
    if (digits == 2 && (group & 0xFFFF) != 0) return false;
    if (digits == 3 && (group & 0xFF) != 0) return false;
    bytes = {static_cast<char>(group >> 16), static_cast<char>(group >> 8),
             static_cast<char>(group)};
    output.Append({bytes.data(), digits - 1});
    protocols::Wipe(&group, sizeof(group));
  }
  protocols::Wipe(bytes.data(), bytes.size());
  return true;
}

}  // namespace gatepost::sasl
