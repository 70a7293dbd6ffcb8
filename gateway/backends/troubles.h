// What is wrong with the members of a pool, told once for each cause and not once for each session.
//
// Whoever meets a member reports here how it went. The log gets the first failure of a kind, then
// one in ten minutes with the number of those between, and one line when the member works again.
// Thread-safe: one for a pool, shared by all workers; while nothing fails, no lock is taken.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/schema.h"

namespace gatepost::backends {

// How far an attempt came: a member that greets may still fail at every login.
// With kTrust it serves, but does not believe who the client is.
enum class Stage : uint8_t { kOpening, kLogin, kTrust };

class Troubles {
 public:
  static constexpr uint64_t kAgainMs = uint64_t{10} * 60'000;
  static constexpr uint64_t kFlapMs = 60'000;  // between two lines where it worked in between

  // Failed notes a failure at `now_ms` (any clock that all workers share). Returns how many of the
  // same cause were kept back since the last line, or nothing where this one is, too.
  [[nodiscard]] std::optional<uint64_t> Failed(Stage stage, const config::Member& member,
                                               std::string_view cause, uint64_t now_ms);

  // Forget is for a member that is none any more.
  void Forget(const config::Member& member);

  // Works notes that `stage` went well. Returns what a line should say about it, or nothing where
  // no line said that the member fails.
  struct Recovery {
    uint64_t failures;
    uint64_t lasted_ms;
  };
  [[nodiscard]] std::optional<Recovery> Works(Stage stage, const config::Member& member,
                                              uint64_t now_ms);

 private:
  struct Trouble {
    Stage stage;
    std::string cause;
    uint64_t since_ms;
    uint64_t told_ms;
    uint64_t failures;   // since since_ms
    uint64_t kept_back;  // since told_ms
    bool failing;        // as far as the log says
  };
  using MemberKey = std::pair<std::string, uint16_t>;

  std::atomic<uint32_t> failing_{0};
  std::mutex mutex_;
  std::map<MemberKey, std::vector<Trouble>> members_;
};

}  // namespace gatepost::backends
