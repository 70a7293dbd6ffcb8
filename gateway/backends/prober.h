// Looks at every member of every pool: connects, does TLS, waits for the greeting, asks what it can
// do, leaves. One connection of the process to a member at a time.
//
// Runs on the first worker's loop. Each member is looked at once an interval of its pool, with some
// jitter, sooner where something seems wrong or may be well again. What was learnt is what clients
// are shown before their login.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <vector>

namespace gatepost {
class Worker;
}

namespace gatepost::backends {

class Pool;

class Prober {
 public:
  // Begins at once with every member.
  explicit Prober(Worker& worker);
  ~Prober();

  // Use looks at the members that `pool` has now.
  void Use(const Pool& pool);

 private:
  class Checks;
  std::vector<std::unique_ptr<Checks>> pools_;  // by Pool::index()
};

}  // namespace gatepost::backends
