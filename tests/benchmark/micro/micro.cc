// Micro-benchmarks of the program's own work, by Google Benchmark: bench_micro --help.
// SPDX-License-Identifier: Apache-2.0
#include <benchmark/benchmark.h>

#include <string>

#include "tests/benchmark/micro/cases.h"

namespace gatepost::benchmark {
namespace {

using State = ::benchmark::State;

constexpr size_t kMessageBytes = 1 << 20;
constexpr std::string_view kEndOfData = ".\r\n";

void BM_LogIn(State& state, protocols::Protocol protocol) {
  for (auto _ : state) {
    if (LogIn(protocol) == 0) return state.SkipWithError("the login failed");
  }
}
BENCHMARK_CAPTURE(BM_LogIn, imap, protocols::Protocol::kImap);
BENCHMARK_CAPTURE(BM_LogIn, pop3, protocols::Protocol::kPop3);
BENCHMARK_CAPTURE(BM_LogIn, smtp, protocols::Protocol::kSmtp);

// The size of a piece: what one read of the socket brings.
void Pieces(::benchmark::internal::Benchmark* benchmark) {
  benchmark->Arg(1 << 10)->Arg(16 << 10)->Arg(128 << 10);
}

void BM_ScanMailData(State& state) {
  const std::string data = Message(kMessageBytes) + std::string(kEndOfData);
  for (auto _ : state) {
    if (ScanMailData(data, static_cast<size_t>(state.range(0))) != data.size()) {
      return state.SkipWithError("the end was not found");
    }
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(data.size()));
}
BENCHMARK(BM_ScanMailData)->Apply(Pieces);

void BM_RelayMessage(State& state) {
  const std::string data = Message(kMessageBytes) + std::string(kEndOfData);
  for (auto _ : state) {
    if (RelayMessage(data, static_cast<size_t>(state.range(0))) < data.size()) {
      return state.SkipWithError("the message did not pass");
    }
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(data.size()));
}
BENCHMARK(BM_RelayMessage)->Apply(Pieces);

void BM_FormatSessionLine(State& state, config::LogFormat format) {
  for (auto _ : state) ::benchmark::DoNotOptimize(FormatSessionLine(format));
}
BENCHMARK_CAPTURE(BM_FormatSessionLine, logfmt, config::LogFormat::kLogfmt);
BENCHMARK_CAPTURE(BM_FormatSessionLine, json, config::LogFormat::kJson);

void BM_CountPacket(State& state) {
  PacketCounters counters;
  for (auto _ : state) {
    counters.Count(1460);
    ::benchmark::ClobberMemory();
  }
}
BENCHMARK(BM_CountPacket);

void BM_Route(State& state) {
  const Router router(static_cast<size_t>(state.range(0)));
  uint32_t user = 0;
  for (auto _ : state) ::benchmark::DoNotOptimize(router.Route(++user));
}
BENCHMARK(BM_Route)->Arg(1)->Arg(8)->Arg(64);

}  // namespace
}  // namespace gatepost::benchmark

BENCHMARK_MAIN();
