// What a mail client says: logins and messages of the three protocols, over a Connection.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

#include "tests/benchmark/load/connection.h"

namespace gatepost::benchmark {

enum class Protocol : uint8_t { kImap, kPop3, kSmtp };

class Dialogue {
 public:
  Dialogue(Connection& connection, Protocol protocol)
      : connection_(connection), protocol_(protocol) {}

  // Start connects, takes the greeting and begins TLS, in this order where `starttls`.
  Task Start(bool starttls);
  // The greeting, and TLS, of a connection that is open.
  Task Begin(bool starttls);
  Task Login();
  Task Noop();
  // Fetch asks for a message and takes it all; Ask leaves the taking to the caller.
  Task Fetch(uint64_t bytes);
  Task Ask(uint64_t bytes);
  // Store sends a message: IMAP APPEND, SMTP DATA, or BDAT in chunks of kChunkBytes.
  Task Store(uint64_t bytes, bool chunking);
  // Stall begins an APPEND that the backend never reads.
  Task Stall(uint64_t bytes);
  // Logout waits until the server has closed.
  Task Logout();

 private:
  static constexpr uint64_t kChunkBytes = 1024 * 1024;
  Task Chunks(uint64_t bytes);

  Connection& connection_;
  Protocol protocol_;
};

}  // namespace gatepost::benchmark
