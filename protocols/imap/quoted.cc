// SPDX-License-Identifier: Apache-2.0
#include "protocols/imap/quoted.h"

namespace gatepost::imap {

void AppendQuoted(std::string_view text, protocols::Buffer& output) {
  output << "\"";
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '"' || text[i] == '\\') output << "\\";
    output << text.substr(i, 1);
  }
  output << "\"";
}

void AppendIdPairs(const protocols::IdPairs& pairs, protocols::Buffer& output) {
  std::string_view before;
  for (const auto& [name, value] : pairs) {
    output << before;
    AppendQuoted(name, output);
    output << " ";
    AppendQuoted(value, output);
    before = " ";
  }
}

}  // namespace gatepost::imap
