// An authority of the configuration as all workers share it: its files, its series, how it does.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

#include "config/schema.h"
#include "gateway/auth/passwords.h"
#include "gateway/observe/metrics.h"
#include "tls/client_context.h"

namespace gatepost::backends {
class Directory;
class Pool;
}  // namespace gatepost::backends

namespace gatepost::auth {

// What came of one question to an authority: metric label by Name().
enum class Outcome : uint8_t {
  kOk,
  kDeny,
  kWait,     // it wants to be asked again
  kError,    // out of order, or nonsense
  kTimeout,  // no answer in time
  kCount
};
[[nodiscard]] std::string_view Name(Outcome outcome);
[[nodiscard]] Outcome OutcomeOf(const Verdict& verdict);

struct AuthorityRuntime {
  // `settings` must outlive it.
  AuthorityRuntime(const config::Authority& settings, observe::Metrics& metrics);

  // Count notes an outcome. Thread-safe, with the caller's own shard.
  void Count(observe::Shard& shard, Outcome outcome) const;
  // Observe notes how long a verdict took, in seconds.
  void Observe(observe::Shard& shard, Outcome outcome, double seconds) const;

  // Decides tells whether it is for this client: by the listener and by the domain of `user`.
  [[nodiscard]] bool Decides(const config::Listener& listener, std::string_view user) const;

  const config::Authority& settings;
  std::shared_ptr<const PasswordFile> passwords;  // kind "passwords"
  std::shared_ptr<const tls::ClientContext> tls;  // kind "http", for https
  const backends::Pool* login_pool = nullptr;     // kind "login"

  std::array<observe::CounterId, static_cast<size_t>(Outcome::kCount)> outcomes;
  observe::HistogramId took_ok, took_denied, took_error;
  // Whether it gave an answer when it was asked last.
  mutable std::atomic<bool> up{true};
};

// HttpTls returns with what TLS a service is asked, null where none of `urls` is https; an error is
// one line. `key_log` may be null.
[[nodiscard]] tl::expected<std::shared_ptr<const tls::ClientContext>, std::string> HttpTls(
    const std::vector<config::HttpUrl>& urls, const std::optional<std::filesystem::path>& ca_file,
    const std::shared_ptr<const tls::KeyLog>& key_log);

// LoadAuthority makes it with all that its kind needs; each error is one line that names the file.
// `config` and `directory` must outlive it; `directory` and `key_log` may be null.
[[nodiscard]] tl::expected<std::unique_ptr<AuthorityRuntime>, std::vector<std::string>>
LoadAuthority(const config::Authority& authority, const config::Config& config,
              const backends::Directory* directory,
              const std::shared_ptr<const tls::KeyLog>& key_log, observe::Metrics& metrics);

}  // namespace gatepost::auth
