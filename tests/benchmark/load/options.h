// What one run of the load generator does.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tests/benchmark/load/dialogue.h"

namespace gatepost::benchmark {

struct Options {
  std::string mode;
  std::string host = "127.0.0.1";
  uint16_t port = 0;
  Protocol protocol = Protocol::kImap;
  pid_t proxy = 0;
  bool starttls = false;
  bool rsa = false;
  bool resume = false;
  bool chunking = false;
  uint32_t connections = 16;
  uint64_t operations = 1000;
  uint64_t bytes = 64 << 20;  // of one message
  double rate = 300;          // sessions a second
  double seconds = 5;
  double limit = 120;  // seconds until everything is given up
  std::vector<uint64_t> levels = {100, 500};
};

}  // namespace gatepost::benchmark
