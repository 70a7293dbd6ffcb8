// The observer of a relay after login: sees both directions, says for each piece what becomes of
// it.
//
// SMTP has one (protocols/smtp/relay_scanner.h); IMAP and POP3 relay opaquely, without. No I/O; it
// copies nothing of what passes. Owned by the relay; one thread.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "protocols/buffer.h"
#include "protocols/engine.h"

namespace gatepost::protocols {

// Counted over the life of a session.
struct RelayCounts {
  // Replies of the backend, by what was asked and by the first digit of the code: SMTP.
  enum class Asked : uint8_t { kMail, kRcpt, kMessage, kCount };  // the end of the mail data
  enum class Class : uint8_t { k2xx, k4xx, k5xx, kCount };
  using Replies = std::array<std::array<uint32_t, static_cast<size_t>(Class::kCount)>,
                             static_cast<size_t>(Asked::kCount)>;

  Replies replies{};
  uint32_t messages_accepted = 0;
  uint32_t messages_refused = 0;
  uint32_t recipients = 0;
  uint32_t smuggling_refused = 0;  // messages with a bare CR or LF
  uint32_t relaying_denied = 0;    // recipients that nobody had logged in for
  uint32_t commands_refused = 0;   // STARTTLS, AUTH, XCLIENT, XFORWARD, …
  uint64_t message_bytes = 0;      // of the accepted messages, as they were sent to the backend
};

class RelayScanner {
 public:
  enum class Do : uint8_t {
    kForward,         // `bytes` bytes of the input pass unchanged to the other side
    kSwallow,         // `bytes` bytes of the input are dropped
    kNeedInput,       // the input is the beginning of something; call again when there is more
    kWaitForBackend,  // client direction only: keep the input, call again after FromBackend
    kAsk,           // client direction only: keep the input, have somebody judge recipient(), call
                    // again after Judge; FromBackend goes on meanwhile
    kResetBackend,  // client direction only: close the backend connection without QUIT, log in
                    // anew with the same credentials, then BackendReset()
    kClose          // flush both, close; `reason` says why
  };
  struct Step {
    Do what;
    size_t bytes = 0;
    QuitReason reason = QuitReason::kLoggedOut;
  };

  // A recipient of mail for which nobody has logged in, and what was said of it, as the backend is
  // told: one line each.
  struct Recipient {
    std::string_view hello;  // the client's name for itself
    std::string_view mail;   // the whole command, without CRLF
    std::string_view rcpt;
    uint32_t number = 0;  // of the session's recipients, from 1
  };

  virtual ~RelayScanner() = default;

  // FromClient looks at what the client sent and was not consumed yet (not empty). What the scanner
  // appends to `to_backend` goes to the backend before the bytes that this step forwards;
  // `to_client` goes to the client at once. kForward and kSwallow never return 0 bytes.
  virtual Step FromClient(std::string_view input, Buffer& to_client, Buffer& to_backend) = 0;

  // FromBackend likewise; what it appends to `to_client` goes before the bytes that it forwards.
  virtual Step FromBackend(std::string_view input, Buffer& to_client) = 0;

  // SetBackend tells what the backend of the connection in use offers. Call it before the first
  // bytes of each connection: members of a pool may differ.
  virtual void SetBackend(const Capabilities& capabilities) = 0;

  // HideSubmitter has the client not say for whom it sends a message (SMTP's AUTH parameter of
  // MAIL): the backend can't tell it from others, and would take its word. Once, at the beginning.
  virtual void HideSubmitter() {}

  // BackendReset tells that a fresh, logged-in backend connection took the place of the old one.
  virtual void BackendReset() = 0;

  // recipient returns whom kAsk is about; valid until Judge.
  [[nodiscard]] virtual Recipient recipient() const { return {}; }
  // Judge takes the answer: a whole reply, with code and without CRLF; empty: the backend may have
  // it.
  virtual void Judge(std::string_view /*refusal*/) {}

  // AtBoundary says whether the session can be ended now without breaking a mail transaction: no
  // command is unanswered, no mail data is under way, no transaction is open.
  [[nodiscard]] virtual bool AtBoundary() const = 0;

  // AwaitsVerdict says whether the backend has a whole message and has not said what becomes of it:
  // if the client gives up now it will send the message again (RFC 5321 §4.5.3.2.6).
  [[nodiscard]] virtual bool AwaitsVerdict() const { return false; }

  // CanSpeak says whether a reply of ours would be understood as one (not inside mail data, no
  // reply half forwarded). At a hard deadline a notice may be sent where AtBoundary is false but
  // this true.
  [[nodiscard]] virtual bool CanSpeak() const = 0;

  // Say appends a notice in the protocol's words.
  virtual void Say(Notice notice, Buffer& to_client) = 0;

  [[nodiscard]] const RelayCounts& counts() const { return counts_; }

 protected:
  RelayCounts counts_;
};

}  // namespace gatepost::protocols
