// SPDX-License-Identifier: Apache-2.0
#include "gateway/backends/discovery.h"

#include <algorithm>
#include <string>
#include <tuple>
#include <utility>

#include "config/values.h"
#include "gateway/backends/directory.h"
#include "gateway/net/deadlines.h"
#include "gateway/net/dns.h"
#include "gateway/worker.h"

namespace gatepost::backends {
namespace {

constexpr uint64_t kLeastMs = 1'000;   // between two questions, whatever the time to live is
constexpr uint64_t kFailedMs = 5'000;  // after one that was not answered
constexpr size_t kMaxMembers = 64;     // of a name
constexpr uint32_t kMaxWeight = 100;   // as the configuration has it

}  // namespace

// Names are those of one pool.
class Discovery::Names {
 public:
  Names(Worker& worker, Pool& pool);

 private:
  class Name;
  // What is written in the configuration, in its order: a member, or a name with those it has now.
  struct Part {
    std::vector<MemberFacts> facts;
    std::unique_ptr<Name> name;  // null where it is a member
    bool inherited = false;      // the facts are from before a reload
  };

  [[nodiscard]] std::vector<MemberFacts> Inherited(const config::PoolMember& name,
                                                   const Roster& before) const;
  void Renew();

  Worker& worker_;
  Pool& pool_;
  std::vector<Part> parts_;
};

// Name is asked for its members again and again.
class Discovery::Names::Name final : private net::Deadlines::Entry, public net::DnsQuery::Observer {
 public:
  Name(Names& names, size_t part, const config::PoolMember& settings)
      : names_(names), part_(part), settings_(settings) {
    OnDeadline();
  }

 private:
  void OnDeadline() override {
    const auto& server = names_.pool_.settings().dns_server;
    query_ = std::make_unique<net::DnsQuery>(
        names_.worker_.loop(),
        settings_.kind == config::MemberKind::kSrv ? net::DnsQuery::Kind::kServices
                                                   : net::DnsQuery::Kind::kAddresses,
        settings_.address.host, server ? MemberName({server->host, server->port}) : std::string(),
        *this);
  }

  void OnDnsAnswer(net::DnsAnswer answer) override {
    query_.reset();
    const config::Pool& pool = names_.pool_.settings();
    const auto interval = static_cast<uint64_t>(pool.dns_interval.count());
    const bool failed = !answer.error.empty();
    names_.worker_.shard().Add(failed ? names_.pool_.series().lookups_failed
                                      : names_.pool_.series().lookups_ok);
    if (failed != failing_ || failed) Tell(answer.error);
    failing_ = failed;
    uint64_t delay = interval;
    if (failed) {
      delay = std::min(interval, kFailedMs);
    } else {
      if (answer.ttl.count() > 0) {
        const auto ttl = static_cast<uint64_t>(answer.ttl.count()) * 1000;
        delay = std::min(interval, std::max(ttl, kLeastMs));
      }
      Part& part = names_.parts_[part_];
      part.facts = Facts(answer);
      part.inherited = false;
    }
    names_.worker_.deadlines().Arm(*this, delay);
    if (!failed) names_.Renew();
  }

  // Tell says what is wrong with the name, once, and that it is well again.
  void Tell(const std::string& error) {
    if (error == told_) return;
    told_ = error;
    names_.worker_.log().Write(error.empty() ? observe::Level::kInfo : observe::Level::kWarning,
                               "name_resolution",
                               {{"pool", names_.pool_.settings().name},
                                {"name", settings_.address.host},
                                {"result", error.empty() ? "ok" : "failed"},
                                {"detail", error}});
  }

  std::vector<MemberFacts> Facts(const net::DnsAnswer& answer) const;

