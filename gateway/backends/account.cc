// SPDX-License-Identifier: Apache-2.0
#include "gateway/backends/account.h"

#include <utility>

#include "gateway/auth/user_names.h"

namespace gatepost::backends {

tl::expected<sasl::Credentials, std::string> AccountFor(const Pool& pool, sasl::Credentials own,
                                                        bool vouched) {
  const config::Pool& settings = pool.settings();
  const auto rewrite = [&](std::string& name) {
    if (!name.empty()) name = auth::BackendUser(settings.backend_user, name);
  };
  rewrite(own.authentication_identity);
  rewrite(own.authorization_identity);
  if (!vouched) {
    if (settings.login == config::BackendLogin::kSame) return own;
    return tl::unexpected("pool " + settings.name + " does not check who the client is");
  }
  switch (settings.login) {
    case config::BackendLogin::kSame:
      if (own.mechanism == sasl::Mechanism::kExternal) {
        return pool.MasterLogin(own.authentication_identity);
      }
      if (sasl::IsRelayed(own.mechanism)) {
        return tl::unexpected("pool " + settings.name +
                              " has no other login than the password, which " +
                              std::string(sasl::Name(own.mechanism)) + " does not tell");
      }
      break;
    case config::BackendLogin::kMaster:
      return pool.MasterLogin(own.authentication_identity);
    case config::BackendLogin::kFixed:
      return pool.FixedLogin();
    case config::BackendLogin::kNone:
      break;
  }
  own.authorization_identity.clear();  // that was the authority's to decide
  return own;
}

}  // namespace gatepost::backends
