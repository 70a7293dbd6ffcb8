// What a session hears of its client in the PROXY protocol, and what it tells a backend.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <utility>

#include "gateway/session/login.h"
#include "gateway/session/session.h"
#include "gateway/worker.h"
#include "protocols/engines.h"
#include "protocols/proxy_protocol.h"
#include "tls/client_verifier.h"

namespace gatepost::session {
namespace {

protocols::ProxyEndpoint EndpointOf(const net::Address& address) {
  return {address.Mapped(), address.port()};
}

net::Address AddressOf(const protocols::ProxyEndpoint& endpoint) {
  return net::Address::FromMapped(endpoint.address, endpoint.port);
}

bool Accepts(const ListenerRuntime& listener, config::ProxyProtocol version) {
  const config::ProxyProtocol accepted = listener.settings.proxy_protocol;
  return accepted == version || accepted == config::ProxyProtocol::kBoth;
}

}  // namespace

void Session::BeginProxyHeader() {
  login_ = std::make_unique<Login>();  // for what comes in pieces
  client_->PeekFirst(true);
  (void)Enter(Phase::kProxyHeader);
}

// The client's first bytes stay in the socket until it is its turn.
size_t Session::OnPeek(net::Stream&, net::Bytes waiting) {
  const std::string_view before = login_->client_input.view();
  if (before.empty()) return protocols::ProxyHeaderBytes(net::AsText(waiting));
  std::string all(before);
  all += net::AsText(waiting);
  return std::max(protocols::ProxyHeaderBytes(all), before.size()) - before.size();
}

// Nothing but a header may come first, and nothing is said before it has come.
Session::Wait Session::DoProxyHeader() {
  using Status = protocols::ProxyReading::Status;
  const protocols::ProxyReading reading = protocols::ReadProxy(
      login_->client_input.view(), Accepts(listener_, config::ProxyProtocol::kV1),
      Accepts(listener_, config::ProxyProtocol::kV2));
  switch (reading.status) {
    case Status::kNeedInput:
      if (client_->failed() || client_->ended()) {
        return RefuseProxyHeader(ProxyHeaderResult::kClosed, 0);
      }
      if (expired_) return RefuseProxyHeader(ProxyHeaderResult::kTimeout, 0);
      return Wait::kClient;
    case Status::kMalformed:
      return RefuseProxyHeader(ProxyHeaderResult::kMalformed, reading.version);
    case Status::kLocal:
    case Status::kClient:
      break;
  }
  const bool made_for_client = reading.status == Status::kClient;
  worker_.shard().Add(listener_.proxy_headers[reading.version][static_cast<size_t>(
      made_for_client ? ProxyHeaderResult::kOk : ProxyHeaderResult::kLocal)]);
  if (made_for_client) {
    proxied_ = std::make_unique<Proxied>(
        Proxied{client_address_, AddressOf(reading.header.destination),
                std::string(reading.header.session_id), reading.header.tls.has_value()});
    client_address_ = AddressOf(reading.header.source);
  }
  client_->PeekFirst(false);
  login_.reset();
  if (listener_.Trusts(client_address_)) return BeginClient();
  identified_ = worker_.runtime().limits->Identify(client_address_);
  if (identified_) return BeginClient();
  worker_.shard().Add(listener_.rejected_address);
  if (listener_.settings.tls != config::ListenerTls::kImplicit) {
    protocols::ServerFacts facts;
    facts.hostname = worker_.runtime().config.hostname;
    protocols::Buffer text;
    protocols::MakeServerEngine(listener_.protocol, std::move(facts))
        ->Say(protocols::Notice::kTooManyConnections, text);
    client_->Write(text.view());
  }
  return Close(CloseReason::kTooManyConnections);
}

Session::Wait Session::RefuseProxyHeader(ProxyHeaderResult result, unsigned version) {
  static constexpr std::array<std::string_view, static_cast<size_t>(ProxyHeaderResult::kCount)>
      kTexts = {"",
                "",
                "",
                "something else than a header came first",
                "no header in time",
                "closed without a whole header"};
  const auto index = static_cast<size_t>(result);
  worker_.shard().Add(listener_.proxy_headers[version][index]);
  detail_ = kTexts[index];
  (void)Close(CloseReason::kNoProxyHeader);
  return Finish();  // whoever it is, nothing is said to it
}

std::string Session::ProxyHeader() const {
  using config::ForwardClientAddress;
  const ForwardClientAddress method = pool_->settings().forward_client_address;
  if (method == ForwardClientAddress::kNone || method == ForwardClientAddress::kNative) return {};
  protocols::ProxyHeader header;
  header.source = EndpointOf(client_address_);
  header.destination = EndpointOf(ServerAddress());
  if (method == ForwardClientAddress::kProxyV1) {
    return protocols::EncodeProxyV1(header.source, header.destination);
  }
  const std::string id = worker_.IdText(id_);
  header.session_id = id;
  tls::Facts facts;  // the header borrows from it
  if (client_->channel() != nullptr && client_->channel()->established()) {
    facts = client_->channel()->facts();
    header.alpn = facts.alpn;
    header.server_name = facts.server_name;
    protocols::ProxyTls tls{.version = facts.version,
                            .cipher = facts.openssl_cipher,
                            .group = facts.group,
                            .resumed = facts.resumed};
    if (certificate_) {
      tls.certificate = true;
      tls.verified = certificate_->verified;
      tls.common_name = certificate_->common_name;
    }
    header.tls = tls;
  } else if (proxied_ && proxied_->tls) {
    header.tls = protocols::ProxyTls{};
  }
  return protocols::EncodeProxyV2(header);
}

}  // namespace gatepost::session
