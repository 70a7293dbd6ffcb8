// The listening sockets of the process: one a worker for each address, bound before root is given
// up, and kept over reloads, so that no connection in an accept queue is lost.
//
// Workers get duplicates. Main thread.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <tl/expected.hpp>
#include <vector>

#include "config/schema.h"
#include "gateway/net/address.h"
#include "gateway/worker.h"

namespace gatepost {

class ListeningSockets {
 public:
  using OfWorkers = std::vector<std::vector<Worker::Socket>>;

  ListeningSockets() = default;
  ~ListeningSockets();
  ListeningSockets(const ListeningSockets&) = delete;
  ListeningSockets& operator=(const ListeningSockets&) = delete;

  // Inherit takes sockets that are bound already, for the addresses that they have; those that turn
  // out to be none that are wanted, Keep closes. Returns what is wrong with one; then none is
  // taken.
  [[nodiscard]] tl::expected<void, std::string> Inherit(const std::vector<int>& descriptors);

  // Bind makes sockets for the addresses of `listeners` that have none, `workers` of each. On
  // failure every problem, and everything is as it was.
  [[nodiscard]] tl::expected<void, std::vector<std::string>> Bind(
      const std::vector<config::Listener>& listeners, uint32_t workers);

  // Share returns duplicates of the sockets of `listeners`, by worker, or why there are none. Every
  // queue is served: a worker may have several of one address, or share one with another worker,
  // where their number has changed since the address was bound.
  [[nodiscard]] tl::expected<OfWorkers, std::string> Share(
      const std::vector<config::Listener>& listeners, uint32_t workers) const;

  // Close gives up what Share has returned.
  static void Close(const OfWorkers& shared);

  // Keep closes those that are for none of `listeners`.
  void Keep(const std::vector<config::Listener>& listeners);

  // All of them, still this object's.
  [[nodiscard]] std::vector<int> descriptors() const;
  [[nodiscard]] size_t size() const { return descriptors().size(); }

 private:
  struct Bound {
    net::Address address;
    std::vector<int> descriptors;
  };
  [[nodiscard]] const Bound* Find(const net::Address& address) const;
  [[nodiscard]] bool HasPort(const net::Address& address) const;
  static tl::expected<Bound, std::string> BindAll(const net::Address& address, uint32_t workers,
                                                  bool alone);
  static void Close(const Bound& bound);

  std::vector<Bound> bound_;
};

}  // namespace gatepost
