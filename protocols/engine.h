// The contract of the protocol engines: bytes in, bytes and one Action out.
//
// Server engines face the client (IMAP, POP3, SMTP before and during login); client engines face
// the backend (greeting, STARTTLS, login). They do no I/O, read no clock, keep no global, and log
// nothing. The session (gateway/session) drives them. One thread at a time.
//
// Rules that every engine keeps, and that tests/unit/protocols asserts:
//  1. Any split of the input gives the same actions and the same output.
//  2. Every buffer has a maximum, given at construction.
//  3. Bytes that stand behind STARTTLS/STLS in the same flight are never interpreted and never
//     forwarded: Quit{kCommandInjection} (RFC 3207 §4.2). State from before TLS is forgotten.
//  4. Capabilities come from Facts, never from a global.
//  5. A malformed command becomes a reply, and after `max_bad_commands` of them Quit.
//  6. No control character gets from a credential or name into a line that is written.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "protocols/buffer.h"
#include "protocols/introduction.h"
#include "protocols/sasl/credentials.h"
#include "protocols/sasl/mechanisms.h"

namespace gatepost::protocols {

class RelayScanner;

// Capabilities of a backend, in its own words, one element each, in its order:
// IMAP capability atoms ("IMAP4rev1", "IDLE", "AUTH=PLAIN"), POP3 CAPA lines ("SASL PLAIN", "TOP"),
// EHLO keyword lines without code ("SIZE 10240000", "PIPELINING").
using Capabilities = std::vector<std::string>;

// What to do with a bare CR or bare LF in mail data (SMTP only).
enum class BareNewline : uint8_t { kReject, kNormalize };

// Limits of one dialogue. Sizes are in bytes.
struct DialogueLimits {
  size_t max_line_bytes = 8192;      // a command line without its CRLF
  size_t max_literal_bytes = 65536;  // all literals of one IMAP command together, before login
  unsigned max_bad_commands = 10;
};

// What a server engine may offer and require.
struct ServerFacts {
  std::string hostname;                  // our name in greetings and the EHLO reply
  bool tls_active = false;               // implicit TLS, or after STARTTLS
  bool starttls_offered = false;         // the listener can do STARTTLS
  bool cleartext_login_allowed = false;  // credentials are accepted without TLS
  // What may be offered; of these EXTERNAL only with an identity. kProtocol: IMAP LOGIN, POP3 USER
  // and PASS.
  sasl::MechanismSet mechanisms = {sasl::Mechanism::kPlain, sasl::Mechanism::kLogin,
                                   sasl::Mechanism::kExternal, sasl::Mechanism::kProtocol};
  // POP3: what the greeting has clients of APOP make their digest of, "<…@…>"; empty: no APOP.
  std::string apop_timestamp;
  // Whom TLS proved the client to be, one line of text; empty: nobody. With it goes SASL EXTERNAL.
  std::string external_identity;
  std::shared_ptr<const Capabilities> backend_capabilities;  // of the pool; may be null
  // SMTP: domains, in lower case, for which mail is taken without a login; null: none.
  std::shared_ptr<const std::vector<std::string>> local_domains;
  bool judges_recipients = false;  // SMTP: somebody is asked about each of that mail's recipients
  BareNewline bare_newline = BareNewline::kReject;  // SMTP: null op elsewhere
  bool keep_id = false;        // IMAP: what the client says of itself is to be passed on
  bool trusted_proxy = false;  // the peer may introduce clients (ID, XCLIENT)
  DialogueLimits limits;
};

// Why an engine wants the connection closed. The engine has already appended its farewell.
enum class QuitReason : uint8_t {
  kLoggedOut,          // LOGOUT, QUIT
  kTooManyErrors,      // bad commands
  kLineTooLong,        // a line or literal that can't be resynchronised
  kCommandInjection,   // bytes behind STARTTLS/STLS
  kProtocolViolation,  // of either peer, after login
  kHttp,               // another protocol on a mail port
  kTls,
  kSsh,
  kCount
};

// Why a login failed, as the client may know it. interfaces: RFC 5530, 3206, 4954, 5248.
enum class LoginFailure : uint8_t {
  kBadCredentials,        // NO [AUTHENTICATIONFAILED] / -ERR [AUTH] / 535 5.7.8
  kAuthorizationDenied,   // NO [AUTHORIZATIONFAILED] / -ERR [AUTH] / 535 5.7.8
  kUnavailable,           // NO [UNAVAILABLE] / -ERR [SYS/TEMP] / 454 4.7.0
  kBackendMisconfigured,  // NO [SERVERBUG] / -ERR [SYS/PERM] / 454 4.7.0
  kTooManyConnections,    // NO [LIMIT] / -ERR [IN-USE] / 454 4.7.0
  kRateLimited,           // NO [LIMIT] / -ERR [LOGIN-DELAY] / 454 4.7.0
  kAccountDisabled,       // NO [CONTACTADMIN] / -ERR [AUTH] / 525 5.7.13
  kPasswordExpired,       // NO [EXPIRED] / -ERR [AUTH] / 535 5.7.8
  kPolicy,                // to the client the same as kBadCredentials
  kCount
};

// A message that we send on our own account, outside any command, before closing.
enum class Notice : uint8_t {
  kServerFull,          // at connect: * BYE [UNAVAILABLE] / -ERR [SYS/TEMP] / 421 4.3.2
  kTooManyConnections,  // at connect, of one address: 421 4.7.0
  kShuttingDown,        // * BYE [UNAVAILABLE] / -ERR [SYS/TEMP] / 421 4.3.2
  kIdleTimeout,         // * BYE / -ERR / 421 4.4.2
  kBackendSilent,       // SMTP: no answer to a whole message, 421 4.4.2
  kLoginTimeout,        // too long without a login
  kTooManyFailures,     // failed logins
  kBackendLost,         // the backend closed: * BYE [UNAVAILABLE] / -ERR [SYS/TEMP] / 421 4.3.0
  kKicked,              // by the administrator: * BYE / -ERR [SYS/TEMP] / 421 4.3.2
  kCount
};

// Events that metrics count; a server engine only adds to them.
struct ServerCounts {
  uint32_t bad_commands = 0;
  uint32_t lines_too_long = 0;
  uint32_t bad_base64 = 0;
  uint32_t aborted_auth = 0;  // "*" or an empty exchange
  uint32_t unknown_mechanisms = 0;
  uint32_t tls_required = 0;   // login refused since TLS is not active
  uint32_t auth_required = 0;  // SMTP: MAIL and the like before AUTH
  uint32_t starttls_refused = 0;
};

// ---- actions of a server engine
// ------------------------------------------------------------------

struct NeedInput {};   // everything usable was consumed; call again with more
struct StartTls {};    // flush output, start the TLS server handshake, TlsStarted()
struct Authenticate {  // check these, then LoginSucceeded() or LoginFailed()
  sasl::Credentials credentials;
};
struct Answer {  // the client's to a Challenge(), not base64; then as after Authenticate
  sasl::Secret message;
};
struct Cancelled {};  // instead of an Answer: the login is over, its reply appended
struct Quit {         // flush output, close
  QuitReason reason;
};
// SMTP: without a login, a mail transaction begins that may go to ServerFacts::local_domains.
// Connect to where their mail lives, then MakeScanner(): its first input is the MAIL command, which
// stays in `input`. Or else InboundFailed().
struct Inbound {};
using ServerAction =
    std::variant<NeedInput, StartTls, Authenticate, Answer, Cancelled, Inbound, Quit>;

// The backend's answer to our login, to be shown to the client. No part contains the backend-side
// tag; lines end in CRLF. Empty `status`: the login needed no exchange, the engine uses its own
// text.
struct LoginReply {
  std::string untagged;  // IMAP: whole untagged response lines that came with the answer
  std::string status;  // IMAP "OK [CAPABILITY …] done\r\n", POP3 "+OK …\r\n", SMTP "235 …\r\n"
};

class ServerEngine {
 public:
  virtual ~ServerEngine() = default;

