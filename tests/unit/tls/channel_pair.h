// Two channels that talk to each other in memory, for tests: a client and a server, each on a
// Transport of its own, and a way to carry the bytes between them in pieces of any size.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tls/channel.h"
#include "tls/client_context.h"

namespace gatepost::tls::test {

// Pieces says how large the next piece is; 0 means all that there is.
using Pieces = std::function<size_t()>;
inline Pieces Whole() {
  return [] { return size_t{0}; };
}
inline Pieces OneByOne() {
  return [] { return size_t{1}; };
}

inline Bytes AsBytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

// Deliver moves what `from` wants to send into `to`, and returns the plaintext that came out.
inline std::string Deliver(Transport& from, Channel& to, const Pieces& pieces = Whole()) {
  const std::vector<uint8_t> wire = std::exchange(from.outgoing, {});
  std::string received;
  std::vector<uint8_t> plaintext;
  for (size_t at = 0; at < wire.size();) {
    size_t size = pieces();
    if (size == 0) size = wire.size();
    size = std::min(size, wire.size() - at);
    plaintext.resize(size + Channel::kPlaintextMargin);
    const size_t got = to.Receive(Bytes(wire).subspan(at, size), plaintext);
    received.append(reinterpret_cast<const char*>(plaintext.data()), got);
    at += size;
  }
  return received;
}

struct Pair {
  Pair(std::shared_ptr<const ClientContext> client_context,
       std::shared_ptr<const ServerContext> server_context, std::string name = "mail.example")
      : Pair(std::make_shared<Peer>(std::move(client_context), std::move(name)),
             std::move(server_context)) {}
  Pair(std::shared_ptr<Peer> peer, std::shared_ptr<const ServerContext> server_context)
      : client(client_wire, std::move(peer)), server(server_wire, std::move(server_context)) {}

  // Handshake runs until both sides stop sending; returns whether both are established.
  bool Handshake(const Pieces& pieces = Whole()) {
    client.Start();
    while (!client_wire.outgoing.empty() || !server_wire.outgoing.empty()) {
      to_server += Deliver(client_wire, server, pieces);
      to_client += Deliver(server_wire, client, pieces);
    }
    return client.established() && server.established() && client.failure() == Failure::kNone &&
           server.failure() == Failure::kNone;
  }

  Transport client_wire;
  Transport server_wire;
  Channel client;
  Channel server;
  std::string to_server;  // plaintext that came out during the handshake
  std::string to_client;
};

}  // namespace gatepost::tls::test
