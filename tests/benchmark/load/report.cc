// SPDX-License-Identifier: Apache-2.0
#include "tests/benchmark/load/report.h"

#include <fmt/format.h>

#include <algorithm>

namespace gatepost::benchmark {

void Report::Number(const std::string& name, double value) {
  numbers_.emplace_back(name, value);
}

void Report::Latency(const std::string& name, std::vector<double> seconds) {
  if (seconds.empty()) return;
  std::sort(seconds.begin(), seconds.end());
  const auto at = [&](double part) {
    return seconds[static_cast<size_t>(part * static_cast<double>(seconds.size() - 1))] * 1000;
  };
  Number(name + "_min_ms", at(0));
  Number(name + "_p50_ms", at(0.5));
  Number(name + "_p99_ms", at(0.99));
  Number(name + "_max_ms", at(1));
}

void Report::Error(const std::string& text) {
  if (errors_++ == 0) first_error_ = text;
}

std::string Report::Json() const {
  std::string json = "{";
  for (const auto& [name, value] : numbers_) json += fmt::format("\"{}\": {}, ", name, value);
  std::string text;
  for (const char c : first_error_) {
    const bool plain = c >= ' ' && c <= '~' && c != '"' && c != '\\';
    text += plain ? c : '?';
  }
  return json + fmt::format("\"errors\": {}, \"error\": \"{}\"}}", errors_, text);
}

}  // namespace gatepost::benchmark
