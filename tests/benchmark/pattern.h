// The message text that the benchmark moves: one 78-byte line again and again, so that both ends
// can make and verify any part of it by offset, without keeping it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace gatepost::benchmark {

class Pattern {
 public:
  static constexpr size_t kPieceBytes = 256 * 1024;  // the most that At returns
  static constexpr std::string_view kLine =
      "The quick brown fox jumps over the lazy dog; 0123456789 and 76 columns of it\r\n";
  static_assert(kLine.size() == 78);

  Pattern() {
    while (text_.size() < kPieceBytes + kLine.size()) text_ += kLine;
  }

  // At returns up to kPieceBytes of the endless text, beginning at `offset`.
  [[nodiscard]] std::string_view At(uint64_t offset, uint64_t wanted) const {
    const size_t size = wanted < kPieceBytes ? static_cast<size_t>(wanted) : kPieceBytes;
    return std::string_view(text_).substr(offset % kLine.size(), size);
  }

  // Matches says whether `bytes` is the text that stands at `offset`.
  [[nodiscard]] bool Matches(uint64_t offset, std::string_view bytes) const {
    while (!bytes.empty()) {
      const std::string_view expected = At(offset, bytes.size());
      if (std::memcmp(bytes.data(), expected.data(), expected.size()) != 0) return false;
      bytes.remove_prefix(expected.size());
      offset += expected.size();
    }
    return true;
  }

  // RoundUp returns the next size that ends with a line's end.
  [[nodiscard]] static uint64_t RoundUp(uint64_t bytes) {
    return (bytes + kLine.size() - 1) / kLine.size() * kLine.size();
  }

 private:
  std::string text_;
};

}  // namespace gatepost::benchmark
