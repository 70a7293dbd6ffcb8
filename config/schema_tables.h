// All tables and keys of a configuration file, in the order in which people read about them.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>
#include <vector>

#include "config/fields.h"

namespace gatepost::config {

// A TOML table that becomes a T. `heading` is how it is written, "[[listener]]"; empty for the keys
// before the first table.
template <typename T>
struct Table {
  std::string_view heading;
  std::vector<Field<T>> fields;
};

// Parts of SchemaTables: schema_authority.cc, schema_policy.cc, schema_throttle.cc.
[[nodiscard]] Table<Authority> AuthorityTable();
[[nodiscard]] Table<Throttle> ThrottleTable();
[[nodiscard]] Table<Policy> PolicyTable();

// IsAccount: what every protocol can carry as a user's name.
[[nodiscard]] bool IsAccount(std::string_view text);
inline constexpr std::string_view kAccount =
    "1 to 255 characters, none of them a control character";

inline constexpr std::string_view kNetworks =
    "IP networks with their prefix's length, or addresses; no bits may be set behind the prefix";

struct SchemaTables {
  SchemaTables();

  Table<Config> top;
  Table<Certificate> certificate;
  Table<Listener> listener;
  Table<Pool> pool;
  Table<Route> route;
  Table<Authority> authority;
  Table<Users> users;
  Table<Tls> tls;
  Table<Limits> limits;
  Table<Throttle> throttle;
  Table<Policy> policy;
  Table<IdleTimeouts> idle_timeout;
  Table<Log> log;
  Table<Admin> admin;
  Table<Process> process;

  // ForEach calls visit(table) for each of them in order.
  template <typename Visitor>
  void ForEach(Visitor&& visit) const {
    visit(top);
    visit(certificate);
    visit(listener);
    visit(pool);
    visit(route);
    visit(authority);
    visit(users);
    visit(tls);
    visit(limits);
    visit(throttle);
    visit(policy);
    visit(idle_timeout);
    visit(log);
    visit(admin);
    visit(process);
  }
};

// BareName returns the TOML key of a heading: "listener" of "[[listener]]", "pool" of
// "[pool.NAME]".
[[nodiscard]] constexpr std::string_view BareName(std::string_view heading) {
  const size_t begin = heading.find_first_not_of('[');
  if (begin == std::string_view::npos) return {};
  return heading.substr(begin, heading.find_first_of(".]") - begin);
}

}  // namespace gatepost::config