  // Greet appends the greeting. Call it once, when the client may be spoken to.
  virtual void Greet(Buffer& output) = 0;

  // Next consumes complete commands from `input`, appends replies to `output`, and returns what the
  // caller must do. After Authenticate and Answer, Next must not be called before Challenge or
  // LoginFailed; after LoginSucceeded or Quit not at all. What stands in `input` behind the login
  // command stays there: it is the first input of the relay.
  virtual ServerAction Next(Buffer& input, Buffer& output) = 0;

  // TlsStarted tells that the handshake after StartTls succeeded; all state is forgotten (RFC 3207
  // §4.2, RFC 9051 §6.2.1, RFC 2595 §4). `external_identity` as in ServerFacts.
  virtual void TlsStarted(std::string external_identity) = 0;

  // Challenge passes on what the backend or the authority asks the client (not base64) before it
  // decides about the login: the next action but NeedInput is Answer, Cancelled or Quit.
  virtual void Challenge(std::string_view message, Buffer& output) = 0;

  // LoginSucceeded appends the final reply of the login command.
  virtual void LoginSucceeded(const LoginReply& reply, Buffer& output) = 0;

  // LoginFailed appends the refusal; the client may try again. `text` overrides the standard text
  // when not empty (control characters in it are replaced); in SMTP, one that begins with a reply
  // code, "535 5.7.8 Wrong", overrides ours with it. Where a token was refused
  // and nobody has said so in the mechanism's way, an error challenge goes first and the refusal
  // waits for the client's answer to it (RFC 7628 §3.2.3), in Next.
  virtual void LoginFailed(LoginFailure reason, std::string_view text, Buffer& output) = 0;

