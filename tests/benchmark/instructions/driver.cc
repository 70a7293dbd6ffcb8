// Runs each case of the micro-benchmarks once under callgrind, which writes a count for each;
// tests/benchmark/instructions/check compares them with the recorded ones.
// SPDX-License-Identifier: Apache-2.0
#include <valgrind/callgrind.h>

#include <cstdio>
#include <string>

#include "tests/benchmark/micro/cases.h"

namespace {

using namespace gatepost;
using benchmark::LogIn;
using protocols::Protocol;

constexpr size_t kPieceBytes = 128 * 1024;

// Measure runs `operation` once to warm up, so that what is made once does not count, and once for
// the count. False when it failed.
template <typename Operation>
bool Measure(const char* name, Operation operation) {
  if (!operation()) {
    std::fprintf(stderr, "%s failed\n", name);
    return false;
  }
  CALLGRIND_ZERO_STATS;
  (void)operation();
  CALLGRIND_DUMP_STATS_AT(name);
  return true;
}

}  // namespace

int main() {
  const std::string data = benchmark::Message(1 << 20) + ".\r\n";
  benchmark::PacketCounters counters;
  const benchmark::Router router(8);
  bool ok = Measure("login-imap", [] { return LogIn(Protocol::kImap) > 0; });
  ok &= Measure("login-pop3", [] { return LogIn(Protocol::kPop3) > 0; });
  ok &= Measure("login-smtp", [] { return LogIn(Protocol::kSmtp) > 0; });
  ok &= Measure("relay-smtp-mib",
                [&] { return benchmark::RelayMessage(data, kPieceBytes) > data.size(); });
  ok &= Measure("log-line",
                [] { return benchmark::FormatSessionLine(config::LogFormat::kLogfmt) > 0; });
  ok &= Measure("route-8", [&] { return router.Route(1) < 8; });
  ok &= Measure("count-1000", [&] {
    for (int i = 0; i < 1000; ++i) counters.Count(1460);
    return true;
  });
  return ok ? 0 : 1;
}
