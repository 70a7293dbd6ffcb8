// A server channel fed with arbitrary bytes at arbitrary splits; a second time behind a genuine
// handshake, so that the records of an established connection are reached too; and a server that
// asks for client certificates and has ticket keys.
//
// Input: one byte that chooses the phase, one that chooses the splits, the rest is the wire.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tls/certificate_store.h"
#include "tls/channel.h"
#include "tls/client_context.h"
#include "tls/client_verifier.h"
#include "tls/context.h"
#include "tls/ticket_keys.h"

namespace {

using namespace gatepost::tls;

// A throw-away self-signed certificate for mail.example, made for this file; valid from 2026 to
// 2126.
constexpr char kChain[] = R"(-----BEGIN CERTIFICATE-----
MIIBnzCCAUSgAwIBAgIUQhI1uayxX3PUKplnktyeXPyUmSEwCgYIKoZIzj0EAwIw
FzEVMBMGA1UEAwwMbWFpbC5leGFtcGxlMCAXDTI2MTEyMjIyMDc1MVoYDzIxMjYx
MDI5MjIwNzUxWjAXMRUwEwYDVQQDDAxtYWlsLmV4YW1wbGUwWTATBgcqhkjOPQIB
BggqhkjOPQMBBwNCAATJR7tGotVnpVqu3SID+qzWCOR8tvp3RNyng/NDItQbkni1
a4ITLpw47tJdnaEjnPsnAY4b92w5jBpAJvVqF9kCo2wwajAdBgNVHQ4EFgQU4g0J
LPbRiBcJcX2XH3VNAaKrGucwHwYDVR0jBBgwFoAU4g0JLPbRiBcJcX2XH3VNAaKr
GucwDwYDVR0TAQH/BAUwAwEB/zAXBgNVHREEEDAOggxtYWlsLmV4YW1wbGUwCgYI
KoZIzj0EAwIDSQAwRgIhALoTFHeq15sEgOju8BE0ZFp1uu47E5Xt01YeTTXNFMif
AiEA8qwJmS6OGMOnk4qeCxoqhOAiiJSN54rwUk7rn/9MqNU=
-----END CERTIFICATE-----
)";
constexpr char kKey[] = R"(-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgAqycbZK2a6VdOopD
4DzSvU3lLfEOu2g1dlWmNrjEiuqhRANCAATJR7tGotVnpVqu3SID+qzWCOR8tvp3
RNyng/NDItQbkni1a4ITLpw47tJdnaEjnPsnAY4b92w5jBpAJvVqF9kC
-----END PRIVATE KEY-----
)";

void Require(bool good, const char* what) {
  if (good) return;
  std::fprintf(stderr, "tls_channel_fuzz: %s\n", what);
  std::abort();
}

struct Contexts {
  Contexts() {
    std::string pattern = std::filesystem::temp_directory_path() / "gatepost-fuzz-XXXXXX";
    Require(mkdtemp(pattern.data()) != nullptr, "mkdtemp");
    const std::filesystem::path folder = pattern;
    const CertificateFiles files{folder / "chain.pem", folder / "key.pem"};
    std::ofstream(files.chain) << kChain;
    std::ofstream(files.key) << kKey;
    // A fixed day: replaying the corpus must not depend on the calendar.
    const auto day = std::chrono::system_clock::from_time_t(1'800'000'000);
    auto certificate = CertificateLoader().Load(files, day);
    Require(certificate.has_value(), certificate ? "" : certificate.error()[0].text.c_str());
    const auto store = CertificateStore::Make({std::move(*certificate)});
    server =
        *ServerContext::Make({.profile = Profile::kLegacy, .alpn = "imap", .certificates = store});
    asking =
        *ServerContext::Make({.profile = Profile::kLegacy,
                              .alpn = "imap",
                              .certificates = store,
                              .client_verifier = *ClientVerifier::Make(files.chain, std::nullopt),
                              .require_client_certificate = true,
                              .ticket_keys = TicketKeys::Random(std::chrono::hours(1))});
    std::filesystem::remove_all(folder);
    client = *ClientContext::Make({false, {}, "imap"});
  }
  std::shared_ptr<const ServerContext> server;
  std::shared_ptr<const ServerContext> asking;
  std::shared_ptr<const ClientContext> client;
};

void CheckInvariants(const Channel& channel, size_t got, size_t given) {
  Require(got <= given + Channel::kPlaintextMargin, "more plaintext than there is room");
  Require(channel.established() || got == 0, "plaintext before the handshake's end");
  Require((channel.failure() == Failure::kNone) == channel.error().empty(),
          "error without failure");
  for (char c : channel.error()) Require(c >= 0x20 && c < 0x7f, "error is not printable");
}

void Feed(Channel& channel, Transport& transport, Bytes wire, size_t split) {
  std::vector<uint8_t> plaintext;
  while (!wire.empty()) {
    const size_t size = split == 0 ? wire.size() : std::min(split, wire.size());
    plaintext.resize(size + Channel::kPlaintextMargin);
    const size_t got = channel.Receive(wire.first(size), plaintext);
    CheckInvariants(channel, got, size);
    if (channel.error().starts_with("the client does not speak TLS")) {
      Require(transport.outgoing.empty(), "an answer to plaintext");
    }
    transport.outgoing.clear();
    wire = wire.subspan(size);
  }
}

// Completes a handshake between `client` and `server`.
void Establish(Channel& client, Transport& client_wire, Channel& server, Transport& server_wire) {
  client.Start();
  while (!client_wire.outgoing.empty() || !server_wire.outgoing.empty()) {
    std::vector<uint8_t> plaintext(1 << 17);
    auto bytes = std::exchange(client_wire.outgoing, {});
    (void)server.Receive(bytes, plaintext);
    bytes = std::exchange(server_wire.outgoing, {});
    (void)client.Receive(bytes, plaintext);
  }
  Require(server.established() && client.established(), "the genuine handshake failed");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Contexts contexts;
  if (size < 2) return 0;
  const uint8_t phase = data[0] % 4;
  const size_t split = data[1];
  const Bytes wire(data + 2, size - 2);

  Transport server_wire;
  Channel server(server_wire, phase == 3 ? contexts.asking : contexts.server);
  if (phase == 0 || phase == 3) {
    Feed(server, server_wire, wire, split);
  } else {
    Transport client_wire;
    Channel client(client_wire, std::make_shared<Peer>(contexts.client, "mail.example"));
    Establish(client, client_wire, server, server_wire);
    if (phase == 1) {  // garbage on an established connection
      Feed(server, server_wire, wire, split);
    } else {  // genuine records, cut anywhere: nothing may be lost
      Require(client.Send(wire), "sending failed");
      const auto records = std::exchange(client_wire.outgoing, {});
      std::vector<uint8_t> received;
      std::vector<uint8_t> plaintext;
      for (Bytes rest = records; !rest.empty();) {
        const size_t part = split == 0 ? rest.size() : std::min(split, rest.size());
        plaintext.resize(part + Channel::kPlaintextMargin);
        const size_t got = server.Receive(rest.first(part), plaintext);
        received.insert(received.end(), plaintext.begin(),
                        plaintext.begin() + static_cast<std::ptrdiff_t>(got));
        rest = rest.subspan(part);
      }
      Require(std::equal(received.begin(), received.end(), wire.begin(), wire.end()),
              "bytes were lost");
    }
  }
  server.PeerClosed();
  (void)server.Send(wire);
  server.Shutdown();
  return 0;
}
