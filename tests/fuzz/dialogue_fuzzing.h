// What the fuzzers of the engines share: flights, transcripts of a run, and the invariants.
//
// The input's first byte chooses the facts; 0xFF ends a flight (the peer waits for us).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "protocols/engine.h"

namespace gatepost::fuzzing {

inline void Require(bool holds, const char* what, std::string_view bytes = {}) {
  if (holds) return;
  std::fprintf(stderr, "broken: %s\n%s\n", what, std::string(bytes).c_str());
  std::abort();
}

inline std::vector<std::string_view> Flights(std::string_view data) {
  std::vector<std::string_view> flights;
  while (!data.empty()) {
    const std::string_view flight = data.substr(0, data.find('\xFF'));
    flights.push_back(flight);
    data.remove_prefix(std::min(flight.size() + 1, data.size()));
  }
  return flights;
}

// Transcript is what one run of an engine did.
struct Transcript {
  std::string sent;        // everything written, with the actions between
  bool quit = false;       // server: Quit; client: LoggedIn or Refused
  bool injection = false;  // server: Quit{kCommandInjection}
  bool failed = false;     // client: Failed
};

inline bool IsPresentable(std::string_view text) {
  return text.find_first_of(std::string_view("\0\r\n", 3)) == std::string_view::npos;
}

// RequireLines aborts unless `output` is lines of printable ASCII that end in CRLF.
inline void RequireLines(std::string_view output) {
  while (!output.empty()) {
    const size_t end = output.find("\r\n");
    Require(end != std::string_view::npos, "output ends in CRLF", output);
    for (const char c : output.substr(0, end)) {
      Require(c >= 0x20 && c < 0x7F, "output is printable ASCII", output);
    }
    output.remove_prefix(end + 2);
  }
}

// RunServer feeds `flights` in pieces of `piece_bytes` (0: whole); every login is refused, after
// challenges where it is relayed, or password or answer ends in "c".
inline Transcript RunServer(protocols::ServerEngine& engine,
                            const std::vector<std::string_view>& flights, size_t piece_bytes) {
  Transcript result;
  protocols::Buffer input;
  protocols::Buffer output;
  engine.Greet(output);
  for (std::string_view flight : flights) {
    while (!flight.empty()) {
      const std::string_view piece =
          flight.substr(0, piece_bytes == 0 ? flight.size() : piece_bytes);
      flight.remove_prefix(piece.size());
      input << piece;
      bool again = true;
      while (again) {
        const protocols::ServerAction action = engine.Next(input, output);
        RequireLines(output.view());
        result.sent += output.view();
        output.Clear();
        again = false;
        if (const auto* login = std::get_if<protocols::Authenticate>(&action)) {
          const sasl::Credentials& credentials = login->credentials;
          Require(IsPresentable(credentials.authorization_identity) &&
                      IsPresentable(credentials.authentication_identity) &&
                      IsPresentable(credentials.password.Reveal()),
                  "credentials hold no NUL, CR or LF");
          Require(!credentials.authentication_identity.empty() ||
                      credentials.mechanism == sasl::Mechanism::kCramMd5,
                  "somebody logs in");
          result.sent.append("<").append(credentials.authorization_identity).append("|");
          result.sent.append(credentials.authentication_identity).append("|");
          result.sent.append(credentials.password.Reveal()).append(">");
          if (credentials.password.Reveal().ends_with('c') ||
              sasl::IsRelayed(credentials.mechanism)) {
            engine.Challenge(credentials.authentication_identity, output);
          } else {
            engine.LoginFailed(protocols::LoginFailure::kBadCredentials, {}, output);
          }
          again = true;
        } else if (const auto* answer = std::get_if<protocols::Answer>(&action)) {
          result.sent.append("<answer ").append(answer->message.Reveal()).append(">");
          if (answer->message.Reveal().ends_with('c')) {
            engine.Challenge("again", output);
          } else {
            engine.LoginFailed(protocols::LoginFailure::kBadCredentials, {}, output);
          }
          again = true;
        } else if (std::holds_alternative<protocols::Cancelled>(action)) {
          result.sent += "<cancelled>";
          again = true;
        } else if (std::holds_alternative<protocols::StartTls>(action)) {
          Require(input.empty(), "nothing stands behind STARTTLS");
          result.sent += "<starttls>";
          engine.TlsStarted("alice");
        } else if (const auto* quit = std::get_if<protocols::Quit>(&action)) {
          result.quit = true;
          result.injection = quit->reason == protocols::QuitReason::kCommandInjection;
          result.sent += "<quit " + std::to_string(static_cast<int>(quit->reason)) + ">";
          return result;
        } else {
          // A line and a literal are the most that an engine leaves; here both are small.
          Require(input.size() <= 4096, "what is kept is bounded");
        }
      }
    }
  }
  return result;
}

// RunClient feeds `flights` likewise.
inline Transcript RunClient(protocols::ClientEngine& engine,
                            const std::vector<std::string_view>& flights, size_t piece_bytes) {
  Transcript result;
  protocols::Buffer input;
  protocols::Buffer output;
  const auto next = [&] {
    const protocols::ClientAction action = engine.Next(input, output);
    result.sent += output.view();
    output.Clear();
    if (const auto* in = std::get_if<protocols::LoggedIn>(&action)) {
      Require(in->reply.status.empty() || in->reply.status.ends_with("\r\n"), "status is a line",
              in->reply.status);
      Require(in->reply.untagged.empty() || in->reply.untagged.ends_with("\r\n"),
              "untagged responses are lines", in->reply.untagged);
      result.sent.append("<in ").append(in->reply.status).append(">");
      result.quit = true;
    } else if (const auto* refused = std::get_if<protocols::Refused>(&action)) {
      Require(refused->text.find('\n') == std::string::npos, "a refusal is one line");
      result.sent += "<refused " + std::to_string(static_cast<int>(refused->reason)) + ">";
      result.quit = true;
    } else if (const auto* challenged = std::get_if<protocols::Challenged>(&action)) {
      result.sent.append("<challenged ").append(challenged->message).append(">");
      engine.Answer("answer");
      return true;
    } else if (std::holds_alternative<protocols::Failed>(action)) {
      result.failed = true;
    } else if (std::holds_alternative<protocols::StartTls>(action)) {
      Require(input.empty(), "nothing stands behind STARTTLS");
      result.sent += "<starttls>";
      engine.TlsStarted();
      return true;
    }
    return false;
  };
  while (next()) {
  }
  for (std::string_view flight : flights) {
    while (!flight.empty()) {
      if (result.quit || result.failed) return result;
      const std::string_view piece =
          flight.substr(0, piece_bytes == 0 ? flight.size() : piece_bytes);
      flight.remove_prefix(piece.size());
      input << piece;
      while (next()) {
      }
    }
  }
  return result;
}

// ServerFactsOf reads the facts from the input's first byte; limits are small, to be met.
inline protocols::ServerFacts ServerFactsOf(uint8_t choice) {
  protocols::ServerFacts facts;
  facts.hostname = "mail.example.org";
  facts.tls_active = (choice & 1) != 0;
  facts.starttls_offered = (choice & 2) != 0;
  facts.cleartext_login_allowed = (choice & 4) != 0;
  if ((choice & 8) != 0) facts.external_identity = "alice";
  facts.trusted_proxy = (choice & 16) != 0;
  facts.keep_id = (choice & 32) != 0;
  if ((choice & 64) != 0) {
    facts.mechanisms.Add(sasl::Mechanism::kXoauth2);
    facts.mechanisms.Add(sasl::Mechanism::kOauthbearer);
    facts.mechanisms.Add(sasl::Mechanism::kScramSha256);
    facts.mechanisms.Add(sasl::Mechanism::kCramMd5);
  }
  if ((choice & 128) != 0) facts.apop_timestamp = "<1.2@mail.example.org>";
  facts.limits.max_line_bytes = 256;
  facts.limits.max_literal_bytes = 512;
  return facts;
}

// CredentialsOf likewise for a client engine.
inline sasl::Credentials CredentialsOf(uint8_t choice) {
  if ((choice & 32) != 0) {
    if ((choice & 128) != 0) {
      return {sasl::Mechanism::kScramSha256, "", "bob", sasl::Secret("n,,n=bob,r=nonce")};
    }
    return {sasl::Mechanism::kOauthbearer, "", "bob", sasl::Secret("to.ken")};
  }
  return {sasl::Mechanism::kPlain, (choice & 2) != 0 ? "alice" : "",
          (choice & 4) != 0 ? "b\xC3\xB6" : "bob",
          sasl::Secret((choice & 8) != 0 ? "a\r\nb" : "se\"cr et")};
}

inline protocols::ClientFacts ClientFactsOf(uint8_t choice, const sasl::Credentials& credentials) {
  protocols::ClientFacts facts;
  facts.hostname = "mail.example.org";
  facts.tls = (choice & 1) != 0 ? protocols::BackendTls::kStartTls : protocols::BackendTls::kNone;
  facts.credentials = (choice & 16) != 0 ? nullptr : &credentials;
  if ((choice & 64) != 0) facts.login_mechanism = protocols::LoginMechanism::kXoauth2;
  facts.max_line_bytes = 256;
  return facts;
}

// IntroductionOf likewise says who the client is, or nothing.
inline std::shared_ptr<const protocols::Introduction> IntroductionOf(uint8_t choice) {
  if ((choice & 32) == 0) return nullptr;
  protocols::Introduction client;
  client.client_host = (choice & 64) != 0 ? "2001:db8::7" : "192.0.2.7";
  client.client_port = 49152;
  client.session_id = "0123456789abcdef";
  client.ttl = 6;
  client.transport = "TLS";
  client.helo = (choice & 64) != 0 ? std::string(160, '+') : "client";
  client.id = {{"name", "a \"b\\"}, {"version", "\r\n"}};
  return std::make_shared<const protocols::Introduction>(std::move(client));
}

// FuzzServer runs an engine whole and in pieces, and compares.
template <typename Engine>
void FuzzServer(const uint8_t* data, size_t size) {
  if (size == 0) return;
  const auto flights = Flights({reinterpret_cast<const char*>(data) + 1, size - 1});
  Engine whole_engine(ServerFactsOf(data[0]));
  const Transcript whole = RunServer(whole_engine, flights, 0);
  // Cut elsewhere, bytes behind STARTTLS would not be in its flight.
  if (whole.injection) return;
  for (const size_t piece_bytes : {size_t{1}, size_t{2}, size_t{7}}) {
    Engine engine(ServerFactsOf(data[0]));
    const Transcript pieces = RunServer(engine, flights, piece_bytes);
    Require(pieces.sent == whole.sent, "any split has the same result", pieces.sent);
  }
}

template <typename Engine>
void FuzzClient(const uint8_t* data, size_t size) {
  if (size == 0) return;
  const auto flights = Flights({reinterpret_cast<const char*>(data) + 1, size - 1});
  const sasl::Credentials credentials = CredentialsOf(data[0]);
  Engine whole_engine(ClientFactsOf(data[0], credentials));
  whole_engine.Introduce(IntroductionOf(data[0]));
  const Transcript whole = RunClient(whole_engine, flights, 0);
  Require(whole.sent.find("a\r\nb") == std::string::npos, "no line end comes from a password");
  // An answer that came before its question fails; cut elsewhere, it would have come behind it.
  if (whole.failed) return;
  for (const size_t piece_bytes : {size_t{1}, size_t{2}, size_t{7}}) {
    Engine engine(ClientFactsOf(data[0], credentials));
    engine.Introduce(IntroductionOf(data[0]));
    const Transcript pieces = RunClient(engine, flights, piece_bytes);
    Require(!pieces.failed && pieces.sent == whole.sent, "any split has the same result",
            pieces.sent);
  }
}

}  // namespace gatepost::fuzzing
