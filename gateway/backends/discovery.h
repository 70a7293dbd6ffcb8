// Finds the members of pools that are named by the DNS (dns:, srv:), and follows them.
//
// Runs on the first worker's loop, off the login path: names are asked again and again, a changed
// answer renews the pool's roster, and every worker gets it. Sessions stay with members that have
// gone. A name without an answer keeps its last members, and checks find out which of them serve.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <vector>

namespace gatepost {
class Worker;
}

namespace gatepost::backends {

class Discovery {
 public:
  // Begins at once with every name.
  explicit Discovery(Worker& worker);
  ~Discovery();

 private:
  class Names;
  std::vector<std::unique_ptr<Names>> pools_;  // those that have any
};

}  // namespace gatepost::backends
