// The benchmark's load generator: one mode against one proxy; prints what it measured as JSON.
// tests/benchmark/run starts it.
// SPDX-License-Identifier: Apache-2.0
#include <getopt.h>
#include <signal.h>
#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string>

#include "tests/benchmark/load/modes.h"

namespace {

using gatepost::benchmark::Options;
using gatepost::benchmark::Protocol;

constexpr const char* kUsage =
    "usage: bench_load --mode MODE --port PORT --proxy PID [option…]\n"
    "  modes: handshake login rate download upload noop idle prehandshake churn\n"
    "         stalled-client stalled-backend storm crowd\n"
    "  --host ADDRESS --protocol imap|pop3|smtp --starttls --rsa --resume --chunking\n"
    "  --connections N --operations N --bytes N --rate N --seconds S --limit S --levels N,N\n";

[[noreturn]] void Usage() {
  std::fputs(kUsage, stderr);
  std::exit(2);
}

enum Option : int {
  kMode = 1,
  kHost,
  kPort,
  kProtocol,
  kProxy,
  kStarttls,
  kRsa,
  kResume,
  kChunking,
  kConnections,
  kOperations,
  kBytes,
  kRate,
  kSeconds,
  kLimit,
  kLevels
};

constexpr option kOptions[] = {{"mode", required_argument, nullptr, kMode},
                               {"host", required_argument, nullptr, kHost},
                               {"port", required_argument, nullptr, kPort},
                               {"protocol", required_argument, nullptr, kProtocol},
                               {"proxy", required_argument, nullptr, kProxy},
                               {"starttls", no_argument, nullptr, kStarttls},
                               {"rsa", no_argument, nullptr, kRsa},
                               {"resume", no_argument, nullptr, kResume},
                               {"chunking", no_argument, nullptr, kChunking},
                               {"connections", required_argument, nullptr, kConnections},
                               {"operations", required_argument, nullptr, kOperations},
                               {"bytes", required_argument, nullptr, kBytes},
                               {"rate", required_argument, nullptr, kRate},
                               {"seconds", required_argument, nullptr, kSeconds},
                               {"limit", required_argument, nullptr, kLimit},
                               {"levels", required_argument, nullptr, kLevels},
                               {nullptr, 0, nullptr, 0}};

Options Parse(int argc, char** argv) {
  Options options;
  for (int option; (option = getopt_long(argc, argv, "", kOptions, nullptr)) != -1;) {
    const std::string value = optarg == nullptr ? "" : optarg;
    const auto number = [&] { return std::strtoull(value.c_str(), nullptr, 10); };
    switch (option) {
      case kMode:
        options.mode = value;
        break;
      case kHost:
        options.host = value;
        break;
      case kPort:
        options.port = static_cast<uint16_t>(number());
        break;
      case kProtocol:
        options.protocol = value == "imap"   ? Protocol::kImap
                           : value == "pop3" ? Protocol::kPop3
                                             : Protocol::kSmtp;
        break;
      case kProxy:
        options.proxy = static_cast<pid_t>(number());
        break;
      case kStarttls:
        options.starttls = true;
        break;
      case kRsa:
        options.rsa = true;
        break;
      case kResume:
        options.resume = true;
        break;
      case kChunking:
        options.chunking = true;
        break;
      case kConnections:
        options.connections = static_cast<uint32_t>(number());
        break;
      case kOperations:
        options.operations = number();
        break;
      case kBytes:
        options.bytes = gatepost::benchmark::Pattern::RoundUp(number());
        break;
      case kRate:
        options.rate = std::strtod(value.c_str(), nullptr);
        break;
      case kSeconds:
        options.seconds = std::strtod(value.c_str(), nullptr);
        break;
      case kLimit:
        options.limit = std::strtod(value.c_str(), nullptr);
        break;
      case kLevels: {
        options.levels.clear();
        std::istringstream list(value);
        for (std::string item; std::getline(list, item, ',');) {
          options.levels.push_back(std::strtoull(item.c_str(), nullptr, 10));
        }
        break;
      }
      default:
        Usage();
    }
  }
  if (options.port == 0 || options.proxy <= 0 || options.levels.empty()) Usage();
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  rlimit descriptors;
  getrlimit(RLIMIT_NOFILE, &descriptors);
  descriptors.rlim_cur = descriptors.rlim_max;
  setrlimit(RLIMIT_NOFILE, &descriptors);
  const Options options = Parse(argc, argv);
  gatepost::benchmark::Modes modes(options);
  if (!modes.Run()) Usage();
  std::puts(modes.report().Json().c_str());
  std::fflush(stdout);
  std::_Exit(0);  // stalled coroutines still hold their frames
}