  Names& names_;
  const size_t part_;
  const config::PoolMember& settings_;
  bool failing_ = false;
  std::string told_;
  std::unique_ptr<net::DnsQuery> query_;
};

// In an order that does not depend on the answer's, and not more than are allowed.
std::vector<MemberFacts> Discovery::Names::Name::Facts(const net::DnsAnswer& answer) const {
  std::vector<MemberFacts> facts;
  for (const net::Address& address : answer.addresses) {
    facts.push_back(
        {{address.Host(), settings_.address.port}, settings_.address.host, settings_.weight, 0});
  }
  // The heaviest has 100, as no weight of ours is higher (RFC 2782: 0 is for hardly ever).
  uint32_t heaviest = 1;
  for (const auto& service : answer.services)
    heaviest = std::max<uint32_t>(heaviest, service.weight);
  for (const auto& service : answer.services) {
    if (service.port == 0 || !config::IsHostName(service.host)) continue;  // ".": no such service
    const uint32_t weight =
        heaviest <= kMaxWeight ? service.weight : service.weight * kMaxWeight / heaviest;
    facts.push_back({{service.host, service.port}, {}, std::max(weight, 1U), service.priority});
  }
  const auto key = [](const MemberFacts& of) {
    return std::tie(of.priority, of.address.host, of.address.port);
  };
  std::sort(facts.begin(), facts.end(),
            [&](const MemberFacts& a, const MemberFacts& b) { return key(a) < key(b); });
  if (facts.size() > kMaxMembers) facts.resize(kMaxMembers);
  return facts;
}

Discovery::Names::Names(Worker& worker, Pool& pool) : worker_(worker), pool_(pool) {
  const auto before = pool.roster();
  for (const config::PoolMember& member : pool.settings().members) {
    Part part;
    if (member.kind == config::MemberKind::kHost) {
      part.facts = {{member.address, {}, member.weight}};
    } else {
      part.facts = Inherited(member, *before);
      part.inherited = true;
      part.name = std::make_unique<Name>(*this, parts_.size(), member);
    }
    parts_.push_back(std::move(part));
  }
}

// Inherited returns what `name` had before a reload, which stays until it has an answer. Targets of
// SRV do not show whose they are: each such name keeps them all.
std::vector<MemberFacts> Discovery::Names::Inherited(const config::PoolMember& name,
                                                     const Roster& before) const {
  const auto& settings = pool_.settings().members;
  const auto configured = [&](const MemberFacts& facts) {
    return std::any_of(settings.begin(), settings.end(), [&](const config::PoolMember& member) {
      return member.kind == config::MemberKind::kHost && member.address == facts.address;
    });
  };
  std::vector<MemberFacts> inherited;
  for (const auto& member : before) {
    const MemberFacts& facts = member->facts();
    const bool own =
        name.kind == config::MemberKind::kSrv
            ? facts.tls_name.empty() && !configured(facts)
            : facts.tls_name == name.address.host && facts.address.port == name.address.port;
    if (own) inherited.push_back(facts);
  }
  return inherited;
}

void Discovery::Names::Renew() {
  // Of what stands there twice the first counts, so what is from before a reload comes last.
  std::vector<MemberFacts> facts;
  for (const bool inherited : {false, true}) {
    for (const Part& part : parts_) {
      if (part.inherited != inherited) continue;
      facts.insert(facts.end(), part.facts.begin(), part.facts.end());
    }
  }
  const auto before = pool_.roster();
  if (!pool_.Renew(facts)) return;
  const auto now = pool_.roster();
  const auto without = [](const Roster& all, const Roster& others) {
    std::string names;
    for (const auto& member : all) {
      if (std::find(others.begin(), others.end(), member) != others.end()) continue;
      names += (names.empty() ? "" : ",") + member->name();
    }
    return names;
  };
  worker_.log().Write(observe::Level::kInfo, "members",
                      {{"pool", pool_.settings().name},
                       {"protocol", protocols::Name(pool_.protocol())},
                       {"count", now->size()},
                       {"added", without(*now, *before)},
                       {"removed", without(*before, *now)}});
  worker_.runtime().renew_roster(pool_);
}

Discovery::Discovery(Worker& worker) {
  for (const auto& pool : worker.runtime().directory->pools()) {
    if (HasNames(pool->settings())) pools_.push_back(std::make_unique<Names>(worker, *pool));
  }
}

Discovery::~Discovery() = default;

}  // namespace gatepost::backends
