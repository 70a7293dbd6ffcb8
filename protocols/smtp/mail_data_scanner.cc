// SPDX-License-Identifier: Apache-2.0
#include "protocols/smtp/mail_data_scanner.h"

#include <algorithm>
#include <bit>
#include <cstring>

#ifdef __SSE2__
#include <immintrin.h>
#endif

namespace gatepost::smtp {
namespace {

constexpr size_t kBlock = 64;

// Bit i of each mask says what byte i of a block is.
struct Masks {
  uint64_t cr = 0;
  uint64_t lf = 0;
  uint64_t dot = 0;
};

#ifdef __SSE2__
Masks Classify(const char* block) {
  const __m128i cr = _mm_set1_epi8('\r');
  const __m128i lf = _mm_set1_epi8('\n');
  const __m128i dot = _mm_set1_epi8('.');
  Masks masks;
  for (unsigned i = 0; i < kBlock; i += 16) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block + i));
    const auto bits = [bytes, i](__m128i wanted) {
      const int mask = _mm_movemask_epi8(_mm_cmpeq_epi8(bytes, wanted));
      return static_cast<uint64_t>(static_cast<unsigned>(mask)) << i;
    };
    masks.cr |= bits(cr);
    masks.lf |= bits(lf);
    masks.dot |= bits(dot);
  }
  return masks;
}
#else
Masks Classify(const char* block) {
  Masks masks;
  for (unsigned i = 0; i < kBlock; ++i) {
    masks.cr |= uint64_t{block[i] == '\r'} << i;
    masks.lf |= uint64_t{block[i] == '\n'} << i;
    masks.dot |= uint64_t{block[i] == '.'} << i;
  }
  return masks;
}
#endif

// QuietBytes returns how many whole blocks at the beginning of `data` hold nothing to look at:
// neither a bare newline nor, with `dots`, a dot at the beginning of a line. The byte before `data`
// is read.
#ifdef __SSE2__
__attribute__((target("avx2"))) size_t QuietBytesAvx2(const char* data, size_t size, bool dots) {
  const __m256i cr = _mm256_set1_epi8('\r');
  const __m256i lf = _mm256_set1_epi8('\n');
  const __m256i dot = dots ? _mm256_set1_epi8('.') : lf;  // LF behind LF is an event anyway
  size_t offset = 0;
  for (; offset + kBlock <= size; offset += kBlock) {
    __m256i events = _mm256_setzero_si256();
    for (size_t i = offset; i < offset + kBlock; i += 32) {
      const __m256i here = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(data + i));
      const __m256i before = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(data + i - 1));
      const __m256i bare =
          _mm256_xor_si256(_mm256_cmpeq_epi8(here, lf), _mm256_cmpeq_epi8(before, cr));
      const __m256i dotted =
          _mm256_and_si256(_mm256_cmpeq_epi8(here, dot), _mm256_cmpeq_epi8(before, lf));
      events = _mm256_or_si256(events, _mm256_or_si256(bare, dotted));
    }
    if (_mm256_testz_si256(events, events) == 0) break;
  }
  return offset;
}

size_t QuietBytesSse2(const char* data, size_t size, bool dots) {
  const __m128i cr = _mm_set1_epi8('\r');
  const __m128i lf = _mm_set1_epi8('\n');
  const __m128i dot = dots ? _mm_set1_epi8('.') : lf;
  size_t offset = 0;
  for (; offset + kBlock <= size; offset += kBlock) {
    __m128i events = _mm_setzero_si128();
    for (size_t i = offset; i < offset + kBlock; i += 16) {
      const __m128i here = _mm_loadu_si128(reinterpret_cast<const __m128i*>(data + i));
      const __m128i before = _mm_loadu_si128(reinterpret_cast<const __m128i*>(data + i - 1));
      const __m128i bare = _mm_xor_si128(_mm_cmpeq_epi8(here, lf), _mm_cmpeq_epi8(before, cr));
      const __m128i dotted = _mm_and_si128(_mm_cmpeq_epi8(here, dot), _mm_cmpeq_epi8(before, lf));
      events = _mm_or_si128(events, _mm_or_si128(bare, dotted));
    }
    if (_mm_movemask_epi8(events) != 0) break;
  }
  return offset;
}

