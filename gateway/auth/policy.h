// A policy service (weakforced's protocol, as Dovecot's auth_policy speaks it): it is asked before
// anybody is about a login, and told what became of it.
//
// It may refuse a login or have it wait; where it is out of order, logins go on without it, unless
// the configuration says otherwise. A report is waited for by nobody. One worker's.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <tl/expected.hpp>
#include <unordered_map>
#include <vector>

#include "config/schema.h"
#include "gateway/auth/authenticator.h"
#include "gateway/auth/http_client.h"
#include "gateway/auth/policy_text.h"
#include "gateway/observe/metrics.h"
#include "protocols/sasl/credentials.h"
#include "tls/client_context.h"

namespace gatepost::auth {

// What came of a question or report: metric label by Name().
enum class PolicyResult : uint8_t {
  kOk,       // go on; the report was taken
  kDelay,    // go on, but later
  kRefuse,   // not at all
  kError,    // out of order, or nonsense
  kTimeout,  // no answer in time
  kDropped,  // it was not asked or told: too much waits for it, or it was out of order just now
  kCount
};
[[nodiscard]] std::string_view Name(PolicyResult result);

// The service as all workers share it.
struct PolicyRuntime {
  // `settings` must outlive it.
  PolicyRuntime(const config::Policy& settings, observe::Metrics& metrics);

  const config::Policy& settings;
  std::vector<config::HttpUrl> allow_urls, report_urls;  // with their commands
  sasl::Secret nonce;
  sasl::Secret header;                            // a whole line; empty: none
  std::shared_ptr<const tls::ClientContext> tls;  // where a URL is https
  using Series = std::array<observe::CounterId, static_cast<size_t>(PolicyResult::kCount)>;
  Series allowed, reported;
  observe::HistogramId took;
};

// LoadPolicy makes it with all that it names; each error is one line.
[[nodiscard]] tl::expected<std::unique_ptr<PolicyRuntime>, std::vector<std::string>> LoadPolicy(
    const config::Policy& settings, const std::shared_ptr<const tls::KeyLog>& key_log,
    observe::Metrics& metrics);

class Policy final {
 public:
  struct Decision {
    PolicyResult result = PolicyResult::kOk;
    std::chrono::milliseconds delay{0};  // before the login goes on
    std::string detail;                  // for the log
  };

  // Answers is the worker, who finds the session, if it still exists.
  class Answers {
   public:
    virtual void OnPolicy(SessionId id, Policy::Decision decision) = 0;

   protected:
    ~Answers() = default;
  };

  // `service` must outlive it.
  Policy(Worker& worker, const PolicyRuntime& service, Answers& answers);
  ~Policy();

  [[nodiscard]] const PolicyRuntime& service() const { return service_; }

  // Ask answers now, or returns nothing and calls OnPolicy once, later.
  [[nodiscard]] std::optional<Decision> Ask(SessionId id, const PolicyCase& login);
  // Cancel tells that nobody waits for the decision any more.
  void Cancel(SessionId id);
  // Report tells what became of a login; nothing: it succeeded.
  void Report(const PolicyCase& login, std::optional<protocols::LoginFailure> failure);

 private:
  class Voice;
  class Allow;
  class Told;

  void Decided(Allow& asked, const PolicyAnswer& answer);
  void Undecided(Allow& asked, std::string detail, bool timed_out);
  void Finish(Allow& asked, Decision decision);
  void Finish(Told& told, PolicyResult result);

  Worker& worker_;
  const PolicyRuntime& service_;
  Answers& answers_;
  std::unique_ptr<Voice> asking_voice_, telling_voice_;
  std::unordered_map<uint64_t, std::unique_ptr<Allow>> asked_;
  std::list<std::unique_ptr<Told>> told_;
  HttpClient asking_, telling_;  // the first to go
};

}  // namespace gatepost::auth
