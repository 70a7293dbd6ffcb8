// SPDX-License-Identifier: Apache-2.0
#include "gateway/auth/authority_runtime.h"

#include <algorithm>
#include <utility>

#include "gateway/backends/directory.h"
#include "protocols/line_framer.h"

namespace gatepost::auth {

std::string_view Name(Outcome outcome) {
  static constexpr auto kNames =
      std::to_array<std::string_view>({"ok", "deny", "wait", "error", "timeout"});
  static_assert(kNames.size() == static_cast<size_t>(Outcome::kCount));
  return kNames[static_cast<size_t>(outcome)];
}

Outcome OutcomeOf(const Verdict& verdict) {
  using protocols::LoginFailure;
  if (verdict.accepted) return Outcome::kOk;
  if (verdict.timed_out) return Outcome::kTimeout;
  return verdict.reason == LoginFailure::kUnavailable ||
                 verdict.reason == LoginFailure::kBackendMisconfigured
             ? Outcome::kError
             : Outcome::kDeny;
}

AuthorityRuntime::AuthorityRuntime(const config::Authority& configured, observe::Metrics& metrics)
    : settings(configured) {
  using observe::Metric;
  const std::string_view name = settings.name;
  for (size_t i = 0; i < outcomes.size(); ++i) {
    outcomes[i] =
        metrics.Counter(Metric::kAuthorityRequests, {name, Name(static_cast<Outcome>(i))});
  }
  took_ok = metrics.Histogram(Metric::kAuthDuration, {name, "ok"});
  took_denied = metrics.Histogram(Metric::kAuthDuration, {name, "failed"});
  took_error = metrics.Histogram(Metric::kAuthDuration, {name, "tempfail"});
}

void AuthorityRuntime::Count(observe::Shard& shard, Outcome outcome) const {
  shard.Add(outcomes[static_cast<size_t>(outcome)]);
  up.store(outcome != Outcome::kError && outcome != Outcome::kTimeout, std::memory_order_relaxed);
}

void AuthorityRuntime::Observe(observe::Shard& shard, Outcome outcome, double seconds) const {
  shard.Observe(outcome == Outcome::kOk     ? took_ok
                : outcome == Outcome::kDeny ? took_denied
                                            : took_error,
                seconds);
}

bool AuthorityRuntime::Decides(const config::Listener& listener, std::string_view user) const {
  if (!config::MayDecide(settings, listener)) return false;
  if (settings.domains.empty()) return true;
  const size_t at = user.rfind('@');
  if (at == std::string_view::npos) return false;
  const std::string_view domain = user.substr(at + 1);
  return std::any_of(settings.domains.begin(), settings.domains.end(), [&](const std::string& own) {
    return protocols::EqualsIgnoreCase(own, domain);
  });
}

tl::expected<std::shared_ptr<const tls::ClientContext>, std::string> HttpTls(
    const std::vector<config::HttpUrl>& urls, const std::optional<std::filesystem::path>& ca_file,
    const std::shared_ptr<const tls::KeyLog>& key_log) {
  if (std::none_of(urls.begin(), urls.end(),
                   [](const config::HttpUrl& url) { return url.https; })) {
    return nullptr;
  }
  tls::ClientOptions options;
  if (ca_file) options.ca_file = ca_file->string();
  options.alpn = "http/1.1";
  options.key_log = key_log;
  auto context = tls::ClientContext::Make(options);
  if (!context) return tl::unexpected(context.error().text);
  return *std::move(context);
}

tl::expected<std::unique_ptr<AuthorityRuntime>, std::vector<std::string>> LoadAuthority(
    const config::Authority& authority, const config::Config& config,
    const backends::Directory* directory, const std::shared_ptr<const tls::KeyLog>& key_log,
    observe::Metrics& metrics) {
  auto made = std::make_unique<AuthorityRuntime>(authority, metrics);
  switch (authority.kind) {
    case config::AuthorityKind::kBackend:
    case config::AuthorityKind::kDovecot:
      break;
    case config::AuthorityKind::kPasswords: {
      std::vector<std::string> pools;
      for (const config::Pool& pool : config.pools) pools.push_back(pool.name);
      auto loaded = PasswordFile::Load(authority.file, pools);
      if (!loaded) return tl::unexpected(std::move(loaded.error()));
      made->passwords = std::move(*loaded);
      break;
    }
    case config::AuthorityKind::kHttp: {
      auto context = HttpTls(authority.urls, authority.ca_file, key_log);
      if (!context) {
        return tl::unexpected(std::vector{"authority " + authority.name + ": " + context.error()});
      }
      made->tls = *std::move(context);
      break;
    }
    case config::AuthorityKind::kLogin:
      if (directory == nullptr) break;  // which has been reported
      made->login_pool = directory->Find(authority.pool, backends::FromConfig(authority.protocol));
      break;
  }
  return made;
}

}  // namespace gatepost::auth
