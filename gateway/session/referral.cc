// Login referrals of IMAP backends (RFC 2221): the session goes where it is sent, if it may.
//
// Whoever is believed gets the client's password: only members of the pool and hosts that the
// configuration names are, on a port that a member has, with the pool's TLS.
// SPDX-License-Identifier: Apache-2.0
#include "protocols/imap/referral.h"

#include <algorithm>
#include <utility>

#include "config/values.h"
#include "gateway/session/login.h"
#include "gateway/session/session.h"
#include "gateway/worker.h"
#include "protocols/line_framer.h"

namespace gatepost::session {
namespace {

// AddressOf returns where the referral leads, in the words of the configuration: where it names no
// port, to that of the member who has said so.
std::optional<config::Member> AddressOf(const imap::Referral& referral,
                                        const config::Member& from) {
  config::Member to{referral.host, referral.port != 0 ? referral.port : from.port};
  std::transform(to.host.begin(), to.host.end(), to.host.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; });
  if (!config::IsHostName(to.host) && !config::IsAddressLiteral(to.host)) return std::nullopt;
  return to;
}

// MayLead says whether the pool's members, or its configuration, vouch for the address.
bool MayLead(const config::Member& to, const config::Pool& pool, const backends::Roster& roster) {
  bool port = false;
  for (const auto& member : roster) {
    if (member->address() == to) return true;
    if (member->address().port == to.port) port = true;
  }
  return port && config::IsReferralHost(to.host, pool.referral_hosts);
}

}  // namespace

std::optional<Session::Wait> Session::FollowReferral(const std::string& url) {
  const config::Pool& settings = pool_->settings();
  sasl::Credentials& credentials = *login_->credentials;
  // What the client has proved to one backend proves nothing to another.
  if (settings.follow_referrals == 0 || login_->exchanged ||
      sasl::IsRelayed(credentials.mechanism)) {
    return std::nullopt;
  }
  const backends::PoolSeries& series = pool_->series();
  const std::shared_ptr<backends::Member> from = login_->attempt.member();
  const auto refuse = [&](observe::CounterId counter, std::string_view why) {
    worker_.shard().Add(counter);
    return Fail(
        protocols::LoginFailure::kBackendMisconfigured,
        from->name() + " refers to " + protocols::Printable(url, 255) + ": " + std::string(why));
  };
  from->health().LoginAnswered();
  const auto referral = imap::ParseReferral(url);
  const auto to = referral ? AddressOf(*referral, from->address()) : std::nullopt;
  if (!to) return refuse(series.referrals_refused, "that is no URL of a server");
  if (!MayLead(*to, settings, *worker_.Roster(*pool_))) {
    return refuse(series.referrals_refused,
                  "it is no member, and referral_hosts and the members' ports do not allow it");
  }
  const std::shared_ptr<backends::Member> next = pool_->At(*to);
  std::vector<std::string>& referred = login_->referred;
  referred.push_back(from->name());
  if (std::find(referred.begin(), referred.end(), next->name()) != referred.end() ||
      referred.size() > settings.follow_referrals || referred.size() + 1 >= ttl_) {
    return refuse(series.referrals_loop, "the login has been there, or was sent on too often");
  }
  worker_.shard().Add(series.referrals_followed);
  worker_.log().Write(observe::Level::kInfo, "login_referred",
                      {{"id", worker_.IdText(id_)},
                       {"pool", settings.name},
                       {"user", user_},
                       {"from", from->name()},
                       {"to", next->name()},
                       {"as", WithoutPassword(referral->user)}});
  DropBackend();
  // A master's or a fixed account is known by the same name everywhere.
  if (settings.login == config::BackendLogin::kSame && !referral->user.empty() &&
      credentials.authorization_identity.empty()) {
    credentials.authentication_identity = referral->user;
  }
  login_->introduction.reset();  // it may be sent on once less
  login_->only = true;
  login_->attempt = backends::Attempt(next);
  if (!next->health().usable()) {
    return Fail(protocols::LoginFailure::kUnavailable,
                next->name() + " is down: " + next->problem());
  }
  return OpenBackend();
}

}  // namespace gatepost::session
