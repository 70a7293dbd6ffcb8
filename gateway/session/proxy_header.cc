// What a session tells a backend of its client in the PROXY protocol.
// SPDX-License-Identifier: Apache-2.0
#include "gateway/session/session.h"
#include "gateway/worker.h"
#include "protocols/proxy_protocol.h"
#include "tls/client_verifier.h"

namespace gatepost::session {
namespace {

protocols::ProxyEndpoint EndpointOf(const net::Address& address) {
  return {address.Mapped(), address.port()};
}

}  // namespace

std::string Session::ProxyHeader() const {
  if (pool_->settings().forward_client_address != config::ForwardClientAddress::kProxyV2) return {};
  const std::string id = worker_.IdText(id_);
  protocols::ProxyHeader header;
  header.source = EndpointOf(client_address_);
  header.destination = EndpointOf(client_->LocalAddress());
  header.session_id = id;
  tls::Facts facts;  // the header borrows from it
  if (client_->channel() != nullptr && client_->channel()->established()) {
    facts = client_->channel()->facts();
    header.alpn = facts.alpn;
    header.server_name = facts.server_name;
    protocols::ProxyTls tls{.version = facts.version,
                            .cipher = facts.cipher,
                            .group = facts.group,
                            .resumed = facts.resumed};
    if (certificate_) {
      tls.certificate = true;
      tls.verified = certificate_->verified;
      tls.common_name = certificate_->common_name;
    }
    header.tls = tls;
  }
  return protocols::EncodeProxyV2(header);
}

}  // namespace gatepost::session
