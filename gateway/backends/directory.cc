// SPDX-License-Identifier: Apache-2.0
#include "gateway/backends/directory.h"

#include <algorithm>
#include <utility>

#include "gateway/backends/common_capabilities.h"
#include "gateway/secret_file.h"

namespace gatepost::backends {
namespace {

Health::Settings HealthOf(const config::Pool& settings) {
  return {settings.health_rise, settings.health_fall,
          static_cast<uint64_t>(settings.slow_start.count())};
}

// ProtocolsOf returns the protocols that a pool may have to serve: those of the listeners, the
// domains and the authorities that name it. Where none does, it is there for what names pools by
// user, an authority or a file, and may be meant for any of theirs.
std::vector<protocols::Protocol> ProtocolsOf(const config::Config& config,
                                             const std::string& pool) {
  std::vector<protocols::Protocol> named;
  std::vector<protocols::Protocol> possible;
  const auto add = [](std::vector<protocols::Protocol>& to, config::Protocol protocol) {
    const protocols::Protocol own = FromConfig(protocol);
    if (std::find(to.begin(), to.end(), own) == to.end()) to.push_back(own);
  };
  const bool users_name_pools = std::any_of(
      config.authorities.begin(), config.authorities.end(), [](const config::Authority& authority) {
        return authority.kind == config::AuthorityKind::kPasswords;
      });
  for (const config::Listener& listener : config.listeners) {
    if (listener.pool == pool || listener.inbound_pool == pool) add(named, listener.protocol);
    if (users_name_pools) add(possible, listener.protocol);
  }
  for (const config::Authority& authority : config.authorities) {
    if (authority.kind == config::AuthorityKind::kLogin && authority.pool == pool) {
      add(named, authority.protocol);
    }
  }
  for (const config::Route& route : config.routes) {
    if (route.pool == pool) add(named, route.protocol);
    if (route.users_file) add(possible, route.protocol);
  }
  return named.empty() ? possible : named;
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

uint16_t MinimumVersion(const config::Pool& pool) {
  constexpr uint16_t kTls10 = 0x0301;
  return static_cast<uint16_t>(kTls10 + static_cast<uint16_t>(pool.tls_minimum_version));
}

Pool::Pool(const config::Pool& settings, protocols::Protocol protocol, size_t index,
           observe::Metrics& metrics, Passwords passwords, const Pool* past)
    : settings_(settings),
      protocol_(protocol),
      index_(index),
      passwords_(std::move(passwords)),
      health_(HealthOf(settings_)) {
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
  if (settings_.connect_early) {
    series_.early_used = early("used");
    series_.early_unused = early("unused");
  }
  const auto referrals = [&](std::string_view label) {
    return metrics.Counter(Metric::kBackendReferrals, {name, protocol_name, label});
  };
  if (settings_.follow_referrals > 0) {
    series_.referrals_followed = referrals("followed");
    series_.referrals_refused = referrals("refused");
    series_.referrals_loop = referrals("loop");
  }
  if (settings_.tls != config::BackendTls::kNone) RegisterTls(metrics);
  const auto lookups = [&](std::string_view label) {
    return metrics.Counter(Metric::kBackendNameLookups, {name, protocol_name, label});
  };
  if (HasNames(settings_)) {
    series_.lookups_ok = lookups("ok");
    series_.lookups_failed = lookups("failed");
  }
  series_.connect_duration =
      metrics.Histogram(Metric::kBackendConnectDuration, {name, protocol_name});
  series_.login_duration = metrics.Histogram(Metric::kBackendLoginDuration, {name, protocol_name});
  if (past != nullptr && past->settings() == settings_) {
    roster_ = past->roster();
    capabilities_ = past->capabilities();
    probed_ = past->probed();
    return;
  }
  std::vector<MemberFacts> fixed;
  for (const config::PoolMember& member : settings_.members) {
    if (member.kind == config::MemberKind::kHost)
      fixed.push_back({member.address, {}, member.weight});
  }
  Renew(fixed);
}

void Pool::RegisterTls(observe::Metrics& metrics) {
  using observe::Metric;
  const std::string_view name = settings_.name;
  const std::string_view protocol_name = protocols::Name(protocol_);
  const auto handshakes = [&](std::string_view resumed) {
    return metrics.Counter(Metric::kBackendTlsHandshakes, {name, protocol_name, resumed});
  };
  series_.tls_full = handshakes("no");
  series_.tls_resumed = handshakes("yes");
  const auto failure = [&](std::string_view reason) {
    return metrics.Counter(Metric::kBackendTlsFailures, {name, protocol_name, reason});
  };
  series_.tls_timeout = failure("timeout");
  for (size_t i = 1; i < series_.tls_failures.size(); ++i) {
    const auto own = static_cast<tls::Failure>(i);
    // The one stands for several checks, the other is of servers.
    if (own == tls::Failure::kVerify || own == tls::Failure::kClientCertificate) continue;
    series_.tls_failures[i] = failure(tls::Name(own));
  }
  for (size_t i = 1; i < series_.failed_checks.size(); ++i) {
    series_.failed_checks[i] = failure(tls::Name(static_cast<tls::FailedCheck>(i)));
  }
}

tl::expected<sasl::Credentials, std::string> Pool::MasterLogin(const std::string& user) const {
  if (!settings_.master_user) {
    return tl::unexpected("pool " + settings_.name +
                          " has no master_user to log in without the client's password");
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

std::string Pool::ServerName(const Member& member) const {
  return settings_.server_name.value_or(member.tls_name());
}

std::shared_ptr<const Roster> Pool::roster() const {
  const std::lock_guard lock(mutex_);
  return roster_;
}

bool Pool::Renew(const std::vector<MemberFacts>& facts) {
  const auto before = roster();
  auto now = std::make_shared<Roster>();
  for (const MemberFacts& wanted : facts) {
    const auto own = [&](const auto& member) { return member->facts() == wanted; };
    // Two names may have the same address.
    if (std::any_of(now->begin(), now->end(),
                    [&](const auto& member) { return member->address() == wanted.address; })) {
      continue;
    }
    const auto known = std::find_if(before->begin(), before->end(), own);
    now->push_back(known != before->end() ? *known : std::make_shared<Member>(wanted, health_));
  }
  if (*now == *before) return false;
  for (const auto& member : *before) {
    if (std::find(now->begin(), now->end(), member) == now->end()) {
      troubles_.Forget(member->address());
    }
  }
  const std::lock_guard lock(mutex_);
  roster_ = std::move(now);
  return true;
}

bool HasNames(const config::Pool& settings) {
  return std::any_of(
      settings.members.begin(), settings.members.end(),
      [](const config::PoolMember& member) { return member.kind != config::MemberKind::kHost; });
}

std::shared_ptr<Member> Pool::At(const config::Member& address) const {
  const auto roster = this->roster();
  const auto own = std::find_if(roster->begin(), roster->end(),
                                [&](const auto& member) { return member->address() == address; });
  return own != roster->end() ? *own : std::make_shared<Member>(MemberFacts{address, {}}, health_);
}

Pool::Outage Pool::WhyDown() const {
  const auto roster = this->roster();
  if (roster->empty()) return {false, "the pool's names have no addresses"};
  Outage outage{true, "no member of the pool is up:"};
  constexpr size_t kMaxTextBytes = 500;
  for (const auto& member : *roster) {
    const Health& health = member->health();
    if (!health.misconfigured()) outage.misconfigured = false;
    if (outage.text.size() > kMaxTextBytes) continue;
    outage.text += " " + member->name() + " (" + member->problem() + ")";
  }
  return outage;
}

std::shared_ptr<const protocols::Capabilities> Pool::capabilities() const {
  const std::lock_guard lock(mutex_);
  return capabilities_;
}

void Pool::RenewCapabilities() {
  std::shared_ptr<const protocols::Capabilities> common;
  const auto roster = this->roster();
  for (const auto& member : *roster) {
    const auto own = member->capabilities();
    if (!own || !member->health().usable()) continue;
    common =
        common ? std::make_shared<const protocols::Capabilities>(CommonCapabilities(*common, *own))
               : own;
  }
  if (!common) return;
  const std::lock_guard lock(mutex_);
  capabilities_.swap(common);
}

std::vector<std::pair<std::string, bool>> Pool::Trust() const {
  std::vector<std::pair<std::string, bool>> trust;
  const auto roster = this->roster();
  for (const auto& member : *roster) {
    if (const auto given = member->trust()) trust.emplace_back(member->name(), *given);
  }
  return trust;
}

tl::expected<std::unique_ptr<Directory>, std::string> Directory::Make(const config::Config& config,
                                                                      observe::Metrics& metrics,
                                                                      const Directory* past) {
  auto directory = std::make_unique<Directory>();
  for (const config::Pool& settings : config.pools) {
    for (const protocols::Protocol protocol : ProtocolsOf(config, settings.name)) {
      Pool::Passwords passwords;
      for (const auto& [file, password] :
           {std::pair(&settings.master_password_file, &passwords.master),
            std::pair(&settings.account_password_file, &passwords.account)}) {
        if (!*file) continue;
        auto read = ReadSecret(**file);
        if (!read) return tl::unexpected("pool." + settings.name + ": " + read.error());
        *password = std::move(*read);
      }
      const Pool* before = past != nullptr ? past->Find(settings.name, protocol) : nullptr;
      directory->pools_.push_back(std::make_unique<Pool>(
          settings, protocol, directory->pools_.size(), metrics, std::move(passwords), before));
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
