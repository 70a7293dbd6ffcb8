// Connections to backends that are ready for a login before anybody logs in.
//
// For pools with ready_connections > 0: so many of each member are kept open, greeted and past TLS,
// so that a login is one round trip. One that the backend gives up is replaced; each is renewed
// before the usual patience of servers before a login ends. One worker's.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <vector>

#include "gateway/backends/opening.h"

namespace gatepost::backends {

class ReadyStore {
 public:
  explicit ReadyStore(Worker& worker);
  ~ReadyStore();

  // Use keeps connections to the members that `pool` has now.
  void Use(const Pool& pool);

  // Clear keeps none any more.
  void Clear();

  // Take returns a ready connection to `member` whose events go to `observer`, or null.
  [[nodiscard]] std::unique_ptr<Opening> Take(const Member& member, Opening::Observer& observer);

 private:
  class Shelf;

  Worker& worker_;
  std::vector<std::unique_ptr<Shelf>> shelves_;  // one a member
};

}  // namespace gatepost::backends
