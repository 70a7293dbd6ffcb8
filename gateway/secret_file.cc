// SPDX-License-Identifier: Apache-2.0
#include "gateway/secret_file.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string_view>

#include "protocols/buffer.h"

namespace gatepost {

tl::expected<sasl::Secret, std::string> ReadSecret(const std::filesystem::path& file) {
  std::ifstream input(file);
  if (!input) return tl::unexpected(file.string() + ": can't be read: " + std::strerror(errno));
  std::string line;
  line.reserve(1024);  // not moved, so that no copy of it stays behind
  std::getline(input, line);
  std::string_view text = line;
  if (text.ends_with('\r')) text.remove_suffix(1);
  sasl::Secret password(text);
  const bool usable = text.find('\0') == std::string_view::npos;
  protocols::Wipe(line.data(), line.size());
  if (password.empty() || !usable) {
    return tl::unexpected(file.string() + ": its first line must be a password");
  }
  return password;
}

}  // namespace gatepost
