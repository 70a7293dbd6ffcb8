// What the administrator can ask of the running gateway, apart from how the question came.
//
// The control socket (server.h) and the status page ask it; gateway's Server stands behind it,
// by way of running_gateway.h. Plain copies, no part of them secret. Who may call from which thread
// is said at each function.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/observe/failed_logins.h"
#include "gateway/session/session_info.h"

namespace gatepost::control {

struct ProtocolStatus {
  std::string_view protocol;
  int64_t connections = 0;       // open now
  uint64_t sessions = 0;         // of them relayed to a backend
  uint64_t logins_ok = 0;        // since the start, as the following
  uint64_t logins_failed = 0;    // refused
  uint64_t logins_deferred = 0;  // for want of an authority or a backend
  uint64_t logins_limited = 0;   // after too many guesses, or with too many sessions
  uint64_t bytes_in = 0;
  uint64_t bytes_out = 0;
};

struct ListenerStatus {
  std::string name;
  std::string_view protocol;
  std::vector<std::string> addresses;
  std::string_view tls;  // "implicit", "starttls"
  std::string pool;
  int64_t connections = 0;  // open now
  uint64_t accepted = 0;
  uint64_t handshakes_failed = 0;
};

struct VersionCount {
  std::string_view version;  // "1.0" to "1.3"
  uint64_t sessions = 0;     // TLS sessions with clients since the start
};

struct MemberStatus {
  std::string pool;
  std::string_view protocol;
  std::string member;      // "host:port"
  std::string_view state;  // "up", "avoided" (its last logins failed), "down", "misconfigured"
  std::string problem;     // of a member that is not "up": its last; the backend's words
  uint32_t weight = 1;     // as configured
  uint32_t priority = 0;   // those with a higher one are for when these are down
  double share = 0;        // of the pool's sessions, 0 to 1
  uint64_t sessions = 0;   // relayed there now
  uint64_t logins = 0;     // under way there now
  std::optional<double> login_ms;  // how long logins take lately
  uint64_t transitions = 0;        // how often it went down or came back
};

struct CertificateStatus {
  std::string certificate;  // the file of its chain, or the directory
  std::string name;         // its first
  int64_t not_after = 0;    // Unix time
  std::string problem;      // why the file that is there now is not used; empty: it is
};

struct Status {
  std::string version;
  std::string tls_library;
  std::string hostname;
  int64_t pid = 0;
  int64_t started = 0;       // Unix time
  int64_t time = 0;          // now
  std::string_view state;    // "serving", "not-ready", "draining"
  std::string problem;       // why not "serving"
  uint64_t generation = 0;   // how many configurations there were
  uint64_t generations = 0;  // that still have sessions, or take new ones
  uint32_t workers = 0;
  double drain_remaining_s = 0;  // until the last session is ended, while draining
  uint64_t connections = 0;
  uint64_t connection_limit = 0;
  std::vector<ProtocolStatus> protocols;
  std::vector<ListenerStatus> listeners;
  std::vector<VersionCount> tls_versions;
  std::vector<MemberStatus> backends;
  std::vector<CertificateStatus> certificates;
  std::vector<observe::FailedLogin> failed_logins;  // the newest first
};

struct SessionList {
  uint64_t matched = 0;                        // how many there are
  std::vector<session::SessionInfo> sessions;  // the oldest first; not more than were asked for
};

// A file that a reload has left as it was before, and why.
struct NotTaken {
  std::string file;
  std::string problem;
};

// What came of a reload.
struct ReloadResult {
  std::vector<std::string> problems{};  // any: nothing has changed
  bool changed = false;               // the configuration; else certificates and their kin at most
  std::vector<NotTaken> not_taken{};  // of the certificates and their kin
  uint64_t generation = 0;            // that takes new clients now
  std::string restart{};              // keys that differ, and change only with a restart
};

// What came of an upgrade.
struct UpgradeResult {
  std::string problem{};  // any: nothing has changed
  int64_t process = 0;    // that takes new clients now
  uint64_t sessions = 0;  // that stay with this one
};

class Gateway {
 public:
  virtual ~Gateway() = default;

  // How it fares. Any thread.
  [[nodiscard]] virtual Status GetStatus() const = 0;

  // The following are for the main thread, on which they also answer; the lists and Kick not at all
  // where a worker does not answer.

  // ListSessions answers with at most `limit` sessions that match.
  virtual void ListSessions(session::SessionFilter filter, size_t limit,
                            std::function<void(SessionList)> answer) = 0;
  // Kick asks the sessions that match to end, many of them over a while, and answers with their
  // number.
  virtual void Kick(session::SessionFilter filter, std::function<void(uint64_t)> answer) = 0;
  // Drain does as SIGTERM, once; false: it is under way already.
  virtual bool Drain() = 0;
  // Reload does as SIGHUP; it answers when that has ended.
  virtual void Reload(std::function<void(const ReloadResult&)> answer) = 0;
  // Upgrade does as SIGUSR2; the same.
  virtual void Upgrade(std::function<void(const UpgradeResult&)> answer) = 0;
};

}  // namespace gatepost::control
