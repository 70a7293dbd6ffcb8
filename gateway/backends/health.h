// Whether a member serves: what checks and real logins say of it, and when that counts.
//
// A member goes down after `fall` failures in a row, at once when it says that it shuts down, and
// at once when the first look at it fails; it comes up after `rise` checks in a row went well, and
// then takes on its share of logins over `slow_start_ms`. One that greets well but serves no login
// is not down: it is the last to be chosen for a while. Knows no clock, log or socket. Thread-safe:
// shared by all workers; while nothing fails, no lock is taken.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

namespace gatepost::backends {

class Health {
 public:
  static constexpr uint64_t kAvoidMs = 30'000;

  struct Settings {
    uint32_t rise = 2;
    uint32_t fall = 3;
    uint64_t slow_start_ms = 0;
  };

  // What an attempt to use the member says of it.
  enum class Sign : uint8_t {
    kWorks,
    kFails,
    kLeaves,        // it says that it shuts down
    kMisconfigured  // it does not offer what the configuration wants: no waiting will mend that
  };

  // A change between up and down, for the log.
  struct Change {
    bool up;
    std::string cause;   // of the failure that counted; where it is up: of the time before
    uint64_t lasted_ms;  // in the state before; 0 for the first
  };

  explicit Health(const Settings& settings) : settings_(settings) {}

  // Checked notes how a check went at `now_ms` (any clock that all workers share). `cause`: one
  // word.
  [[nodiscard]] std::optional<Change> Checked(Sign sign, std::string_view cause, uint64_t now_ms);

  // Met notes how a connection for a session went, up to the login; a failure has a check come
  // soon.
  [[nodiscard]] std::optional<Change> Met(Sign sign, std::string_view cause, uint64_t now_ms);

  // LoginFailed notes that a login got no answer, or that of an outage. `who` stands for the user:
  // one whose account is broken does not speak for the member.
  void LoginFailed(uint64_t who, uint64_t now_ms);
  // LoginAnswered notes that a login was served, well or not.
  void LoginAnswered();

  // Whether logins may be sent there. True until something is known.
  [[nodiscard]] bool usable() const {
    return state_.load(std::memory_order_relaxed) != State::kDown;
  }
  // Whether others should be tried first: its last logins failed.
  [[nodiscard]] bool avoided(uint64_t now_ms) const {
    return now_ms < avoid_until_ms_.load(std::memory_order_relaxed);
  }
  // Whether it is down for a reason that no waiting will mend.
  [[nodiscard]] bool misconfigured() const {
    return misconfigured_.load(std::memory_order_relaxed);
  }
  // Whether there are signs against its state, but not enough to change it.
  [[nodiscard]] bool wavering() const { return streak_.load(std::memory_order_relaxed) != 0; }
  // The part of its weight that counts now, above 0 and at most 1.
  [[nodiscard]] double Share(uint64_t now_ms) const;
  // TakeSuspicion returns, once, whether a session has met a failure since the last look.
  [[nodiscard]] bool TakeSuspicion() {
    return suspicious_.load(std::memory_order_relaxed) &&
           suspicious_.exchange(false, std::memory_order_relaxed);
  }
  // How often it went down or came back.
  [[nodiscard]] uint64_t transitions() const {
    return transitions_.load(std::memory_order_relaxed);
  }

 private:
  enum class State : uint8_t { kUnknown, kUp, kDown };

  std::optional<Change> Enter(State state, std::string_view cause, uint64_t now_ms);
  std::optional<Change> Fails(Sign sign, std::string_view cause, uint64_t now_ms, bool at_once);

  const Settings settings_;
  std::atomic<State> state_{State::kUnknown};
  std::atomic<uint32_t> streak_{0};         // signs in a row against the state
  std::atomic<uint32_t> failed_logins_{0};  // in a row, of different users
  std::atomic<uint64_t> avoid_until_ms_{0};
  std::atomic<uint64_t> came_back_ms_{0};
  std::atomic<bool> misconfigured_{false};
  std::atomic<bool> suspicious_{false};
  std::atomic<uint64_t> transitions_{0};

  std::mutex mutex_;  // of what follows, and of changes
  std::string cause_;
  uint64_t since_ms_ = 0;
  uint64_t last_who_ = 0;
};

}  // namespace gatepost::backends
