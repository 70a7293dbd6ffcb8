// A password file as the authority: crypt(3) hashes, checked off the loop.
//
// One user a line, fields separated by colons, comments with '#':
//   alice@example.org:$y$j9T$…:pool=stores backend=store2.internal:143 login=alice password=s3cret
// The third field is optional; `password` takes the rest of its line.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <uv.h>

#include <deque>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <unordered_map>
#include <vector>

#include "gateway/auth/authenticator.h"

namespace gatepost::auth {

// PasswordFile is the file's content: immutable, shared by all workers.
class PasswordFile {
 public:
  struct Entry {
    std::string hash;
    std::string pool;
    std::optional<config::Member> backend;
    std::string login;
    sasl::Secret password;
  };

  // Load reads and checks the whole file; each error is "FILE:LINE: what is wrong". `pools` are the
  // names that may be used.
  [[nodiscard]] static tl::expected<std::shared_ptr<const PasswordFile>, std::vector<std::string>>
  Load(const std::filesystem::path& file, const std::vector<std::string>& pools);

  [[nodiscard]] const Entry* Find(const std::string& user) const;
  // A hash of the kind that the file uses, for users who don't exist: the same time is spent.
  [[nodiscard]] const std::string& decoy() const { return decoy_; }
  [[nodiscard]] size_t size() const { return entries_.size(); }

 private:
  std::unordered_map<std::string, Entry> entries_;
  std::string decoy_;
};

// PasswordAuthority checks against a PasswordFile; who is proven by a certificate needs only to
// stand there. At most kConcurrent hashes of a worker are computed at a time and kWaiting may wait;
// more is a temporary failure. For a client that has left nothing is computed.
class PasswordAuthority final : public Authenticator {
 public:
  static constexpr size_t kConcurrent = 2;
  static constexpr size_t kWaiting = 512;

  PasswordAuthority(uv_loop_t* loop, std::shared_ptr<const PasswordFile> file, Answers& answers);
  ~PasswordAuthority() override;

  [[nodiscard]] std::optional<Verdict> Check(const Request& request) override;
  void Cancel(SessionId id) override;

 private:
  struct Job;
  [[nodiscard]] std::optional<Verdict> CheckExternal(const std::string& user) const;
  void StartJobs();
  void Finish(std::unique_ptr<Job> job);

  uv_loop_t* loop_;
  std::shared_ptr<const PasswordFile> file_;
  Answers& answers_;
  std::deque<std::unique_ptr<Job>> waiting_;
  std::vector<Job*> running_;
};

// WrongInPasswordFile says why a user of this name cannot stand in a password file; empty: it can.
[[nodiscard]] std::string WrongInPasswordFile(std::string_view user);

// HashPassword returns a yescrypt hash of `password` with a fresh salt, or an empty string when the
// system has no randomness to give.
[[nodiscard]] std::string HashPassword(const sasl::Secret& password);

}  // namespace gatepost::auth
