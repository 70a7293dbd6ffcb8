// What the micro-benchmarks and the instruction counts run: each case is a piece of the program's
// work for one login, message or line, without network and always the same.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "gateway/backends/directory.h"
#include "gateway/observe/metrics.h"
#include "protocols/engines.h"

namespace gatepost::benchmark {

// LogIn plays a whole login: a client with TLS, its server engine, a client engine and a backend.
// Returns the bytes that were said; 0 if the login failed.
size_t LogIn(protocols::Protocol protocol);

// Message returns mail data of `bytes` bytes at least, in lines of 78, without its end.
std::string Message(size_t bytes);

// ScanMailData finds the end of `data` (CRLF.CRLF), read in pieces of `piece` bytes; returns the
// number of bytes before and with it, 0 if it found something else.
size_t ScanMailData(std::string_view data, size_t piece);

// RelayMessage takes a mail transaction with DATA through the relay scanner; returns the bytes that
// passed to the backend, 0 if the message was not accepted. `data` ends with CRLF.CRLF.
size_t RelayMessage(std::string_view data, size_t piece);

// FormatSessionLine writes the line of a session's end; returns its size.
size_t FormatSessionLine(config::LogFormat format);

// The counters of a relayed packet.
class PacketCounters {
 public:
  PacketCounters();
  void Count(uint64_t bytes) { shard_.Add(bytes_in_, bytes); }

 private:
  observe::Metrics metrics_;
  observe::CounterId bytes_in_;
  observe::Shard& shard_;
};

// A pool of `members` backends.
class Router {
 public:
  explicit Router(size_t members);
  // Route returns the member that the user number `user` tries first.
  [[nodiscard]] uint32_t Route(uint32_t user) const;

 private:
  observe::Metrics metrics_;
  backends::Pool pool_;
};

}  // namespace gatepost::benchmark
