// What a run found out, printed as one line of JSON.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace gatepost::benchmark {

class Report {
 public:
  void Number(const std::string& name, double value);
  // Percentiles of `seconds` in milliseconds, as NAME_p50_ms, _p99_ms and _max_ms.
  void Latency(const std::string& name, std::vector<double> seconds);
  // Error counts a failed operation and keeps the first text.
  void Error(const std::string& text);
  [[nodiscard]] uint64_t errors() const { return errors_; }
  [[nodiscard]] std::string Json() const;

 private:
  std::vector<std::pair<std::string, double>> numbers_;
  uint64_t errors_ = 0;
  std::string first_error_;
};

}  // namespace gatepost::benchmark
