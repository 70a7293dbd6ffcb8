// Runs tests/dialogues/<protocol>/*.dialog against a server engine in memory.
//
// A dialogue is text, one step a line:
//   # comment                       "# no-split" alone on a line: run it unsplit only
//   facts: tls=active|offered|none cleartext=allow|deny [bare_newline=reject|normalize]
//          [external=USER] [apop=TIMESTAMP] [mechanisms=A,B] [local=DOMAIN,DOMAIN]
//          [recipients=judged]
//          [capabilities=A,B C,D] one line; capabilities go to its end; USER is for whom the
//          client's certificate stands, once TLS is active
//   c -> TEXT                       the client sends TEXT and CRLF
//   c raw> TEXT                     the client sends these bytes: \r \n \0 \t \\ \xNN
//   c <- TEXT                       the server sends exactly this line
//   c <~ REGEX                      the server sends a line that matches (ECMAScript)
//   -> starttls                     the engine asks for the handshake, which succeeds
//   -> authenticate PLAIN|LOGIN|EXTERNAL|…|cleartext authzid="" user="u" password="p"
//   then challenge "TEXT"           … and somebody behind asks the client for more
//   -> answer "TEXT"                the client says it, and the login goes on as after authenticate
//   -> cancelled                    or it does not
//   then ok [STATUS LINE]           … and the login succeeds with this reply of the backend
//   then failed kBadCredentials [text]
//   -> inbound                      the engine gives the client to the relay, without a login; then
//   b <- TEXT                       the backend is sent exactly this line
//   b -> TEXT                       the backend sends TEXT and CRLF
//   then failed inbound             … or else there is no backend
//   -> judge HELLO | MAIL | RCPT    … whom the relay has somebody judge, with what is known of it
//   then judged [REPLY LINE]        … who says this; nothing: the backend may have the recipient
//   -> quit kLoggedOut              the engine closes; any QuitReason
// The server is mail.example.org. Client lines without an expectation between are one flight.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <variant>
#include <vector>

#include "protocols/engines.h"

namespace gatepost::test {

struct Flight {  // what the client sends in one go
  std::string bytes;
};
struct ExpectLine {
  std::string text;
  bool is_regex = false;
};
struct ExpectStartTls {};
struct ExpectAuthenticate {
  std::string mechanism;
  std::string authorization_identity;
  std::string authentication_identity;
  std::string password;
};
struct ThenChallenge {
  std::string text;
};
struct ExpectAnswer {
  std::string text;
};
struct ExpectCancelled {};
struct ThenOk {
  std::string status;
};
struct ThenFailed {
  protocols::LoginFailure reason;
  std::string text;
};
struct ExpectInbound {};
struct InboundFailed {};
struct ExpectBackendLine {
  std::string text;
};
struct BackendLine {
  std::string text;
};
struct ExpectJudge {
  std::string text;
};
struct ThenJudged {
  std::string refusal;
};
struct ExpectQuit {
  protocols::QuitReason reason;
};

struct Step {
  int line = 0;  // in the file
  std::variant<Flight, ExpectLine, ExpectStartTls, ExpectAuthenticate, ThenChallenge, ExpectAnswer,
               ExpectCancelled, ThenOk, ThenFailed, ExpectInbound, InboundFailed, ExpectBackendLine,
               BackendLine, ExpectJudge, ThenJudged, ExpectQuit>
      what;
};

struct Dialogue {
  std::filesystem::path file;
  protocols::Protocol protocol = protocols::Protocol::kImap;
  protocols::ServerFacts facts;
  std::string external_identity;  // after STARTTLS
  bool may_split = true;
  std::vector<Step> steps;
};

// ReadDialogue parses a file; on failure `error` says file, line and what is wrong.
Dialogue ReadDialogue(const std::filesystem::path& file, std::string& error);

// Split says where one flight of a run is cut: at `offset` bytes of the step `step`; or every
// flight at every byte.
struct Split {
  bool every_byte = false;
  size_t step = SIZE_MAX;
  size_t offset = 0;
};

// RunDialogue returns an empty string, or file, line and what went wrong.
std::string RunDialogue(const Dialogue& dialogue, Split split);

}  // namespace gatepost::test
