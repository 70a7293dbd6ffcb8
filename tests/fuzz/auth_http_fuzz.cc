// An HTTP authority's response: any bytes, at any split, give one verdict, and one that can be
// used.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "config/values.h"
#include "gateway/auth/auth_http.h"
#include "gateway/auth/http_response.h"
#include "protocols/line_framer.h"

namespace {

using gatepost::auth::HttpAnswer;
using gatepost::auth::HttpResponse;

void Require(bool condition) {
  if (!condition) std::abort();
}

// Outcome is all that a caller acts on, as text.
std::string Outcome(std::string_view bytes, size_t split, gatepost::protocols::Protocol protocol,
                    bool needs_password) {
  HttpAnswer answer;
  HttpResponse response(
      [&](std::string_view name, std::string_view value) { answer.Take(name, value); });
  gatepost::protocols::Buffer input;
  auto status = HttpResponse::Status::kMore;
  while (!bytes.empty() && status == HttpResponse::Status::kMore) {
    const std::string_view part = bytes.substr(0, split);
    bytes.remove_prefix(part.size());
    input.Append(part);
    Require(input.size() <= HttpResponse::kMaxHeaderBytes + split + 1024);
    status = response.Consume(input);
  }
  if (status == HttpResponse::Status::kMore) status = response.End();
  if (status == HttpResponse::Status::kMalformed) return "malformed";
  auto meaning = answer.Finish({protocol, needs_password});
  if (!meaning) {
    Require(!meaning.error().empty());
    return "nonsense";
  }
  if (meaning->wait) return "wait " + std::to_string(meaning->wait->time.count());
  const auto& verdict = meaning->verdict;
  Require(!gatepost::protocols::HasControl(verdict.backend_user) &&
          !gatepost::protocols::HasControl(verdict.message));
  Require(verdict.accepted || !verdict.message.empty() ||
          protocol != gatepost::protocols::Protocol::kSmtp);
  Require(!verdict.accepted || !needs_password ||
          (verdict.backend_password && !verdict.backend_password->empty()));
  std::string text = verdict.accepted ? "in " : "refused ";
  if (verdict.backend) {
    Require(verdict.accepted && verdict.backend->port != 0);
    Require(gatepost::config::IsHostName(verdict.backend->host) ||
            gatepost::config::IsAddressLiteral(verdict.backend->host));
    text += verdict.backend->host + ":" + std::to_string(verdict.backend->port);
  }
  if (verdict.backend_password) {
    Require(!gatepost::protocols::HasControl(verdict.backend_password->Reveal()));
    text += verdict.backend_password->Reveal();
  }
  return text + verdict.backend_user + verdict.message;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const auto protocol = data[0] % 2 == 0 ? gatepost::protocols::Protocol::kImap
                                         : gatepost::protocols::Protocol::kSmtp;
  const size_t split = size_t{data[1]} + 1;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  const bool needs_password = (data[0] & 2) != 0;
  Require(Outcome(bytes, bytes.size() + 1, protocol, needs_password) ==
          Outcome(bytes, split, protocol, needs_password));
  return 0;
}
