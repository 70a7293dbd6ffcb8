// Base64 and the SASL exchanges: what decodes encodes to the same text again, and what a client
// presents as PLAIN or as a bearer token is what our own message says.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "protocols/sasl/base64.h"
#include "protocols/sasl/digest.h"
#include "protocols/sasl/mechanisms.h"

using namespace gatepost;  // NOLINT(google-build-using-namespace): one small program

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);

  protocols::Buffer decoded;
  if (sasl::DecodeBase64(bytes, decoded)) {
    protocols::Buffer encoded;
    sasl::EncodeBase64(decoded.view(), encoded);
    if (encoded.view() != bytes) std::abort();
  }

  if (const auto digest = sasl::ParseDigest(sasl::Mechanism::kCramMd5, bytes)) {
    protocols::Buffer written;
    written << digest->authentication_identity << " " << digest->password.Reveal();
    if (digest->authentication_identity.empty() || written.view() != bytes) std::abort();
  }

  const auto mechanism = (data[0] & 32) != 0   ? sasl::Mechanism::kScramSha256
                         : (data[0] & 16) != 0 ? sasl::Mechanism::kOauthbearer
                         : (data[0] & 8) != 0  ? sasl::Mechanism::kXoauth2
                         : (data[0] & 4) != 0  ? sasl::Mechanism::kExternal
                         : (data[0] & 1) != 0  ? sasl::Mechanism::kPlain
                                               : sasl::Mechanism::kLogin;
  sasl::ServerExchange exchange(mechanism, "alice");
  auto status = exchange.Begin({});
  while (status == sasl::ServerExchange::Status::kChallenge && !bytes.empty()) {
    const size_t end = std::min(bytes.find('\n'), bytes.size());
    protocols::Buffer line;
    // Half of the inputs are encoded first, so that messages are reached quickly.
    if ((data[0] & 2) != 0) {
      sasl::EncodeBase64(bytes.substr(0, end), line);
    } else {
      line << bytes.substr(0, end);
    }
    bytes.remove_prefix(std::min(end + 1, bytes.size()));
    status = exchange.Step(line.view());
  }
  if (status != sasl::ServerExchange::Status::kDone) return 0;
  const sasl::Credentials credentials = exchange.TakeCredentials();
  if (mechanism == sasl::Mechanism::kExternal &&
      (credentials.authentication_identity != "alice" || !credentials.password.empty())) {
    std::abort();
  }
  protocols::Buffer message;
  const auto written =
      sasl::IsToken(mechanism) || sasl::IsRelayed(mechanism) ? mechanism : sasl::Mechanism::kPlain;
  if (!sasl::AppendFirst(written, credentials, message)) std::abort();
  sasl::ServerExchange again(written);
  if (again.Begin(message.view()) != sasl::ServerExchange::Status::kDone) std::abort();
  const sasl::Credentials read = again.TakeCredentials();
  if (read.authentication_identity != credentials.authentication_identity ||
      read.authorization_identity != credentials.authorization_identity ||
      read.password.Reveal() != credentials.password.Reveal()) {
    std::abort();
  }
  return 0;
}
