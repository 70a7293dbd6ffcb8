// Fuzzes the POP3 server engine: whole and in pieces, it must do the same, and write lines only.
// SPDX-License-Identifier: Apache-2.0
#include "protocols/pop3/server_engine.h"
#include "tests/fuzz/dialogue_fuzzing.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  gatepost::fuzzing::FuzzServer<gatepost::pop3::ServerEngine>(data, size);
  return 0;
}
