// PROXY headers: no beginning of a header says otherwise than the whole, and what is read and
// written again is read as the same.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "protocols/proxy_protocol.h"

using namespace gatepost::protocols;  // NOLINT(google-build-using-namespace): one small program

namespace {

void Require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using Status = ProxyReading::Status;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const ProxyReading whole = ReadProxy(input, true, true);
  const bool read = whole.status == Status::kLocal || whole.status == Status::kClient;
  if (read) {
    Require(whole.bytes > 0 && whole.bytes <= size && whole.bytes <= kMaxProxyHeaderBytesRead);
    Require(ProxyHeaderBytes(input) == whole.bytes);
  }
  for (size_t i = 0; i < size && i <= kMaxProxyHeaderBytesRead; ++i) {
    const Status status = ReadProxy(input.substr(0, i), true, true).status;
    if (read && i >= whole.bytes) {
      Require(status == whole.status);
    } else {
      Require(status == Status::kNeedInput ||
              (status == Status::kMalformed && whole.status == Status::kMalformed));
      Require(status == Status::kMalformed || !read || ProxyHeaderBytes(input.substr(0, i)) == i);
    }
  }
  if (whole.status != Status::kClient) return 0;
  const std::string written = EncodeProxyV2(whole.header);
  const ProxyReading again = ReadProxy(written, false, true);
  Require(again.status == Status::kClient && again.bytes == written.size());
  Require(again.header.source.address == whole.header.source.address &&
          again.header.source.port == whole.header.source.port &&
          again.header.destination.address == whole.header.destination.address &&
          again.header.destination.port == whole.header.destination.port);
  Require(EncodeProxyV2(again.header) == written);
  return 0;
}
