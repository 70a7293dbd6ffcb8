// The keys that session tickets are sealed with: made and changed here, or read from a file that
// several gateways share.
//
// TicketKeys belongs to the process and is shared by all contexts. A handshake takes a snapshot,
// which is immutable and wiped with its last user; nothing is kept for a session. RFC 5077, RFC
// 8446 §4.6.1.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <tl/expected.hpp>

#include "tls/error.h"

namespace gatepost::tls {

// TicketRing is one state of the keys. Private to tls/.
struct TicketRing;

class TicketKeys {
 public:
  using Clock = std::chrono::steady_clock;

  // Random makes keys of this process. A ticket is good for `lifetime`, and so is a key to seal
  // with; then it opens tickets for as long again.
  [[nodiscard]] static std::shared_ptr<TicketKeys> Random(std::chrono::seconds lifetime,
                                                          Clock::time_point now = Clock::now());
  // Load reads keys from `file`: a line each, 80 bytes as `openssl rand -hex 80` prints them, or in
  // base64; empty lines and lines that begin with '#' are skipped. All keys open tickets; the last
  // but one seals them (the only one, where there is one), so that a new key, appended, is known
  // everywhere before it is used anywhere. An error names the file and the line, and no key.
  [[nodiscard]] static tl::expected<std::shared_ptr<TicketKeys>, Error> Load(
      const std::filesystem::path& file, std::chrono::seconds lifetime);
  ~TicketKeys();
  TicketKeys(const TicketKeys&) = delete;
  TicketKeys& operator=(const TicketKeys&) = delete;

  // RotateIfDue changes keys of this process when they have sealed for long enough; returns whether
  // it did. Keys of a file change with the file. For the thread that owns the keys, like Reload.
  bool RotateIfDue(Clock::time_point now = Clock::now());

  // Reload reads the file anew, if there is one, and returns whether the keys are other ones. On an
  // error they stay.
  [[nodiscard]] tl::expected<bool, Error> Reload();

  // How long a ticket is good.
  [[nodiscard]] std::chrono::seconds lifetime() const { return lifetime_; }
  // Nothing: the keys are this process's own.
  [[nodiscard]] const std::optional<std::filesystem::path>& file() const { return file_; }
  // How many keys open tickets.
  [[nodiscard]] size_t size() const;

  // Snapshot returns the keys as they are now. Any thread.
  [[nodiscard]] std::shared_ptr<const TicketRing> Snapshot() const;

 private:
  explicit TicketKeys(std::chrono::seconds lifetime) : lifetime_(lifetime) {}
  void Publish(std::shared_ptr<const TicketRing> ring);

  const std::chrono::seconds lifetime_;
  std::optional<std::filesystem::path> file_;
  Clock::time_point sealing_since_;
  mutable std::mutex mutex_;  // held for a copy of the pointer only
  std::shared_ptr<const TicketRing> ring_;
};

}  // namespace gatepost::tls
