// SPDX-License-Identifier: Apache-2.0
#include "gateway/prepare.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "config/loader.h"
#include "gateway/secret_file.h"

namespace gatepost {
namespace {

constexpr size_t kLeastKeyBytes = 16;

std::chrono::milliseconds IdleTimeout(const config::IdleTimeouts& timeouts,
                                      protocols::Protocol protocol) {
  switch (protocol) {
    case protocols::Protocol::kImap:
      return timeouts.imap;
    case protocols::Protocol::kPop3:
      return timeouts.pop3;
    case protocols::Protocol::kSmtp:
      return timeouts.smtp;
    case protocols::Protocol::kCount:
      break;
  }
  return timeouts.imap;
}

}  // namespace

bool PasswordExposed(const std::optional<std::filesystem::path>& file) {
  std::error_code error;
  return file && (std::filesystem::status(*file, error).permissions() &
                  std::filesystem::perms::others_read) != std::filesystem::perms::none;
}

uint32_t WorkerCount(const config::Config& config) {
  const uint32_t wanted = config.process.workers;
  return wanted != 0 ? wanted : std::max(1U, std::thread::hardware_concurrency());
}

void RenewRoutes(const TlsFiles& files, size_t count, backends::Routes& routes) {
  for (size_t i = 0; i < count; ++i) {
    if (auto users = files.user_routes(i)) routes.Renew(i, std::move(users));
  }
}

std::vector<InputFile> InputFiles(const std::string& file, const config::Config& config) {
  std::vector<InputFile> files;
  const auto add = [&](const std::filesystem::path& path) {
    files.push_back({path, StampOf(path)});
  };
  add(file);
  for (const config::Pool& pool : config.pools) {
    for (const auto* password : {&pool.master_password_file, &pool.account_password_file}) {
      if (*password) add(**password);
    }
  }
  for (const config::Authority& authority : config.authorities) {
    if (!authority.file.empty()) add(authority.file);
    if (authority.ca_file) add(*authority.ca_file);
  }
  for (const auto* secret : {&config.throttle.shared_key_file, &config.throttle.redis_password_file,
                             &config.policy.header_file, &config.policy.ca_file}) {
    if (*secret) add(**secret);
  }
  if (!config.policy.nonce_file.empty()) add(config.policy.nonce_file);
  return files;
}

tl::expected<Prepared, std::vector<std::string>> Prepare(const std::string& file,
                                                         std::shared_ptr<const tls::KeyLog> key_log,
                                                         const Past* past) {
  std::vector<std::string> errors;
  auto read = config::Load(file);
  if (!read) {
    for (const config::Diagnostic& diagnostic : read.error()) errors.push_back(diagnostic.Text());
    return tl::unexpected(std::move(errors));
  }
  Prepared prepared;
  prepared.file = file;
  prepared.key_log = std::move(key_log);
  prepared.runtime = std::make_unique<Runtime>();
  Runtime& runtime = *prepared.runtime;
  runtime.config = std::move(*read);
  const config::Config& settings = runtime.config;
  prepared.inputs = InputFiles(file, settings);
  runtime.metrics = past != nullptr ? past->runtime.metrics : std::make_shared<observe::Metrics>();
  observe::Metrics& metrics = *runtime.metrics;

  if (auto directory = backends::Directory::Make(
          settings, metrics, past != nullptr ? past->runtime.directory.get() : nullptr)) {
    runtime.directory = std::move(*directory);
  } else {
    errors.push_back(file + ": " + directory.error());
  }

  for (std::string& error : CheckOffers(settings, file)) errors.push_back(std::move(error));
  if (auto loaded = TlsFiles::Load(settings, runtime.directory.get(), prepared.key_log, file,
                                   past != nullptr ? &past->tls : nullptr)) {
    prepared.tls_files = std::move(*loaded);
  } else {
    errors.insert(errors.end(), loaded.error().begin(), loaded.error().end());
  }

  for (const config::Authority& authority : settings.authorities) {
    auto loaded = auth::LoadAuthority(authority, settings, runtime.directory.get(),
                                      prepared.key_log, metrics);
    if (loaded) {
      runtime.authorities.push_back(std::move(*loaded));
    } else {
      errors.insert(errors.end(), loaded.error().begin(), loaded.error().end());
    }
  }
  if (!settings.policy.urls.empty()) {
    if (auto loaded = auth::LoadPolicy(settings.policy, prepared.key_log, metrics)) {
      runtime.policy = std::move(*loaded);
    } else {
      for (std::string& error : loaded.error()) {
        errors.push_back(std::move(error.insert(0, file + ": ")));
      }
    }
  }
  for (const auto& [path, secret] :
       {std::pair(&settings.throttle.shared_key_file, &runtime.throttle_key),
        std::pair(&settings.throttle.redis_password_file, &runtime.redis_password)}) {
    if (!*path) continue;
    if (auto secret_read = ReadSecret(**path)) {
      *secret = std::move(*secret_read);
    } else {
      errors.push_back(file + ": throttle: " + secret_read.error());
    }
  }
  if (settings.throttle.shared_key_file && !runtime.throttle_key.empty() &&
      runtime.throttle_key.Reveal().size() < kLeastKeyBytes) {
    errors.push_back(
        settings.throttle.shared_key_file->string() +
        ": its first line must be a secret of 16 bytes or more; make one with: openssl "
        "rand -hex 32");
  }
  if (!errors.empty()) return tl::unexpected(std::move(errors));

  runtime.routes = std::make_unique<backends::Routes>(settings);
  RenewRoutes(*prepared.tls_files, settings.routes.size(), *runtime.routes);
  runtime.protocol_series.resize(static_cast<size_t>(protocols::Protocol::kCount));
  for (const config::Listener& listener : settings.listeners) {
    auto made = std::make_unique<ListenerRuntime>(listener, runtime.listeners.size(), metrics);
    made->pool = runtime.directory->Find(listener.pool, made->protocol);
    made->only_backend_decides =
        std::all_of(settings.authorities.begin(), settings.authorities.end(),
                    [&](const config::Authority& authority) {
                      return authority.kind == config::AuthorityKind::kBackend ||
                             !config::MayDecide(authority, listener);
                    });
    if (listener.inbound_pool) {
      made->inbound_pool = runtime.directory->Find(*listener.inbound_pool, made->protocol);
      made->local_domains =
          std::make_shared<const std::vector<std::string>>(listener.local_domains);
    }
    if (listener.client_certificate_user != config::CertificateUser::kNone) {
      made->certificate_users = std::make_unique<auth::CertificateUsers>(
          listener.client_certificate_user, prepared.tls_files->certificate_map(made->index));
    }
    made->idle_timeout = IdleTimeout(settings.idle_timeouts, made->protocol);
    auto& series = runtime.protocol_series[static_cast<size_t>(made->protocol)];
    if (!series) {
      series = std::make_unique<ProtocolSeries>(made->protocol, metrics);
    }
    made->series = series.get();
    runtime.listeners.push_back(std::move(made));
  }
  for (size_t i = 0; i < runtime.throttled.size(); ++i) {
    runtime.throttled[i] =
        metrics.Counter(observe::Metric::kThrottled, {Name(static_cast<auth::Throttle::Scope>(i))});
  }
  for (uint32_t i = 0; i < WorkerCount(settings); ++i) {
    runtime.loop_lag.push_back(
        metrics.Histogram(observe::Metric::kEventLoopLag, {std::to_string(i)}));
  }
  return prepared;
}

}  // namespace gatepost
