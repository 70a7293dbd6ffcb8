// What a session hears of its client from a trusted proxy by IMAP ID or XCLIENT, what it tells a
// backend, and whether it was believed.
// SPDX-License-Identifier: Apache-2.0
#include "protocols/introduction.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "gateway/session/login.h"
#include "gateway/session/session.h"
#include "gateway/worker.h"

namespace gatepost::session {

net::Address Session::ServerAddress() const {
  return proxied_ ? proxied_->destination : client_->LocalAddress();
}

bool Session::BeIntroduced() {
  const protocols::Introduction* told = login_->server->introduction();
  if (told != nullptr && told->ttl > 0) ttl_ = static_cast<uint8_t>(told->ttl);
  if (told != nullptr && !told->client_host.empty()) {
    const auto client = net::Address::Parse(told->client_host, told->client_port);
    const auto server = net::Address::Parse(told->server_host, told->server_port);
    proxied_ = std::make_unique<Proxied>(
        Proxied{proxied_ ? proxied_->proxy : client_address_, server ? *server : ServerAddress(),
                told->session_id, told->transport.starts_with("TLS")});
    if (client) client_address_ = *client;
  }
  identified_ = worker_.runtime().limits->Identify(client_address_);
  if (identified_) return true;
  worker_.shard().Add(listener_.rejected_address);
  Say(protocols::Notice::kTooManyConnections);
  return false;
}

void Session::Introduce() {
  if (pool_->settings().forward_client_address != config::ForwardClientAddress::kNative) return;
  if (!login_->introduction) {
    auto introduction = std::make_shared<protocols::Introduction>();
    const net::Address server = ServerAddress();
    introduction->client_host = client_address_.Host();
    introduction->client_port = client_address_.port();
    introduction->server_host = server.Host();
    introduction->server_port = server.port();
    introduction->session_id = worker_.IdText(id_);
    introduction->ttl = ttl_ - 1U - static_cast<unsigned>(login_->referred.size());
    const bool tls = client_->channel() != nullptr && client_->channel()->established();
    introduction->transport = tls || (proxied_ && proxied_->tls) ? "TLS" : "insecure";
    if (tls) introduction->server_name = client_->channel()->facts().server_name;
    if (pool_->settings().xclient_login) {
      introduction->login = login_->credentials->authentication_identity;
    }
    introduction->helo = login_->server->client_name();
    if (const protocols::Introduction* told = login_->server->introduction()) {
      introduction->id = told->id;
      if (!told->helo.empty()) introduction->helo = told->helo;
      // The hop between the proxy and us says nothing of the client's own.
      if (!told->transport.empty()) introduction->transport = told->transport;
      if (!told->server_name.empty()) introduction->server_name = told->server_name;
    }
    login_->introduction = std::move(introduction);
  }
  login_->client->Introduce(login_->introduction);
}

// ReportTrust notes whether the backend believed the introduction, once it has answered the login.
void Session::ReportTrust() {
  if (!login_->introduction) return;
  backends::Member& member = *login_->attempt.member();
  protocols::Trust trust = login_->client->trust();
  if (trust == protocols::Trust::kUnknown) {
    // IMAP: Dovecot before 2.4 never says. One that has said so, and does not now, means no.
    if (!member.trust()) {
      if (pool_->troubles().Failed(backends::Stage::kTrust, member.address(), "unconfirmed",
                                   Now()) == 0) {
        worker_.log().Write(observe::Level::kInfo, "forwarding_unconfirmed",
                            {{"pool", pool_->settings().name},
                             {"protocol", protocols::Name(pool_->protocol())},
                             {"backend", member.name()},
                             {"detail", "it does not say whether it believes who the client is"}});
      }
      return;
    }
    trust = protocols::Trust::kRefused;
  }
  const bool given = trust == protocols::Trust::kGiven;
  member.SetTrust(given);
  using backends::Purpose;
  using backends::Stage;
  if (given) {
    return backends::ReportSuccess(worker_, *pool_, member, Stage::kTrust, Purpose::kLogin);
  }
  backends::ReportFailure(worker_, *pool_, member,
                          {Stage::kTrust,
                           Purpose::kLogin,
                           backends::Health::Sign::kFails,
                           "not_trusted",
                           "the backend does not take our word for who the client is: it takes all "
                           "clients for the gateway",
                           {}});
}

}  // namespace gatepost::session