  // InboundFailed tells that there is no backend for Inbound: Next will answer MAIL with a
  // temporary failure.
  virtual void InboundFailed() {}

  // Say appends a notice outside any command (before a close).
  virtual void Say(Notice notice, Buffer& output) = 0;

  // MakeScanner returns the observer of the relay after login or Inbound, or null for an opaque
  // relay.
  virtual std::unique_ptr<RelayScanner> MakeScanner() = 0;

  // Name the client gave itself: SMTP EHLO/HELO argument, else empty. Printable ASCII only.
  [[nodiscard]] virtual std::string_view client_name() const { return {}; }

  // What a trusted proxy said of its client, and the client of itself, since the connection or TLS
  // began; null: nothing.
  [[nodiscard]] const Introduction* introduction() const { return introduction_.get(); }

  [[nodiscard]] const ServerCounts& counts() const { return counts_; }

 protected:
  ServerCounts counts_;
  std::unique_ptr<Introduction> introduction_;
};

// Whether a backend believed the introduction of a client.
enum class Trust : uint8_t {
  kUnknown,  // there was none, or no answer yet
  kRefused,  // the backend does not offer to listen, or took no notice
  kGiven
};

// ---- client engines
// ------------------------------------------------------------------------------

enum class BackendTls : uint8_t { kNone, kStartTls, kImplicit };

// How to present a password or token to a backend.
enum class LoginMechanism : uint8_t {
  kAuto,        // as the client's credentials want it and the backend offers it
  kPlain,       // SASL PLAIN
  kLogin,       // SASL LOGIN (SMTP), the protocol's own commands (IMAP, POP3)
  kXoauth2,     // the password is a bearer token
  kOauthbearer  // the same
};

struct ClientFacts {
  std::string hostname;                // our EHLO name
  BackendTls tls = BackendTls::kNone;  // kStartTls: the engine asks for it before anything else
  // Borrowed for the engine's life. Null: stop with Ready when only the login is missing.
  const sasl::Credentials* credentials = nullptr;
  bool authenticate = true;  // false: SMTP to a backend that wants no AUTH
  LoginMechanism login_mechanism = LoginMechanism::kAuto;
  // What the backend is known to offer in the state of the login; null: ask it. Saves a round trip
  // where the protocol lets us go without the answer (POP3; IMAP when the greeting has no list).
  std::shared_ptr<const Capabilities> known_capabilities = nullptr;
  size_t max_line_bytes = 8192;
};

// Why the backend could not serve a login. Whether another one may be asked is stated here, in one
// place, for all protocols: never after an answer to the credentials, which is Refused.
enum class BackendFailure : uint8_t {
  kRefusedService,   // greeting 421/554, BYE, -ERR: another member may serve
  kShuttingDown,     // 421 4.3.2, BYE [UNAVAILABLE], greeting -ERR [SYS/TEMP]: it will for all
  kUnavailable,      // [UNAVAILABLE], [SYS/TEMP], 4yz: another member may serve
  kProtocolError,    // nonsense: another member may serve
  kNoStartTls,       // STARTTLS wanted and not offered or refused
  kNoMechanism,      // no mechanism that can carry these credentials
  kNoAuthorization,  // none that can say on whose behalf, as these want it; no other is to be used
  kInjection,        // bytes behind the STARTTLS reply
  kUnencodable,      // the credentials can't be written in this protocol
  kCount
};

struct Ready {};     // capabilities() are known; LogIn() or LogOut() may follow, at any time
struct Challenged {  // the client must say something to this (not base64): Answer(), then Next
  std::string message;
};
struct LoggedIn {  // what `input` still holds belongs to the client
  LoginReply reply;
};
struct Refused {  // the backend said no to these credentials
  LoginFailure reason;
  std::string text;  // the backend's text, one line, for the log; not trusted
  // IMAP: the URL of where the user is instead (RFC 2221); not trusted, empty: there is none.
  std::string referral = {};
};
struct Failed {
  BackendFailure reason;
  std::string detail;  // for the log; not trusted, may hold any bytes
};
using ClientAction =
    std::variant<NeedInput, StartTls, Ready, Challenged, LoggedIn, Refused, Failed>;

class ClientEngine {
 public:
  virtual ~ClientEngine() = default;

