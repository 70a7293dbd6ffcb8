// SPDX-License-Identifier: Apache-2.0
#include "gateway/observe/status_page.h"

#include "config/values.h"
#include "protocols/line_framer.h"

namespace gatepost::observe {

std::string StatusPage(std::string_view nonce) {
  std::string page(kStatusPage);
  for (size_t at = 0; (at = page.find(kNonceMark, at)) != std::string::npos; at += nonce.size()) {
    page.replace(at, kNonceMark.size(), nonce);
  }
  return page;
}

bool MayAsk(std::string_view host, std::string_view hostname) {
  std::string_view name = host;
  if (name.starts_with('[')) {
    const size_t end = name.find(']');
    if (end == std::string_view::npos) return false;
    return config::IsAddressLiteral(name.substr(1, end - 1));
  }
  name = name.substr(0, name.find(':'));
  return config::IsAddressLiteral(name) || protocols::EqualsIgnoreCase(name, "localhost") ||
         (!hostname.empty() && protocols::EqualsIgnoreCase(name, hostname));
}

}  // namespace gatepost::observe
