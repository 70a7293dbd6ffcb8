// SPDX-License-Identifier: Apache-2.0
#include "gateway/auth/chain.h"

#include <algorithm>
#include <utility>

#include "gateway/auth/dovecot_authority.h"
#include "gateway/auth/http_authority.h"
#include "gateway/auth/login_authority.h"
#include "gateway/worker.h"

namespace gatepost::auth {

// Entry is one authority, and whom it answers.
class Chain::Entry final : public Answers {
 public:
  Entry(Chain& chain, const AuthorityRuntime& authority, const Make& make)
      : chain_(chain), authority_(authority), authenticator_(make(*this)) {}

  [[nodiscard]] const AuthorityRuntime& authority() const { return authority_; }
  [[nodiscard]] Authenticator& authenticator() { return *authenticator_; }

  // Sign notes whose verdict it is. One that the backend will give is counted when it has.
  void Sign(Verdict& verdict) const {
    verdict.authority = &authority_;
    if (!verdict.backend_decides) authority_.Count(chain_.shard_, OutcomeOf(verdict));
  }

 private:
  void OnVerdict(SessionId id, Verdict verdict) override {
    Sign(verdict);
    chain_.answers_.OnVerdict(id, std::move(verdict));
  }
  void OnChallenge(SessionId id, std::string_view challenge) override {
    chain_.answers_.OnChallenge(id, challenge);
  }

  Chain& chain_;
  const AuthorityRuntime& authority_;
  const std::unique_ptr<Authenticator> authenticator_;
};

Chain::Chain(observe::Shard& shard, Answers& answers) : shard_(shard), answers_(answers) {}

Chain::~Chain() = default;

void Chain::Add(const AuthorityRuntime& authority, const Make& make) {
  entries_.push_back(std::make_unique<Entry>(*this, authority, make));
}

sasl::MechanismSet Chain::MechanismsAt(const config::Listener& listener,
                                       const BackendMechanisms& backend) const {
  sasl::MechanismSet all;
  bool for_everybody = false;  // the first one, which then knows with CRAM-MD5 for whom it is asked
  for (const auto& entry : entries_) {
    const config::Authority& settings = entry->authority().settings;
    if (!config::MayDecide(settings, listener)) continue;
    const sasl::MechanismSet own = entry->authenticator().Mechanisms(backend);
    if (all == sasl::MechanismSet()) {
      for_everybody = settings.domains.empty() && own.Has(sasl::Mechanism::kCramMd5);
    }
    all = all | own;
  }
  if (!for_everybody) all.Remove(sasl::Mechanism::kCramMd5);
  return all;
}

std::optional<Verdict> Chain::Check(const Request& request) {
  const auto entry = std::find_if(entries_.begin(), entries_.end(), [&](const auto& candidate) {
    if (request.recipient != nullptr) {
      return candidate->authority().settings.name == request.listener.inbound_authority;
    }
    return candidate->authority().Decides(request.listener,
                                          request.credentials.authentication_identity);
  });
  if (entry == entries_.end()) {
    Verdict verdict;
    if (request.credentials.mechanism == sasl::Mechanism::kExternal) {
      verdict.reason = protocols::LoginFailure::kAuthorizationDenied;
    }
    verdict.detail = "no authority is for this user here";
    return verdict;
  }
  Authenticator& authenticator = (*entry)->authenticator();
  const sasl::Mechanism mechanism = request.credentials.mechanism;
  std::optional<Verdict> verdict;
  // What is offered is what some authority of the listener has, not each.
  if (authenticator.Mechanisms({sasl::MechanismSet::All(), sasl::MechanismSet::All()})
          .Has(mechanism)) {
    verdict = authenticator.Check(request);
  } else {
    verdict.emplace();
    verdict->reason = protocols::LoginFailure::kAuthorizationDenied;
    verdict->detail = "the authority has no " + std::string(sasl::Name(mechanism));
  }
  if (verdict) (*entry)->Sign(*verdict);
  return verdict;
}

void Chain::Continue(SessionId id, std::string_view answer) {
  for (const auto& entry : entries_) entry->authenticator().Continue(id, answer);
}

void Chain::Cancel(SessionId id) {
  for (const auto& entry : entries_) entry->authenticator().Cancel(id);
}

std::unique_ptr<Chain> MakeChain(Worker& worker) {
  auto chain = std::make_unique<Chain>(worker.shard(), worker);
  for (const auto& authority : worker.runtime().authorities) {
    chain->Add(*authority, [&](Authenticator::Answers& answers) -> std::unique_ptr<Authenticator> {
      switch (authority->settings.kind) {
        case config::AuthorityKind::kBackend:
          break;
        case config::AuthorityKind::kPasswords:
          return std::make_unique<PasswordAuthority>(worker.loop(), authority->passwords, answers);
        case config::AuthorityKind::kHttp:
          return std::make_unique<HttpAuthority>(worker, *authority, answers);
        case config::AuthorityKind::kLogin:
          return std::make_unique<LoginAuthority>(worker, *authority, answers);
        case config::AuthorityKind::kDovecot:
          return std::make_unique<DovecotAuthority>(worker, *authority, answers);
      }
      return std::make_unique<BackendAuthority>();
    });
  }
  return chain;
}

}  // namespace gatepost::auth