  // Next consumes the backend's responses from `input`, appends commands to `output`, and says what
  // to do. Call it once with an empty input at the start. After LoggedIn, Refused or Failed not
  // again. A response is believed only if its question was asked: bytes that come before are
  // Failed.
  virtual ClientAction Next(Buffer& input, Buffer& output) = 0;

  // LogIn gives the credentials, borrowed for the engine's life, after Ready or before; call Next
  // (with what input there is) afterwards.
  virtual void LogIn(const sasl::Credentials& credentials) = 0;

  // Introduce has the login begin with telling who the client is, in the protocol's own words,
  // where the backend offers to listen. Before LogIn.
  void Introduce(std::shared_ptr<const Introduction> introduction) {
    introduction_ = std::move(introduction);
  }
  [[nodiscard]] Trust trust() const { return trust_; }

  // Present has the login use `mechanism` instead of ClientFacts::login_mechanism. Before LogIn.
  void Present(LoginMechanism mechanism) { mechanism_ = mechanism; }

  // Answer gives what the client says to a challenge, not base64; call Next afterwards.
  virtual void Answer(std::string_view message) = 0;

  // LogOut appends the command that ends a connection which is Ready.
  virtual void LogOut(Buffer& output) = 0;

  // TlsStarted tells that the handshake after StartTls succeeded; capabilities are forgotten.
  virtual void TlsStarted() = 0;

  // Capabilities learnt so far, of the state in which the login takes place (after STARTTLS).
  [[nodiscard]] virtual const Capabilities& capabilities() const = 0;

 protected:
  std::shared_ptr<const Introduction> introduction_;
  Trust trust_ = Trust::kUnknown;
  std::optional<LoginMechanism> mechanism_;
};

}  // namespace gatepost::protocols
