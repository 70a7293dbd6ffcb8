// SPDX-License-Identifier: Apache-2.0
#include "gateway/session/close_reason.h"

#include <array>

namespace gatepost::session {

const CloseReasonInfo& Info(CloseReason reason) {
  using observe::Level;
  static constexpr std::array<CloseReasonInfo, static_cast<size_t>(CloseReason::kCount)> kTable = {{
      {"running", "still running", Level::kInfo},
      {"done", "ended normally", Level::kInfo},
      {"client_gone", "the client left before it was logged in", Level::kInfo},
      {"client_reset", "the client's connection was reset", Level::kInfo},
      {"no_proxy_header", "no PROXY header that can be believed", Level::kInfo},
      {"too_many_connections", "too many connections of the client's address", Level::kWarning},
      {"tls_failed", "TLS with the client failed", Level::kInfo},
      {"tls_timeout", "the client did not finish the TLS handshake in time", Level::kInfo},
      {"login_timeout", "the client did not log in in time", Level::kInfo},
      {"idle_timeout", "idle for too long", Level::kInfo},
      {"too_many_errors", "too many bad commands", Level::kWarning},
      {"too_many_failures", "too many failed logins", Level::kWarning},
      {"line_too_long", "a line or literal was too long", Level::kWarning},
      {"command_injection", "commands behind STARTTLS in the same flight", Level::kWarning},
      {"foreign_protocol", "not a mail client: HTTP, TLS or SSH", Level::kInfo},
      {"protocol_violation", "protocol violation while relaying", Level::kWarning},
      {"backend_lost", "the backend closed the connection", Level::kWarning},
      {"drain", "Gatepost is shutting down", Level::kInfo},
      {"kicked", "ended by the administrator", Level::kInfo},
      {"slow_client", "the client did not take its last bytes in time", Level::kInfo},
  }};
  static_assert(kTable.size() == static_cast<size_t>(CloseReason::kCount));
  return kTable[static_cast<size_t>(reason)];
}

CloseReason FromQuit(protocols::QuitReason reason) {
  using protocols::QuitReason;
  switch (reason) {
    case QuitReason::kLoggedOut:
      return CloseReason::kDone;
    case QuitReason::kTooManyErrors:
      return CloseReason::kTooManyErrors;
    case QuitReason::kLineTooLong:
      return CloseReason::kLineTooLong;
    case QuitReason::kCommandInjection:
      return CloseReason::kCommandInjection;
    case QuitReason::kProtocolViolation:
      return CloseReason::kProtocolViolation;
    case QuitReason::kHttp:
    case QuitReason::kTls:
    case QuitReason::kSsh:
      return CloseReason::kForeignProtocol;
    case QuitReason::kCount:
      break;
  }
  return CloseReason::kProtocolViolation;
}

}  // namespace gatepost::session
