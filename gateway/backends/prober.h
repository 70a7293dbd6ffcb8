// Learns what each pool's members can do: connects, asks for the capabilities, leaves.
//
// Runs on the first worker's loop; clients are shown what was learnt last. A pool that is not known
// yet is asked every few seconds, a known one once a minute.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <vector>

namespace gatepost {
class Worker;
}

namespace gatepost::backends {

class Prober {
 public:
  // Begins at once with every pool.
  explicit Prober(Worker& worker);
  ~Prober();

 private:
  class Probe;
  std::vector<std::unique_ptr<Probe>> probes_;
};

}  // namespace gatepost::backends
