// Who guesses passwords: failed logins by client network, by user, and by the pair of both, and who
// is refused for it before anybody is asked about a password.
//
// Only wrong credentials count, never an outage; the same wrong password of the same user from the
// same network counts once, so that a program with an old password harms nobody. Failures fade:
// half of them in each half-life. Whoever reaches a limit is refused until half of that is
// forgotten. A success forgives the pair, and from then on a user is not refused at that network
// for what others do: neither for guesses at its password elsewhere nor for those of its
// neighbours.
//
// Shared by all workers and thread-safe; of fixed size, whatever the number of addresses and users;
// no name, address or password is kept, only keyed hashes. It reads no clock. What other gateways
// see it can hear of, and they of what it sees: who carries that is a Courier.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/schema.h"
#include "gateway/auth/score_table.h"
#include "gateway/auth/throttle_event.h"
#include "gateway/net/address.h"
#include "protocols/sasl/credentials.h"
#include "tls/keyed_hash.h"

namespace gatepost::auth {

// UserKey is the name under which a user's failures and sessions are counted: letters without
// regard to case, which most backends do not look at.
[[nodiscard]] std::string UserKey(std::string_view user);

class Throttle {
 public:
  enum class Scope : uint8_t { kNetwork, kUser, kPair, kCount };

  // What a failure led to.
  struct Failure {
    // As many failures as the answer is to be delayed for; 0: those of the connection alone.
    uint32_t weight = 0;
    std::vector<Scope> begun;  // refusals that begin with this failure
  };

  // Courier tells other gateways what this one sees, and the reverse (Apply).
  class Courier {
   public:
    struct Figures {
      bool up;  // it works
      uint64_t sent, received, dropped;
    };
    virtual ~Courier() = default;
    // Tell never waits. Any thread.
    virtual void Tell(ThrottleEvent event) = 0;
    [[nodiscard]] virtual Figures figures() const = 0;
  };

  // `shared_key`: what other gateways have, too; empty: none has.
  explicit Throttle(const config::Throttle& settings,
                    const sasl::Secret& shared_key = sasl::Secret());

  // Use gives it a courier. Before it is shared by threads.
  void Use(std::unique_ptr<Courier> courier) { courier_ = std::move(courier); }
  [[nodiscard]] const Courier* courier() const { return courier_.get(); }
  // Apply counts what another gateway saw `age_ms` ago.
  void Apply(const ThrottleEvent& event, uint64_t age_ms, uint64_t now_ms);

  // Refuses returns for whose sake this login is not to be tried now. `now_ms`: the workers'
  // clocks. An empty `user`, here as below: nobody knows whom the client means.
  [[nodiscard]] std::optional<Scope> Refuses(const net::Address& client, std::string_view user,
                                             uint64_t now_ms);

  // Failed counts a login with wrong credentials; `secret` is what was wrong, empty: unknown.
  Failure Failed(const net::Address& client, std::string_view user, std::string_view secret,
                 uint64_t now_ms);

  // Succeeded forgives the pair.
  void Succeeded(const net::Address& client, std::string_view user, uint64_t now_ms);

  // Refusing returns how many of a scope are refused now.
  [[nodiscard]] size_t Refusing(Scope scope, uint64_t now_ms) const;

  [[nodiscard]] size_t bytes() const;
  [[nodiscard]] uint32_t limit(Scope scope) const { return limits_[static_cast<size_t>(scope)]; }

 private:
  static constexpr size_t kScopes = static_cast<size_t>(Scope::kCount);
  using Keys = std::array<uint64_t, kScopes>;

  [[nodiscard]] Keys KeysOf(const net::Address& client, std::string_view user) const;
  [[nodiscard]] ScoreTable& Table(Scope scope) { return tables_[static_cast<size_t>(scope)]; }
  bool Refuses(Scope scope, uint64_t key, uint64_t now_ms);
  [[nodiscard]] bool IsFamiliar(uint64_t pair, uint64_t now_ms);
  // Seen says whether the secret with this mark has failed for the pair already, and remembers it.
  bool Seen(uint64_t pair, uint16_t mark, uint64_t now_ms);
  // Count adds to the scores of a failure.
  Failure Count(const Keys& keys, double added, uint64_t now_ms);
  void Forgive(uint64_t pair, uint64_t now_ms);

  const std::array<uint32_t, kScopes> limits_;  // 0: none
  const double half_life_ms_;
  const std::vector<config::Network> exempt_;
  const tls::KeyedHash hash_;
  std::array<ScoreTable, kScopes> tables_;
  ScoreTable familiar_;               // pairs that have logged in lately
  std::unique_ptr<Courier> courier_;  // which uses the rest
};

// Name is the scope's word in logs and metrics.
[[nodiscard]] std::string_view Name(Throttle::Scope scope);

}  // namespace gatepost::auth
