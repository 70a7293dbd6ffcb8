// SPDX-License-Identifier: Apache-2.0
#include "gateway/backends/routes.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <utility>

#include "config/values.h"
#include "gateway/backends/directory.h"
#include "protocols/line_framer.h"

namespace gatepost::backends {
namespace {

constexpr std::string_view kExample =
    "; a line is USER POOL, USER HOST:PORT or USER POOL HOST:PORT, for example: "
    "alice@example.org new-stores";

// Word takes the first word off `text`.
std::string_view Word(std::string_view& text) {
  const size_t begin = std::min(text.find_first_not_of(' '), text.size());
  const size_t end = std::min(text.find(' ', begin), text.size());
  const std::string_view word = text.substr(begin, end - begin);
  text.remove_prefix(end);
  return word;
}

// ReadDestination reads what stands behind a user, or says what is wrong with it.
tl::expected<Destination, std::string> ReadDestination(std::string_view text,
                                                       const std::vector<std::string>& pools) {
  Destination destination;
  std::string_view word = Word(text);
  if (word.empty())
    return tl::unexpected("nothing says where the user goes" + std::string(kExample));
  if (word.find(':') == std::string_view::npos) {
    destination.pool = word;
    if (std::find(pools.begin(), pools.end(), destination.pool) == pools.end()) {
      return tl::unexpected("there is no pool \"" + destination.pool + "\"");
    }
    word = Word(text);
  }
  if (!word.empty()) {
    destination.backend = config::ParseMember(word);
    if (!destination.backend) {
      return tl::unexpected("\"" + std::string(word) + "\" is no HOST:PORT" +
                            std::string(kExample));
    }
  }
  if (!Word(text).empty()) return tl::unexpected("too many words" + std::string(kExample));
  return destination;
}

}  // namespace

tl::expected<std::shared_ptr<const UserRoutes>, std::vector<std::string>> UserRoutes::Load(
    const std::filesystem::path& file, const std::vector<std::string>& pools) {
  std::ifstream input(file, std::ios::binary);
  if (!input) {
    return tl::unexpected(
        std::vector<std::string>{file.string() + ": can't be read: " + std::strerror(errno)});
  }
  const std::string text(std::istreambuf_iterator<char>(input), {});
  return Parse(text, file.string(), pools);
}

tl::expected<std::shared_ptr<const UserRoutes>, std::vector<std::string>> UserRoutes::Parse(
    std::string_view text, const std::string& file, const std::vector<std::string>& pools) {
  std::vector<std::string> errors;
  auto loaded = std::make_shared<UserRoutes>();
  for (size_t number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line.starts_with('#')) continue;
    const auto wrong = [&](const std::string& what) {
      errors.push_back(fmt::format("{}:{}: {}", file, number, what));
    };
    if (protocols::HasControl(line)) {
      wrong("there is a tab or another control character");
      continue;
    }
    const std::string user(Word(line));
    auto destination = ReadDestination(line, pools);
    if (!destination) {
      wrong(destination.error());
    } else if (!loaded->users_.emplace(user, *std::move(destination)).second) {
      wrong("\"" + user + "\" stands in an earlier line already");
    }
  }
  if (!errors.empty()) return tl::unexpected(std::move(errors));
  return loaded;
}

const Destination* UserRoutes::Find(const std::string& user) const {
  const auto found = users_.find(user);
  return found == users_.end() ? nullptr : &found->second;
}

Routes::Routes(const config::Config& config) : users_(config.routes.size()) {
  for (size_t i = 0; i < config.routes.size(); ++i) {
    const config::Route& route = config.routes[i];
    const auto protocol = static_cast<size_t>(FromConfig(route.protocol));
    if (route.users_file) files_[protocol].push_back(i);
    for (const std::string& domain : route.domains) domains_[protocol].emplace(domain, route.pool);
  }
}

bool Routes::Any(protocols::Protocol protocol) const {
  const auto index = static_cast<size_t>(protocol);
  return !files_[index].empty() || !domains_[index].empty();
}

std::optional<Destination> Routes::Find(protocols::Protocol protocol,
                                        const std::string& user) const {
  const auto index = static_cast<size_t>(protocol);
  for (const size_t route : files_[index]) {
    const auto users = [&] {
      const std::lock_guard lock(mutex_);
      return users_[route];
    }();
    if (const Destination* found = users ? users->Find(user) : nullptr) return *found;
  }
  const Domains& domains = domains_[index];
  const size_t at = user.rfind('@');
  if (domains.empty() || at == std::string::npos) return std::nullopt;
  std::string domain = user.substr(at + 1);
  std::transform(domain.begin(), domain.end(), domain.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; });
  auto found = domains.find(domain);
  for (size_t dot = 0; found == domains.end();) {
    dot = domain.find('.', dot);
    if (dot == std::string::npos) return std::nullopt;
    found = domains.find("*" + domain.substr(dot++));
  }
  return Destination{found->second, std::nullopt};
}

void Routes::Renew(size_t route, std::shared_ptr<const UserRoutes> users) {
  const std::lock_guard lock(mutex_);
  users_[route].swap(users);
}

}  // namespace gatepost::backends
