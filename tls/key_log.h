// A file of TLS secrets in the format that Wireshark reads, for debugging alone: whoever has it can
// read the connections.
//
// Thread-safe: a line is one write, appended. It blocks the thread that shakes hands for as long as
// the disk does. draft-ietf-tls-keylogfile.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <memory>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

#include "tls/error.h"

namespace gatepost::tls {

class KeyLog {
 public:
  // Open appends to `file`, or makes it, for its owner's eyes only (0600). A file that others may
  // read, or that is no regular one, is refused.
  [[nodiscard]] static tl::expected<std::shared_ptr<const KeyLog>, Error> Open(
      const std::filesystem::path& file);
  ~KeyLog();
  KeyLog(const KeyLog&) = delete;
  KeyLog& operator=(const KeyLog&) = delete;

  [[nodiscard]] const std::filesystem::path& file() const { return file_; }
  // Write appends one line.
  void Write(std::string_view line) const;

 private:
  KeyLog(std::filesystem::path file, int descriptor)
      : file_(std::move(file)), descriptor_(descriptor) {}

  const std::filesystem::path file_;
  const int descriptor_;
};

}  // namespace gatepost::tls
