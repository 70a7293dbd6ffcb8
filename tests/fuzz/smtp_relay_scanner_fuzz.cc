// The relay after login, twice: against a server in memory, where the outcome must not depend on
// how bytes arrive and nothing forbidden may reach the server; and with both directions taken from
// the input, where nothing may crash or spin.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "tests/unit/protocols/smtp_relay_harness.h"

namespace {

using namespace gatepost;  // NOLINT(google-build-using-namespace): one small program
using Do = protocols::RelayScanner::Do;

const protocols::Capabilities kCapabilities = {"CHUNKING", "BINARYMIME"};

smtp::RelayScanner MakeScanner(uint8_t flags) {
  return {(flags & 1) != 0 ? protocols::BareNewline::kNormalize : protocols::BareNewline::kReject,
          {},
          "mail.example.org",
          (flags & 2) != 0 ? nullptr : &kCapabilities};
}

bool HasBareNewline(std::string_view data) {
  for (size_t i = 0; i < data.size(); ++i) {
    if (data[i] == '\n' && (i == 0 || data[i - 1] != '\r')) return true;
    if (data[i] == '\r' && (i + 1 == data.size() || data[i + 1] != '\n')) return true;
  }
  return false;
}

test::Relayed Relay(uint8_t flags, std::string_view client, const test::Pace& pace) {
  smtp::RelayScanner scanner = MakeScanner(flags);
  return test::RelayHarness(scanner, {}).Run(client, pace);
}

void AgainstAServer(uint8_t flags, uint8_t piece, std::string_view client) {
  const test::Relayed whole = Relay(flags, client, {});
  test::Pace pieces{{}, size_t{1} + piece % 7, (flags & 4) != 0};
  for (size_t cut = 1 + piece % 50; cut < client.size(); cut += 1 + piece % 50) {
    pieces.client_cuts.push_back(cut);
  }
  if (!(Relay(flags, client, pieces) == whole)) std::abort();
  bool binary = false;
  for (const std::string& command : whole.commands) {
    const smtp::Verb verb = smtp::ParseCommand(command).verb;
    if (verb == smtp::Verb::kUnknown || verb == smtp::Verb::kAuth ||
        verb == smtp::Verb::kStartTls || verb == smtp::Verb::kXclient ||
        verb == smtp::Verb::kXforward || !smtp::IsCleanLine(command + "\r\n")) {
      std::abort();
    }
    binary = binary || (verb == smtp::Verb::kMail &&
                        smtp::AsksForBinaryMime(smtp::ParseCommand(command).argument));
  }
  for (const std::string& message : whole.messages) {
    if (!binary && HasBareNewline(message)) std::abort();
  }
}

void BothDirections(uint8_t flags, std::string_view bytes) {
  smtp::RelayScanner scanner = MakeScanner(flags);
  std::string client;
  std::string backend;
  while (bytes.size() > 1) {
    const size_t length = 1 + static_cast<uint8_t>(bytes[0]) % 64;
    const bool from_client = static_cast<uint8_t>(bytes[0]) < 160;
    bytes.remove_prefix(1);
    std::string& input = from_client ? client : backend;
    input += bytes.substr(0, length);
    bytes.remove_prefix(std::min(length, bytes.size()));
    // After each piece both sides go as far as they can.
    for (bool moved = true; moved;) {
      moved = false;
      for (std::string* side : {&client, &backend}) {
        if (side->empty()) continue;
        protocols::Buffer to_client;
        protocols::Buffer to_backend;
        const auto step = side == &client ? scanner.FromClient(*side, to_client, to_backend)
                                          : scanner.FromBackend(*side, to_client);
        (void)scanner.AtBoundary();
        if (scanner.AtBoundary() && !scanner.CanSpeak()) std::abort();
        if (step.what == Do::kClose) return;
        if (step.what == Do::kResetBackend) {
          if (side == &backend) std::abort();
          scanner.BackendReset();
          backend.clear();
          moved = true;
        }
        if (step.what == Do::kForward || step.what == Do::kSwallow) {
          if (step.bytes == 0 || step.bytes > side->size()) std::abort();
          side->erase(0, step.bytes);
          moved = true;
        }
        if (step.what == Do::kWaitForBackend && side == &backend) std::abort();
      }
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2 || size > 4096) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  if ((data[0] & 8) != 0) {
    BothDirections(data[0], bytes);
  } else {
    AgainstAServer(data[0], data[1], bytes);
  }
  return 0;
}
