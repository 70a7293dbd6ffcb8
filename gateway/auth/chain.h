// The authorities of a configuration in their order, as one: the first that is for a client
// decides.
//
// Each kind of authority is a file of its own; this one chooses, and counts what they say. What the
// chosen one says is final, be it a refusal or an outage. One worker's.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "gateway/auth/authenticator.h"
#include "gateway/auth/authority_runtime.h"
#include "gateway/observe/metrics.h"

namespace gatepost {
class Worker;
}

namespace gatepost::auth {

class Chain final : public Authenticator {
 public:
  Chain(observe::Shard& shard, Answers& answers);
  ~Chain() override;

  // Add appends an authority; what `make` returns answers to its argument.
  using Make = std::function<std::unique_ptr<Authenticator>(Answers& answers)>;
  void Add(const AuthorityRuntime& authority, const Make& make);

  // MechanismsAt returns what clients of `listener` may log in with; Check refuses the others.
  [[nodiscard]] sasl::MechanismSet MechanismsAt(const config::Listener& listener,
                                                const BackendMechanisms& backend) const;

  [[nodiscard]] std::optional<Verdict> Check(const Request& request) override;
  void Continue(SessionId id, std::string_view answer) override;
  void Cancel(SessionId id) override;

 private:
  class Entry;

  observe::Shard& shard_;
  Answers& answers_;
  std::vector<std::unique_ptr<Entry>> entries_;
};

// MakeChain makes the worker's chain of all authorities of the configuration.
[[nodiscard]] std::unique_ptr<Chain> MakeChain(Worker& worker);

}  // namespace gatepost::auth
