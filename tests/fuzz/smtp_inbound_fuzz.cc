// What a stranger's MAIL and RCPT become: one clean line each, and no recipient that could be read
// as somebody else's.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "protocols/line_framer.h"
#include "protocols/smtp/command.h"
#include "protocols/smtp/inbound.h"

namespace {

using namespace gatepost::smtp;  // NOLINT(google-build-using-namespace): one small program

void Check(bool holds) {
  if (!holds) std::abort();
}

void Rcpt(std::string_view argument) {
  const std::vector<std::string> domains = {"example.org", "x"};
  const Recipient recipient = ParseRecipient(argument, domains);
  if (recipient.kind != Recipient::Kind::kLocal) return;
  Check(recipient.local_part.find_first_of("@%!<>()[]:;,\\") == std::string_view::npos);
  Check(!gatepost::protocols::HasControl(recipient.local_part));
  const std::string line = recipient.Command();
  Check(IsCleanLine(line));
  const Command command = ParseCommand(std::string_view(line).substr(0, line.size() - 2));
  Check(command.verb == Verb::kRcpt);
  const Recipient again = ParseRecipient(command.argument, domains);
  Check(again.kind == Recipient::Kind::kLocal && again.Command() == line);
  Check(again.local_part == recipient.local_part && again.domain == recipient.domain);
}

void Mail(std::string_view argument) {
  const auto kept = WithoutAuthParameter(argument);
  if (!kept) return;
  Check(kept->size() <= argument.size());
  Check(WithoutAuthParameter(*kept) == kept);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string line = std::string(reinterpret_cast<const char*>(data), size) + "\r\n";
  if (!IsCleanLine(line)) return 0;  // never gets so far
  const Command command = ParseCommand(std::string_view(line).substr(0, size));
  if (command.verb == Verb::kRcpt) Rcpt(command.argument);
  if (command.verb == Verb::kMail) Mail(command.argument);
  return 0;
}
