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

// One thing that is wrong. Text() is what a person reads, one line that is safe for a terminal:
//   gatepost.toml:12:9: listener[2].tls: "start-tls" is not allowed; use "starttls" or "implicit",
//   for example: tls = "starttls" (did you mean "starttls"?)
struct Diagnostic {
  std::string file;
  Place place;
  std::string key;      // dotted path, "listener[2].tls", counted from 1; empty for a syntax error
  std::string message;  // what is wrong, what is allowed, an example
  [[nodiscard]] std::string Text() const;
};
using Diagnostics = std::vector<Diagnostic>;

// Load reads and validates `file` wholly; on failure it returns every error found (at least one),
// in the order of the file. Relative paths in the file are taken from the file's folder. Files that
// it names must be readable, and process.user must exist.
[[nodiscard]] tl::expected<Config, Diagnostics> Load(const std::filesystem::path& file);

// Parse does the same for text, without a look at the machine: `file` is used in diagnostics and
// for relative paths only.
[[nodiscard]] tl::expected<Config, Diagnostics> Parse(std::string_view text,
                                                      const std::filesystem::path& file);

// ParseAdmin returns [admin] alone, whatever else may be wrong with the text, if it is TOML: who is
// to be asked about a configuration with a mistake stands in it.
[[nodiscard]] tl::expected<Admin, Diagnostics> ParseAdmin(std::string_view text,
                                                          const std::filesystem::path& file);

// Reference returns the schema as Markdown table rows, one key a row, as config/reference.md has
// them: the test compares both ways.
[[nodiscard]] std::string Reference();

}  // namespace gatepost::config
