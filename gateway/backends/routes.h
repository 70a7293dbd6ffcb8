// Where a user lives, as the configuration says: overrides of single users, then domains.
//
// Immutable but for the files of users, of which a newer state can be put in place while workers
// look into them. Thread-safe.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <unordered_map>
#include <vector>

#include "config/schema.h"
#include "protocols/engines.h"

namespace gatepost::backends {

// Where a user is sent: to a pool, to one backend as a pool would speak to it, or both. An empty
// pool is the listener's.
struct Destination {
  std::string pool;
  std::optional<config::Member> backend;
  bool operator==(const Destination&) const = default;
};

// UserRoutes is a file of lines "USER POOL", "USER HOST:PORT" or "USER POOL HOST:PORT", with
// comments behind '#' at the beginning of a line. Immutable.
class UserRoutes {
 public:
  // Load reads and checks the whole file; each error is "FILE:LINE: what is wrong". `pools` are the
  // names that may be used.
  [[nodiscard]] static tl::expected<std::shared_ptr<const UserRoutes>, std::vector<std::string>>
  Load(const std::filesystem::path& file, const std::vector<std::string>& pools);

  // Parse is the same for the text of a file.
  [[nodiscard]] static tl::expected<std::shared_ptr<const UserRoutes>, std::vector<std::string>>
  Parse(std::string_view text, const std::string& file, const std::vector<std::string>& pools);

  // Find returns where `user` is sent, or null; valid as long as this lives.
  [[nodiscard]] const Destination* Find(const std::string& user) const;
  [[nodiscard]] bool SameAs(const UserRoutes& other) const { return users_ == other.users_; }
  [[nodiscard]] size_t size() const { return users_.size(); }

 private:
  std::unordered_map<std::string, Destination> users_;
};

// Routes are all of a configuration.
class Routes {
 public:
  explicit Routes(const config::Config& config);

  // Find returns where `user` of `protocol` goes instead of the listener's pool, if anywhere: first
  // by the files in their order, then by the domain, of which the longest counts. Users are
  // compared as they are, domains without regard to case.
  [[nodiscard]] std::optional<Destination> Find(protocols::Protocol protocol,
                                                const std::string& user) const;
  // Whether there are any for `protocol`.
  [[nodiscard]] bool Any(protocols::Protocol protocol) const;

  // Renew puts a newer state of the file of the route number `route` in place.
  void Renew(size_t route, std::shared_ptr<const UserRoutes> users);

 private:
  using Domains = std::unordered_map<std::string, std::string>;  // "*." for all below; to the pool

  static constexpr size_t kProtocols = static_cast<size_t>(protocols::Protocol::kCount);

  Domains domains_[kProtocols];
  std::vector<size_t> files_[kProtocols];  // the numbers of routes with files
  mutable std::mutex mutex_;
  std::vector<std::shared_ptr<const UserRoutes>> users_;  // by route; null where it has no file
};

}  // namespace gatepost::backends
