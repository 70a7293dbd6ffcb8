// Fuzzes the POP3 client engine: whole and in pieces, it must do the same, and write lines only.
// SPDX-License-Identifier: Apache-2.0
#include "protocols/pop3/client_engine.h"
#include "tests/fuzz/dialogue_fuzzing.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  gatepost::fuzzing::FuzzClient<gatepost::pop3::ClientEngine>(data, size);
  return 0;
}
