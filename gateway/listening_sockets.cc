// SPDX-License-Identifier: Apache-2.0
#include "gateway/listening_sockets.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "gateway/net/listener.h"

namespace gatepost {
namespace {

// AddressOf returns what the loader has checked.
net::Address AddressOf(const config::SocketAddress& wanted) {
  return net::Address::Parse(wanted.host, wanted.port).value_or(net::Address());
}

}  // namespace

ListeningSockets::~ListeningSockets() {
  for (const Bound& bound : bound_) Close(bound);
}

void ListeningSockets::Close(const Bound& bound) {
  for (const int descriptor : bound.descriptors) close(descriptor);
}

const ListeningSockets::Bound* ListeningSockets::Find(const net::Address& address) const {
  const auto found = std::find_if(bound_.begin(), bound_.end(), [&](const Bound& bound) {
    return bound.address.Text() == address.Text();
  });
  return found == bound_.end() ? nullptr : &*found;
}

bool ListeningSockets::HasPort(const net::Address& address) const {
  return std::any_of(bound_.begin(), bound_.end(),
                     [&](const Bound& bound) { return bound.address.port() == address.port(); });
}

tl::expected<void, std::string> ListeningSockets::Inherit(const std::vector<int>& descriptors) {
  std::vector<Bound> inherited;
  for (const int descriptor : descriptors) {
    sockaddr_storage storage{};
    socklen_t length = sizeof(storage);
    int type = 0;
    socklen_t type_length = sizeof(type);
    const bool named =
        getsockname(descriptor, reinterpret_cast<sockaddr*>(&storage), &length) == 0 &&
        getsockopt(descriptor, SOL_SOCKET, SO_TYPE, &type, &type_length) == 0;
    if (!named || type != SOCK_STREAM ||
        (storage.ss_family != AF_INET && storage.ss_family != AF_INET6)) {
      return tl::unexpected("the inherited descriptor " + std::to_string(descriptor) +
                            " is no TCP socket");
    }
    const net::Address address(reinterpret_cast<const sockaddr*>(&storage));
    const auto known = std::find_if(inherited.begin(), inherited.end(), [&](const Bound& bound) {
      return bound.address.Text() == address.Text();
    });
    if (known != inherited.end()) {
      known->descriptors.push_back(descriptor);
    } else {
      inherited.push_back({address, {descriptor}});
    }
  }
  bound_ = std::move(inherited);
  return {};
}

tl::expected<ListeningSockets::Bound, std::string> ListeningSockets::BindAll(
    const net::Address& address, uint32_t workers, bool alone) {
  Bound made{address, {}};
  // SO_REUSEPORT would let a second Gatepost of the same user share the port unnoticed: a socket
  // without it finds out whether somebody listens there already.
  if (alone) {
    auto first = net::Bind(address, false);
    if (!first) return tl::unexpected(std::move(first.error()));
    close(*first);
  }
  for (uint32_t worker = 0; worker < workers; ++worker) {
    auto bound = net::Bind(address, true);
    if (!bound) {
      Close(made);
      return tl::unexpected(std::move(bound.error()));
    }
    made.descriptors.push_back(*bound);
  }
  return made;
}

tl::expected<void, std::vector<std::string>> ListeningSockets::Bind(
    const std::vector<config::Listener>& listeners, uint32_t workers) {
  std::vector<std::string> problems;
  std::vector<Bound> made;
  for (const config::Listener& listener : listeners) {
    for (const config::SocketAddress& wanted : listener.addresses) {
      const net::Address address = AddressOf(wanted);
      if (Find(address) != nullptr) continue;
      // Where an address of ours has the port, it may be what is in the way.
      auto bound = BindAll(address, workers, !HasPort(address));
      if (bound) {
        made.push_back(std::move(*bound));
      } else {
        problems.push_back("listener \"" + listener.name + "\": " + bound.error());
      }
    }
  }
  if (!problems.empty()) {
    for (const Bound& bound : made) Close(bound);
    return tl::unexpected(std::move(problems));
  }
  std::move(made.begin(), made.end(), std::back_inserter(bound_));
  return {};
}

tl::expected<ListeningSockets::OfWorkers, std::string> ListeningSockets::Share(
    const std::vector<config::Listener>& listeners, uint32_t workers) const {
  OfWorkers shared(workers);
  for (size_t i = 0; i < listeners.size(); ++i) {
    for (const config::SocketAddress& wanted : listeners[i].addresses) {
      const Bound* bound = Find(AddressOf(wanted));
      if (bound == nullptr) continue;
      const size_t count = bound->descriptors.size();
      for (size_t turn = 0; turn < std::max<size_t>(count, workers); ++turn) {
        const int copy = fcntl(bound->descriptors[turn % count], F_DUPFD_CLOEXEC, 0);
        if (copy < 0) {
          const std::string why = std::strerror(errno);
          Close(shared);
          return tl::unexpected("listening sockets can't be duplicated: " + why);
        }
        shared[turn % workers].push_back({i, copy});
      }
    }
  }
  return shared;
}

void ListeningSockets::Close(const OfWorkers& shared) {
  for (const auto& sockets : shared) {
    for (const Worker::Socket& socket : sockets) close(socket.descriptor);
  }
}

void ListeningSockets::Keep(const std::vector<config::Listener>& listeners) {
  std::vector<std::string> wanted;
  for (const config::Listener& listener : listeners) {
    for (const config::SocketAddress& address : listener.addresses) {
      wanted.push_back(AddressOf(address).Text());
    }
  }
  std::erase_if(bound_, [&](const Bound& bound) {
    if (std::find(wanted.begin(), wanted.end(), bound.address.Text()) != wanted.end()) return false;
    Close(bound);
    return true;
  });
}

std::vector<int> ListeningSockets::descriptors() const {
  std::vector<int> all;
  for (const Bound& bound : bound_) {
    all.insert(all.end(), bound.descriptors.begin(), bound.descriptors.end());
  }
  return all;
}

}  // namespace gatepost
