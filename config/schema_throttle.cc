// The keys of [throttle], and what must hold between them.
// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "config/checks.h"
#include "config/schema_tables.h"

namespace gatepost::config {

Table<Throttle> ThrottleTable() {
  constexpr uint32_t kMost = 10'000;
  return {
      "[throttle]",
      {
          IntegerField("max_failures_per_address", &Throttle::max_failures_per_address, 0, kMost,
                       "50",
                       "Wrong passwords from one IPv4 address or IPv6 /64 after which it is "
                       "refused; 0: no limit."),
          IntegerField("max_failures_per_user", &Throttle::max_failures_per_user, 0, kMost, "100",
                       "Wrong passwords for one user, from anywhere, after which it is refused "
                       "where it has not logged in lately; 0: no limit."),
          IntegerField("max_failures_per_user_and_address",
                       &Throttle::max_failures_per_user_and_address, 0, kMost, "10",
                       "Wrong passwords for one user from one address after which it is refused "
                       "there; 0: no limit."),
          DurationField("half_life", &Throttle::half_life, seconds(1), std::chrono::hours(24),
                        "\"30m\"",
                        "How long a refusal lasts, and after which time half of the failures are "
                        "forgotten."),
          ListField("exempt_networks", &Throttle::exempt_networks, ParseNetwork, kNetworks,
                    "[\"192.0.2.0/24\", \"2001:db8::/32\"]",
                    "Clients whose failures are neither counted nor refused: a webmail server, "
                    "monitoring, a proxy that hides who its clients are.")
              .Default("none"),
          ParsedField("redis", &Throttle::redis, ParseServiceSocket, kServiceSocket,
                      "\"redis.internal:6379\"",
                      "Redis or Valkey by which gateways tell each other of failures; needs "
                      "shared_key_file.")
              .Default("none: each gateway counts for itself"),
          TextField("redis_user", &Throttle::redis_user, IsAccount, kAccount, "\"gatepost\"",
                    "User of that Redis (ACL, from version 6 on); needs redis_password_file.")
              .Default("none: Redis' default user"),
          PathField("redis_password_file", &Throttle::redis_password_file,
                    "\"/etc/gatepost/redis-password\"",
                    "Its first line is the password of redis_user, or of that Redis "
                    "(requirepass).")
              .Default("none"),
          PathField("shared_key_file", &Throttle::shared_key_file, "\"/etc/gatepost/throttle.key\"",
                    "Its first line is a secret of 16 bytes or more, the same for all gateways, "
                    "with which they hash addresses and users before Redis sees them.")
              .Default("none"),
      }};
}

void CheckThrottle(const Config& config, Findings& findings) {
  if (!findings.Sound("throttle")) return;
  if (config.throttle.redis && !config.throttle.shared_key_file) {
    findings.Add(findings.PlaceOf("throttle.redis"), "throttle.redis",
                 "needs a secret that all gateways have, so that Redis holds no names; make a file "
                 "(openssl rand -hex 32), for example: shared_key_file = "
                 "\"/etc/gatepost/throttle.key\"");
  }
  if (config.throttle.redis && config.throttle.redis_user &&
      !findings.Has("throttle.redis_password_file")) {
    findings.Add(findings.PlaceOf("throttle.redis_user"), "throttle.redis_user",
                 "needs the user's password, for example: redis_password_file = "
                 "\"/etc/gatepost/redis-password\"");
  }
  for (const std::string key :
       {"throttle.redis_user", "throttle.redis_password_file", "throttle.shared_key_file"}) {
    if (!findings.Has(key) || config.throttle.redis) continue;
    findings.Add(findings.PlaceOf(key), key,
                 "has no effect without redis; remove it, or add, for example: redis = "
                 "\"redis.internal:6379\"");
  }
}

}  // namespace gatepost::config
