// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "config/loader.h"
#include "config/schema_tables.h"

namespace gatepost::config {
namespace {

// A default that is a TOML value is set as code, one in words is not.
std::string Fallback(const KeyText& key) {
  const bool number =
      key.type == "integer" && key.fallback.find_first_not_of("0123456789") == std::string::npos;
  const bool toml = key.fallback.starts_with('"') || number || key.type == "boolean";
  return toml && !key.required ? "`" + key.fallback + "`" : key.fallback;
}

}  // namespace

std::string Reference() {
  std::string rows;
  SchemaTables().ForEach([&](const auto& table) {
    const std::string_view heading = table.heading;
    const size_t begin = heading.find_first_not_of('[');
    const std::string prefix =
        heading.empty() ? "" : std::string(heading.substr(begin, heading.find(']') - begin)) + ".";
    for (const KeyText& key : table.fields) {
      rows += "| `" + prefix + std::string(key.name) + "` | " + key.type + " | " + Fallback(key) +
              " | " + key.allowed + " | " + std::string(key.meaning) + " | `" +
              std::string(key.name) + " = " + std::string(key.example) + "` |\n";
    }
  });
  return rows;
}

}  // namespace gatepost::config
