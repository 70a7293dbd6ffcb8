// SPDX-License-Identifier: Apache-2.0
#include "protocols/smtp/command.h"

#include <algorithm>
#include <array>

#include "protocols/line_framer.h"

namespace gatepost::smtp {
namespace {

using protocols::EqualsIgnoreCase;

constexpr std::string_view kBlanks = " \t";
constexpr uint64_t kMaxChunkBytes = uint64_t{1} << 62;

constexpr std::array<std::string_view, static_cast<size_t>(Verb::kCount) - 1> kVerbs = {
    "HELO", "EHLO", "MAIL", "RCPT", "DATA",     "BDAT", "RSET",    "NOOP",    "QUIT",
    "VRFY", "EXPN", "HELP", "ETRN", "STARTTLS", "AUTH", "XCLIENT", "XFORWARD"};

std::string_view Trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlanks) - begin + 1);
}

}  // namespace

Command ParseCommand(std::string_view line) {
  const std::string_view word = line.substr(0, line.find_first_of(kBlanks));
  for (size_t i = 0; i < kVerbs.size(); ++i) {
    if (EqualsIgnoreCase(word, kVerbs[i])) {
      return {static_cast<Verb>(i), Trim(line.substr(word.size()))};
    }
  }
  return {};
}

bool IsCleanLine(std::string_view line_with_end) {
  if (!line_with_end.ends_with("\r\n")) return false;
  line_with_end.remove_suffix(2);
  return line_with_end.find_first_of(std::string_view("\0\r\n", 3)) == std::string_view::npos;
}

std::optional<Chunk> ParseChunk(std::string_view argument) {
  Chunk chunk;
  const size_t digits = std::min(argument.find_first_not_of("0123456789"), argument.size());
  if (digits == 0) return std::nullopt;
  for (const char digit : argument.substr(0, digits)) {
    if (chunk.bytes > kMaxChunkBytes / 10) return std::nullopt;  // before it could wrap around
    chunk.bytes = chunk.bytes * 10 + static_cast<uint64_t>(digit - '0');
    if (chunk.bytes > kMaxChunkBytes) return std::nullopt;
  }
  const std::string_view rest = argument.substr(digits);
  chunk.last = EqualsIgnoreCase(rest, " LAST");
  if (!rest.empty() && !chunk.last) return std::nullopt;
  return chunk;
}

bool AsksForBinaryMime(std::string_view mail_argument) {
  const size_t path_end = mail_argument.rfind('>');
  if (path_end == std::string_view::npos) return false;
  std::string_view rest = mail_argument.substr(path_end + 1);
  while (!(rest = Trim(rest)).empty()) {
    const std::string_view word = rest.substr(0, rest.find_first_of(kBlanks));
    if (EqualsIgnoreCase(word, "BODY=BINARYMIME")) return true;
    rest.remove_prefix(word.size());
  }
  return false;
}

std::string_view KeywordName(std::string_view keyword_line) {
  return keyword_line.substr(0, keyword_line.find_first_of(" \t="));
}

bool MayOffer(std::string_view keyword_line, bool chunking) {
  static constexpr std::array<std::string_view, 8> kNever = {
      "STARTTLS", "AUTH", "XCLIENT", "XFORWARD", "XEXCH50", "BURL", "TURN", "ATRN"};
  static constexpr std::array<std::string_view, 2> kChunking = {"CHUNKING", "BINARYMIME"};
  const std::string_view name = KeywordName(keyword_line);
  const auto is_name = [name](std::string_view other) { return EqualsIgnoreCase(name, other); };
  if (name.empty() || protocols::HasControl(keyword_line)) return false;
  // Exchange: X-ANONYMOUSTLS, X-EXPS (its own AUTH), X-LINK2STATE and the like.
  if (EqualsIgnoreCase(name.substr(0, 2), "X-")) return false;
  if (std::any_of(kNever.begin(), kNever.end(), is_name)) return false;
  return chunking || std::none_of(kChunking.begin(), kChunking.end(), is_name);
}

}  // namespace gatepost::smtp
