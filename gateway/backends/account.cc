// SPDX-License-Identifier: Apache-2.0
#include "gateway/backends/account.h"

#include <utility>

#include "gateway/auth/user_names.h"
#include "protocols/sasl/mechanisms.h"

namespace gatepost::backends {

tl::expected<sasl::Credentials, std::string> AccountFor(const Pool& pool, sasl::Credentials own,
                                                        std::optional<std::string> user) {
  const config::Pool& settings = pool.settings();
  const auto rewrite = [&](std::string& name) {
    if (!name.empty()) name = auth::BackendUser(settings.backend_user, name);
  };
  rewrite(own.authentication_identity);
  rewrite(own.authorization_identity);
  if (!user) {
    if (settings.login == config::BackendLogin::kSame) return own;
    return tl::unexpected("pool " + settings.name + " does not check who the client is");
  }
  rewrite(*user);
  switch (settings.login) {
    case config::BackendLogin::kSame:
      if (sasl::kPasswordless.Has(own.mechanism)) {
        return pool.MasterLogin(*user);
      }
      // Who acts for another there acts for it here, if the backend has it so, too.
      if (!own.authorization_identity.empty()) return own;
      break;
    case config::BackendLogin::kMaster:
      return pool.MasterLogin(*user);
    case config::BackendLogin::kFixed:
      return pool.FixedLogin();
    case config::BackendLogin::kNone:
      break;
  }
  own.authorization_identity.clear();  // that was the authority's to decide
  own.authentication_identity = *std::move(user);
  return own;
}

}  // namespace gatepost::backends
