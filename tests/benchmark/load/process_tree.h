// What a proxy costs: CPU time and memory of a process and all its descendants, from /proc.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <vector>

namespace gatepost::benchmark {

class ProcessTree {
 public:
  explicit ProcessTree(pid_t root) : root_(root) {}

  // CpuNanoseconds returns what all threads have used so far; of processes that ended, what their
  // parents waited for.
  [[nodiscard]] uint64_t CpuNanoseconds() const;
  // PssBytes returns the proportional set size: shared pages count by their share.
  [[nodiscard]] uint64_t PssBytes() const;
  [[nodiscard]] uint64_t Descriptors() const;

 private:
  [[nodiscard]] std::vector<pid_t> Processes() const;
  pid_t root_;
};

}  // namespace gatepost::benchmark
