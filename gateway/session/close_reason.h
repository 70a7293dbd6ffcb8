// Why a session ended: one table for the log text, the metric label and the log level.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

#include "gateway/observe/log.h"
#include "protocols/engine.h"

namespace gatepost::session {

enum class CloseReason : uint8_t {
  kNone,                // still running
  kDone,                // both sides said all, or the client logged out
  kClientGone,          // the client closed or reset before or during login
  kClientReset,         // reset while relaying
  kNoProxyHeader,       // where one must come first, or none that can be believed
  kTooManyConnections,  // of the client's address, found out behind a PROXY header
  kTlsFailed,           // handshake or record failure at the client
  kTlsTimeout,
  kLoginTimeout,  // no login within limits.login_timeout
  kIdleTimeout,
  kTooManyErrors,    // bad commands
  kTooManyFailures,  // failed logins
  kLineTooLong,
  kCommandInjection,   // bytes behind STARTTLS
  kForeignProtocol,    // HTTP, TLS or SSH on a mail port
  kProtocolViolation,  // in the relay, by either side
  kBackendLost,        // the backend closed or failed while relaying
  kDrain,              // we are shutting down
  kKicked,             // the administrator ended it
  kSlowClient,         // did not take its last bytes in time
  kCount
};

struct CloseReasonInfo {
  std::string_view label;  // metric label and log word
  std::string_view text;   // for people
  observe::Level level;
};
[[nodiscard]] const CloseReasonInfo& Info(CloseReason reason);

// FromQuit maps an engine's reason.
[[nodiscard]] CloseReason FromQuit(protocols::QuitReason reason);

}  // namespace gatepost::session