size_t QuietBytes(const char* data, size_t size, bool dots) {
  static const bool has_avx2 = __builtin_cpu_supports("avx2") != 0;
  return has_avx2 ? QuietBytesAvx2(data, size, dots) : QuietBytesSse2(data, size, dots);
}
#else
size_t QuietBytes(const char*, size_t, bool) {
  return 0;
}
#endif

using Found = MailDataScanner::Found;
using Result = MailDataScanner::Result;

// What a dot at the beginning of a line means, by the bytes behind it; nothing decided yet is
// kNothing with `clean` at the dot, and an ordinary dot is kNothing with `clean` behind it.
Result JudgeDot(std::string_view data, size_t dot) {
  if (dot + 1 == data.size()) return {dot, Found::kNothing};
  if (data[dot + 1] == '\n') return {dot, Found::kDotBareLf};
  if (data[dot + 1] != '\r') return {dot + 1, Found::kNothing};
  if (dot + 2 == data.size()) return {dot, Found::kNothing};
  if (data[dot + 2] == '\n') return {dot + 3, Found::kEnd};
  return {dot, Found::kDotBareCr};
}

}  // namespace

MailDataScanner::Result MailDataScanner::Scan(std::string_view data) {
  if (data.empty()) return {};
  const bool dots_matter = framing_ == Framing::kDotStuffed;
  if (dots_matter && position_ == Position::kReplacedLine && data.front() == '.') {
    position_ = Position::kInLine;
    return {0, Found::kUnstuffedDot};
  }
  // A CR at the end of a piece is never clean, so the byte before `data` is none.
  uint64_t after_cr = 0;
  uint64_t at_line = position_ == Position::kLine ? 1 : 0;
  for (size_t offset = 0; offset < data.size(); offset += kBlock) {
    if (offset > 0) {
      offset += QuietBytes(data.data() + offset, data.size() - offset, dots_matter);
      if (offset == data.size()) break;
      after_cr = data[offset - 1] == '\r' ? 1 : 0;
      at_line = data[offset - 1] == '\n' ? 1 : 0;
    }
    const size_t length = std::min(kBlock, data.size() - offset);
    char tail[kBlock];
    const char* block = data.data() + offset;
    uint64_t valid = ~uint64_t{0};
    if (length < kBlock) {
      std::memset(tail, 0, kBlock);
      std::memcpy(tail, block, length);
      block = tail;
      valid >>= kBlock - length;
    }
    const Masks masks = Classify(block);
    const uint64_t behind_cr = masks.cr << 1 | after_cr;
    const uint64_t behind_lf = masks.lf << 1 | at_line;
    // Wherever "the byte before is CR" and "this byte is LF" differ, a newline is bare.
    const uint64_t bare = (behind_cr ^ masks.lf) & valid;
    const uint64_t dots = dots_matter ? masks.dot & behind_lf : 0;
    for (uint64_t events = bare | dots; events != 0; events &= events - 1) {
      const auto bit = static_cast<unsigned>(std::countr_zero(events));
      const size_t at = offset + bit;
      if ((bare >> bit & 1) != 0) {
        position_ = Position::kInLine;
        if (data[at] == '\n') return {at, Found::kBareLf};
        return {at - 1, Found::kBareCr};
      }
      const Result dot = JudgeDot(data, at);
      if (dot.found == Found::kNothing && dot.clean != at) continue;
      position_ = dot.found == Found::kEnd ? Position::kInLine : Position::kLine;
      return dot;
    }
    after_cr = masks.cr >> (kBlock - 1);
    at_line = masks.lf >> (kBlock - 1);
  }
  const size_t clean = data.size() - (data.back() == '\r' ? 1 : 0);
  if (clean > 0) {
    position_ = data[clean - 1] == '\n' ? Position::kLine : Position::kInLine;
  }
  return {clean, Found::kNothing};
}

}  // namespace gatepost::smtp
