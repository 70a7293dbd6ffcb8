// Any bytes as a configuration: an error has its words, what passes keeps the schema's promises.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "config/loader.h"
#include "config/values.h"

namespace gatepost::config {
namespace {

void Require(bool holds) {
  if (!holds) std::abort();
}

// One line that does nothing to a terminal.
void RequireText(const Diagnostic& diagnostic) {
  const std::string text = diagnostic.Text();
  Require(!diagnostic.message.empty());
  Require(std::none_of(text.begin(), text.end(),
                       [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }));
}

void RequirePromises(const Config& config) {
  Require(IsHostName(config.hostname));
  Require(!config.certificates.empty() && !config.listeners.empty());
  for (const Listener& listener : config.listeners) {
    Require(IsLabel(listener.name) && !listener.addresses.empty());
    const auto pool = std::find_if(config.pools.begin(), config.pools.end(),
                                   [&](const Pool& p) { return p.name == listener.pool; });
    Require(pool != config.pools.end());
    Require(pool->login != BackendLogin::kNone || listener.protocol == Protocol::kSmtp);
    for (const Authority& authority : config.authorities) {
      // Nobody would check the password.
      Require(pool->login == BackendLogin::kSame || authority.kind != AuthorityKind::kBackend ||
              !MayDecide(authority, listener));
    }
  }
  for (const Pool& pool : config.pools) {
    Require(IsLabel(pool.name) && !pool.members.empty());
    Require(pool.connect_timeout.count() > 0 && pool.login_timeout.count() > 0);
  }
  Require(!config.authorities.empty());
  for (const Authority& authority : config.authorities) {
    Require(IsLabel(authority.name));
    Require(authority.kind != AuthorityKind::kPasswords || !authority.file.empty());
  }
  Require(config.limits.max_line_bytes >= 1024);
}

}  // namespace
}  // namespace gatepost::config

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace gatepost::config;
  const auto config = Parse({reinterpret_cast<const char*>(data), size}, "fuzz.toml");
  if (config) {
    RequirePromises(*config);
  } else {
    Require(!config.error().empty());
    for (const Diagnostic& diagnostic : config.error()) RequireText(diagnostic);
  }
  return 0;
}
