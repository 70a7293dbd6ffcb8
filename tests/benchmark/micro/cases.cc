// SPDX-License-Identifier: Apache-2.0
#include "tests/benchmark/micro/cases.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <variant>

#include "gateway/backends/choice.h"
#include "gateway/observe/log.h"
#include "protocols/smtp/mail_data_scanner.h"
#include "protocols/smtp/relay_scanner.h"
#include "tests/benchmark/pattern.h"

namespace gatepost::benchmark {
namespace {

using protocols::Buffer;
using protocols::Protocol;
using Do = protocols::RelayScanner::Do;

struct Script {
  std::string_view client;      // what the client sends
  std::string_view greeting;    // of the backend
  std::string_view answers[3];  // of the backend to each of our commands, in turn
};

const Script& ScriptOf(Protocol protocol) {
  static constexpr Script kImap = {
      "a1 CAPABILITY\r\na2 LOGIN user@example.org secret\r\n",
      "* OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL+ IDLE AUTH=PLAIN] ready\r\n",
      {"G1 OK [CAPABILITY IMAP4rev1 IDLE MOVE QUOTA] Logged in\r\n", "", ""}};
  static constexpr Script kPop3 = {
      "CAPA\r\nUSER user@example.org\r\nPASS secret\r\n",
      "+OK ready\r\n",
      {"+OK\r\nUSER\r\nSASL PLAIN\r\nUIDL\r\nTOP\r\n.\r\n", "+OK\r\n", "+OK Logged in\r\n"}};
  static constexpr Script kSmtp = {
      "EHLO client.example.org\r\nAUTH PLAIN AHVzZXJAZXhhbXBsZS5vcmcAc2VjcmV0\r\n",
      "220 backend.example.org ESMTP\r\n",
      {"250-backend.example.org\r\n250-PIPELINING\r\n250-SIZE 10240000\r\n250-CHUNKING\r\n"
       "250-AUTH PLAIN\r\n250 8BITMIME\r\n",
       "235 2.7.0 Authenticated\r\n", ""}};
  switch (protocol) {
    case Protocol::kImap:
      return kImap;
    case Protocol::kPop3:
      return kPop3;
    case Protocol::kSmtp:
    case Protocol::kCount:
      break;
  }
  return kSmtp;
}

}  // namespace

size_t LogIn(Protocol protocol) {
  const Script& script = ScriptOf(protocol);
  protocols::ServerFacts facts;
  facts.hostname = "mail.example.org";
  facts.tls_active = true;
  const auto server = protocols::MakeServerEngine(protocol, std::move(facts));
  Buffer from_client;
  Buffer to_client;
  server->Greet(to_client);
  from_client << script.client;
  auto action = server->Next(from_client, to_client);
  auto* authenticate = std::get_if<protocols::Authenticate>(&action);
  if (authenticate == nullptr) return 0;

  protocols::ClientFacts client_facts;
  client_facts.hostname = "mail.example.org";
  client_facts.credentials = &authenticate->credentials;
  const auto client = protocols::MakeClientEngine(protocol, std::move(client_facts));
  Buffer from_backend;
  Buffer to_backend;
  auto answer = client->Next(from_backend, to_backend);
  from_backend << script.greeting;
  for (const std::string_view line : script.answers) {
    answer = client->Next(from_backend, to_backend);
    if (!std::holds_alternative<protocols::NeedInput>(answer)) break;
    from_backend << line;
  }
  if (std::holds_alternative<protocols::NeedInput>(answer)) {
    answer = client->Next(from_backend, to_backend);
  }
  const auto* logged_in = std::get_if<protocols::LoggedIn>(&answer);
  if (logged_in == nullptr) return 0;
  server->LoginSucceeded(logged_in->reply, to_client);
  const auto scanner = server->MakeScanner();
  return to_client.size() + to_backend.size() + (scanner ? 1 : 0);
}

std::string Message(size_t bytes) {
  const Pattern pattern;
  const size_t size = Pattern::RoundUp(bytes);
  std::string message;
  while (message.size() < size) message += pattern.At(message.size(), size - message.size());
  return message;
}

size_t ScanMailData(std::string_view data, size_t piece) {
  smtp::MailDataScanner scanner(smtp::MailDataScanner::Framing::kDotStuffed);
  size_t at = 0;
  size_t end = 0;  // of what was read
  while (end < data.size()) {
    end = std::min(end + piece, data.size());
    const auto result = scanner.Scan(data.substr(at, end - at));
    at += result.clean;
    if (result.found == smtp::MailDataScanner::Found::kEnd) return at;
    if (result.found != smtp::MailDataScanner::Found::kNothing) break;
  }
  return 0;
}

size_t RelayMessage(std::string_view data, size_t piece) {
  smtp::RelayScanner scanner(protocols::BareNewline::kReject, {}, "mail.example.org", nullptr);
  Buffer to_client;
  Buffer to_backend;
  size_t passed = 0;
  const auto client = [&](std::string_view input) {
    while (!input.empty()) {
      const auto step = scanner.FromClient(input, to_client, to_backend);
      if (step.what != Do::kForward) break;
      passed += step.bytes;
      input.remove_prefix(step.bytes);
    }
    return input.size();  // what was not taken
  };
  const auto backend = [&](std::string_view input) {
    while (!input.empty()) {
      const auto step = scanner.FromBackend(input, to_client);
      if (step.what != Do::kForward) break;
      input.remove_prefix(step.bytes);
    }
  };
  client("MAIL FROM:<alice@example.org>\r\n");
  backend("250 2.1.0 Ok\r\n");
  client("RCPT TO:<bob@example.org>\r\n");
  backend("250 2.1.5 Ok\r\n");
  client("DATA\r\n");
  backend("354 End data with <CR><LF>.<CR><LF>\r\n");
  size_t at = 0;
  for (size_t end = 0; end < data.size();) {
    end = std::min(end + piece, data.size());
    at = end - client(data.substr(at, end - at));
  }
  backend("250 2.0.0 Ok: queued\r\n");
  return scanner.counts().messages_accepted == 1 ? passed : 0;
}

size_t FormatSessionLine(config::LogFormat format) {
  return observe::FormatLine(format, "2026-01-01T00:00:00.000Z", observe::Level::kInfo, "session",
                             {{"id", "0000000000000001"},
                              {"listener", "imap-993"},
                              {"protocol", "imap"},
                              {"client", "192.0.2.1:50000"},
                              {"tls", "TLSv1.3"},
                              {"cipher", "TLS_AES_128_GCM_SHA256"},
                              {"group", "X25519"},
                              {"resumed", "no"},
                              {"sni", "mail.example.org"},
                              {"mechanism", "PLAIN"},
                              {"user", "user@example.org"},
                              {"pool", "stores"},
                              {"backend", "store1.internal:143"},
                              {"login", "ok"},
                              {"result", "done"},
                              {"duration_ms", 12345},
                              {"login_ms", 12},
                              {"bytes_in", 1234},
                              {"bytes_out", 123456},
                              {"messages", 0},
                              {"recipients", 0},
                              {"detail", ""}})
      .size();
}

PacketCounters::PacketCounters()
    : bytes_in_(metrics_.Counter(observe::Metric::kBytes, {"imap", "in"})),
      shard_(metrics_.NewShard()) {}

namespace {

config::Pool Members(size_t members) {
  config::Pool pool;
  pool.name = "stores";
  for (size_t i = 0; i < members; ++i) {
    pool.members.push_back({{"store" + std::to_string(i) + ".internal", 143}});
  }
  return pool;
}

}  // namespace

Router::Router(size_t members) : pool_(Members(members), Protocol::kImap, 0, metrics_) {}

uint32_t Router::Route(uint32_t user) const {
  const std::string name = "user" + std::to_string(user) + "@example.org";
  return backends::Choose(*pool_.roster(), {.user = name}).value();
}

}  // namespace gatepost::benchmark
