// SPDX-License-Identifier: Apache-2.0
#include "gateway/backends/directory.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

#include "protocols/buffer.h"

namespace gatepost::backends {
namespace {

// FNV-1a with a final mix: stable across builds and machines, which std::hash is not.
uint64_t StableHash(std::string_view a, std::string_view b) {
  uint64_t hash = 14695981039346656037ULL;
  const auto feed = [&hash](std::string_view text) {
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
    hash = (hash ^ 0xFF) * 1099511628211ULL;  // a separator that no UTF-8 text holds
  };
  feed(a);
  feed(b);
  hash ^= hash >> 33;
  hash *= 0xff51afd7ed558ccdULL;
  hash ^= hash >> 33;
  hash *= 0xc4ceb9fe1a85ec53ULL;
  return hash ^ hash >> 33;
}

// ReadPassword returns the first line of `file`, or what is wrong with it.
tl::expected<sasl::Secret, std::string> ReadPassword(const std::filesystem::path& file) {
  std::ifstream input(file);
  if (!input) return tl::unexpected(file.string() + ": can't be read: " + std::strerror(errno));
  std::string line;
  line.reserve(1024);  // not moved, so that no copy of it stays behind
  std::getline(input, line);
  std::string_view text = line;
  if (text.ends_with('\r')) text.remove_suffix(1);
  sasl::Secret password(text);
  const bool usable = text.find('\0') == std::string_view::npos;
  protocols::Wipe(line.data(), line.size());
  if (password.empty() || !usable) {
    return tl::unexpected(file.string() + ": its first line must be a password");
  }
  return password;
}

}  // namespace

protocols::Protocol FromConfig(config::Protocol protocol) {
  switch (protocol) {
    case config::Protocol::kImap:
      return protocols::Protocol::kImap;
    case config::Protocol::kPop3:
      return protocols::Protocol::kPop3;
    case config::Protocol::kSmtp:
      return protocols::Protocol::kSmtp;
  }
  return protocols::Protocol::kImap;
}

protocols::LoginMechanism FromConfig(config::LoginMechanism mechanism) {
  switch (mechanism) {
    case config::LoginMechanism::kAuto:
      return protocols::LoginMechanism::kAuto;
    case config::LoginMechanism::kPlain:
      return protocols::LoginMechanism::kPlain;
    case config::LoginMechanism::kLogin:
      return protocols::LoginMechanism::kLogin;
    case config::LoginMechanism::kXoauth2:
      return protocols::LoginMechanism::kXoauth2;
    case config::LoginMechanism::kOauthbearer:
      return protocols::LoginMechanism::kOauthbearer;
  }
  return protocols::LoginMechanism::kAuto;
}

std::string MemberName(const config::Member& member) {
  return member.host + ":" + std::to_string(member.port);
}

uint16_t MinimumVersion(const config::Pool& pool) {
  constexpr uint16_t kTls10 = 0x0301;
  return static_cast<uint16_t>(kTls10 + static_cast<uint16_t>(pool.tls_minimum_version));
}

Pool::Pool(const config::Pool& settings, protocols::Protocol protocol, size_t index,
           observe::Metrics& metrics, Passwords passwords)
    : settings_(settings),
      protocol_(protocol),
      index_(index),
      passwords_(std::move(passwords)),
      trust_(settings.members.size()) {
  using observe::Metric;
  const std::string_view name = settings_.name;
  const std::string_view protocol_name = protocols::Name(protocol);
  const auto result = [&](std::string_view label) {
    return metrics.Counter(Metric::kBackendConnections, {name, protocol_name, label});
  };
  series_.connected = result("ok");
  series_.refused = result("refused");
  series_.timeout = result("timeout");
  series_.tls_failed = result("tls_failed");
  series_.rejected = result("banner");
  const auto early = [&](std::string_view label) {
    return metrics.Counter(Metric::kBackendEarlyConnections, {name, protocol_name, label});
  };
  series_.early_used = early("used");
  series_.early_unused = early("unused");
  const auto handshakes = [&](std::string_view resumed) {
    return metrics.Counter(Metric::kBackendTlsHandshakes, {name, protocol_name, resumed});
  };
  series_.tls_full = handshakes("no");
  series_.tls_resumed = handshakes("yes");
  const auto tls_failure = [&](std::string_view reason) {
    return metrics.Counter(Metric::kBackendTlsFailures, {name, protocol_name, reason});
  };
  series_.tls_timeout = tls_failure("timeout");
  for (size_t i = 1; i < series_.tls_failures.size(); ++i) {
    const auto failure = static_cast<tls::Failure>(i);
    // The one stands for several checks, the other is of servers.
    if (failure == tls::Failure::kVerify || failure == tls::Failure::kClientCertificate) continue;
    series_.tls_failures[i] = tls_failure(tls::Name(failure));
  }
  for (size_t i = 1; i < series_.failed_checks.size(); ++i) {
    series_.failed_checks[i] = tls_failure(tls::Name(static_cast<tls::FailedCheck>(i)));
  }
  series_.connect_duration =
      metrics.Histogram(Metric::kBackendConnectDuration, {name, protocol_name});
  series_.login_duration = metrics.Histogram(Metric::kBackendLoginDuration, {name, protocol_name});
  for (const config::Member& member : settings_.members) {
    series_.member_sessions.push_back(
        metrics.Gauge(Metric::kBackendSessionsActive, {name, MemberName(member)}));
  }
}

tl::expected<sasl::Credentials, std::string> Pool::MasterLogin(const std::string& user) const {
  if (!settings_.master_user) {
    return tl::unexpected("pool " + settings_.name +
                          " has no master_user to log in without a password");
  }
  const auto& separator = settings_.master_user_separator;
  if (!separator) {
    // RFC 4616 §2: the authorization identity is whose mail it is.
    return sasl::Credentials{sasl::Mechanism::kPlain, user, *settings_.master_user,
                             passwords_.master.Clone()};
  }
  if (user.find(*separator) != std::string::npos) {
    return tl::unexpected(
        std::string("a user's name that holds the separator would name another master user"));
  }
  return sasl::Credentials{sasl::Mechanism::kPlain,
                           {},
                           user + *separator + *settings_.master_user,
                           passwords_.master.Clone()};
}

tl::expected<sasl::Credentials, std::string> Pool::FixedLogin() const {
  if (!settings_.account) return tl::unexpected("pool " + settings_.name + " has no account");
  return sasl::Credentials{
      sasl::Mechanism::kPlain, {}, *settings_.account, passwords_.account.Clone()};
}

std::string Pool::ServerName(const config::Member& member) const {
  return settings_.server_name.value_or(member.host);
}

std::vector<uint32_t> Pool::Order(std::string_view user) const {
  std::vector<std::pair<uint64_t, uint32_t>> ranked;
  ranked.reserve(settings_.members.size());
  for (uint32_t i = 0; i < settings_.members.size(); ++i) {
    ranked.emplace_back(StableHash(MemberName(settings_.members[i]), user), i);
  }
  std::sort(ranked.begin(), ranked.end(), std::greater<>());
  std::vector<uint32_t> order;
  order.reserve(ranked.size());
  for (const auto& [hash, index] : ranked) order.push_back(index);
  return order;
}

std::shared_ptr<const protocols::Capabilities> Pool::capabilities() const {
  const std::lock_guard lock(mutex_);
  return capabilities_;
}

void Pool::SetCapabilities(protocols::Capabilities capabilities) {
  auto learnt = std::make_shared<const protocols::Capabilities>(std::move(capabilities));
  const std::lock_guard lock(mutex_);
  if (!capabilities_ || *capabilities_ != *learnt) capabilities_.swap(learnt);
}

std::vector<std::pair<std::string, bool>> Pool::Trust() const {
  std::vector<std::pair<std::string, bool>> trust;
  for (size_t i = 0; i < trust_.size(); ++i) {
    const Believes believes = trust_[i].load(std::memory_order_relaxed);
    if (believes == Believes::kUnknown) continue;
    trust.emplace_back(MemberName(settings_.members[i]), believes == Believes::kYes);
  }
  return trust;
}

void Pool::SetTrust(const config::Member& member, bool given) {
  const auto found = std::find(settings_.members.begin(), settings_.members.end(), member);
  if (found == settings_.members.end()) return;  // an authority's own
  trust_[static_cast<size_t>(found - settings_.members.begin())].store(
      given ? Believes::kYes : Believes::kNo, std::memory_order_relaxed);
}

bool Pool::probed() const {
  const std::lock_guard lock(mutex_);
  return probed_;
}

void Pool::SetProbed() {
  const std::lock_guard lock(mutex_);
  probed_ = true;
}

tl::expected<std::unique_ptr<Directory>, std::string> Directory::Make(const config::Config& config,
                                                                      observe::Metrics& metrics) {
  auto directory = std::make_unique<Directory>();
  const auto add = [&](const config::Pool& settings,
                       protocols::Protocol protocol) -> tl::expected<void, std::string> {
    if (directory->Find(settings.name, protocol) != nullptr) return {};
    Pool::Passwords passwords;
    for (const auto& [file, password] :
         {std::pair(&settings.master_password_file, &passwords.master),
          std::pair(&settings.account_password_file, &passwords.account)}) {
      if (!*file) continue;
      auto read = ReadPassword(**file);
      if (!read) return tl::unexpected("pool." + settings.name + ": " + read.error());
      *password = std::move(*read);
    }
    directory->pools_.push_back(std::make_unique<Pool>(settings, protocol, directory->pools_.size(),
                                                       metrics, std::move(passwords)));
    return {};
  };
  const bool named = std::any_of(config.authorities.begin(), config.authorities.end(),
                                 [](const config::Authority& authority) {
                                   return authority.kind == config::AuthorityKind::kPasswords;
                                 });
  for (const config::Listener& listener : config.listeners) {
    const protocols::Protocol protocol = FromConfig(listener.protocol);
    for (const config::Pool& settings : config.pools) {
      // With an authority that names pools (a password file) any pool may serve any protocol that
      // its name is given for, so every pool is made for each protocol in use.
      if (settings.name != listener.pool && settings.name != listener.inbound_pool && !named)
        continue;
      if (auto added = add(settings, protocol); !added) return tl::unexpected(added.error());
    }
  }
  for (const config::Authority& authority : config.authorities) {
    if (authority.kind != config::AuthorityKind::kLogin) continue;
    for (const config::Pool& settings : config.pools) {
      if (settings.name != authority.pool) continue;
      if (auto added = add(settings, FromConfig(authority.protocol)); !added) {
        return tl::unexpected(added.error());
      }
    }
  }
  return directory;
}

Pool* Directory::Find(std::string_view name, protocols::Protocol protocol) const {
  for (const auto& pool : pools_) {
    if (pool->settings().name == name && pool->protocol() == protocol) return pool.get();
  }
  return nullptr;
}

}  // namespace gatepost::backends
