// Reads a configuration: TOML text to config::Config, with every error at its place.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

#include "config/schema.h"

namespace gatepost::config {

// One thing that is wrong. Text() is what a person reads:
//   gatepost.toml:12:9: listener.tls: "start-tls" is not allowed; use "starttls" or "implicit",
//   for example: tls = "starttls" (did you mean "starttls"?)
struct Diagnostic {
  std::string file;
  Place place;
  std::string key;      // dotted path, e.g. "listener[2].tls"; empty for a syntax error
  std::string message;  // what is wrong, what is allowed, an example
  [[nodiscard]] std::string Text() const;
};
using Diagnostics = std::vector<Diagnostic>;

// Load reads and validates `file` wholly; on failure it returns every error found (at least one).
// Relative paths in the file are taken from the file's folder.
[[nodiscard]] tl::expected<Config, Diagnostics> Load(const std::filesystem::path& file);

// Parse does the same for text; `file` is used in diagnostics and for relative paths only.
[[nodiscard]] tl::expected<Config, Diagnostics> Parse(std::string_view text,
                                                      const std::filesystem::path& file);

// Reference returns the schema as Markdown table rows, one key a row, as config/reference.md has
// them: the test compares both ways.
[[nodiscard]] std::string Reference();

}  // namespace gatepost::config
