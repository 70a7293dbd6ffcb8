// SPDX-License-Identifier: Apache-2.0
#include "gateway/auth/chain.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/unit/gateway/authorities.h"

namespace gatepost::auth {
namespace {

using test::Ask;
using test::Asked;
using test::Login;

// Says what it is told to say; keeps a question that it is told nothing about.
struct Scripted final : Authenticator {
  explicit Scripted(Answers& to) : answers(to) {}
  [[nodiscard]] std::optional<Verdict> Check(const Request& request) override {
    asked.push_back(request.credentials.authentication_identity);
    return std::exchange(next, std::nullopt);
  }
  void Continue(SessionId id, std::string_view answer) override {
    continued.emplace_back(id.index, answer);
  }
  void Cancel(SessionId id) override { cancelled.push_back(id.index); }
  [[nodiscard]] sasl::MechanismSet Mechanisms(const BackendMechanisms& backend) const override {
    return mechanisms & (kPasswordMechanisms | backend.served);
  }

  Answers& answers;
  sasl::MechanismSet mechanisms = kPasswordMechanisms;
  std::optional<Verdict> next;
  std::vector<std::string> asked;
  std::vector<std::pair<uint32_t, std::string>> continued;
  std::vector<uint32_t> cancelled;
};

class ChainTest : public testing::Test {
 protected:
  ChainTest() {
    Configure("staff", {}, {"example.org", "example.net"});
    Configure("imap", {"imap-993"}, {});
    Configure("guests", {"imap-143"}, {"guests.example"});
    for (const auto& authority : settings_) {
      runtimes_.push_back(std::make_unique<AuthorityRuntime>(authority, metrics_));
    }
    chain_ = std::make_unique<Chain>(metrics_.NewShard(), asked_);
    for (const auto& runtime : runtimes_) {
      chain_->Add(*runtime, [&](Authenticator::Answers& answers) {
        auto made = std::make_unique<Scripted>(answers);
        scripted_.push_back(made.get());
        return made;
      });
    }
  }

  void Configure(const std::string& name, const std::vector<std::string>& listeners,
                 const std::vector<std::string>& domains) {
    config::Authority authority;
    authority.name = name;
    for (const std::string& listener : listeners) authority.listeners.push_back({listener, {}});
    authority.domains = domains;
    settings_.push_back(std::move(authority));
  }

  // Decider returns the authority that was asked about `user` and nobody else.
  std::string Decider(const std::string& user, const std::string& listener = "imap-993") {
    std::string decider;
    for (Scripted* authority : scripted_) {
      authority->asked.clear();
      authority->next = Verdict{};
    }
    const auto verdict = Ask(*chain_, 1, Login(user, "p"), listener);
    EXPECT_TRUE(verdict.has_value());
    for (size_t i = 0; i < scripted_.size(); ++i) {
      if (!scripted_[i]->asked.empty()) decider += settings_[i].name;
    }
    const auto* signed_by = verdict->authority;
    EXPECT_EQ(decider, signed_by == nullptr ? "" : signed_by->settings.name);
    return decider;
  }

  std::vector<config::Authority> settings_;
  observe::Metrics metrics_;
  std::vector<std::unique_ptr<AuthorityRuntime>> runtimes_;
  Asked asked_;
  std::unique_ptr<Chain> chain_;
  std::vector<Scripted*> scripted_;
};

TEST_F(ChainTest, TheFirstThatIsForTheClientDecides) {
  EXPECT_EQ(Decider("a@example.org"), "staff");
  EXPECT_EQ(Decider("a@EXAMPLE.Net", "smtp-25"), "staff");
  EXPECT_EQ(Decider("a@b@example.org"), "staff");
  EXPECT_EQ(Decider("example.org@c"), "imap");
  EXPECT_EQ(Decider("example.org"), "imap");  // no domain at all
  EXPECT_EQ(Decider("a@sub.example.org"), "imap");
  EXPECT_EQ(Decider("a@xexample.org"), "imap");
  EXPECT_EQ(Decider("a@example.orgx"), "imap");
  EXPECT_EQ(Decider("a@guests.example", "imap-143"), "guests");
  EXPECT_EQ(Decider("a@guests.example", "smtp-25"), "");
  EXPECT_EQ(Decider("a@", "imap-143"), "");
}

TEST_F(ChainTest, NobodyIsARefusalThatTheLogExplains) {
  auto verdict = Ask(*chain_, 1, Login("a@else.example", "p"), "smtp-25");
  ASSERT_TRUE(verdict);
  EXPECT_FALSE(verdict->accepted);
  EXPECT_EQ(verdict->reason, protocols::LoginFailure::kBadCredentials);
  EXPECT_EQ(verdict->detail, "no authority is for this user here");
  verdict = Ask(*chain_, 1, Login("a@else.example", "", sasl::Mechanism::kExternal), "smtp-25");
  EXPECT_EQ(verdict->reason, protocols::LoginFailure::kAuthorizationDenied);
}

TEST_F(ChainTest, RefusalsAndOutagesAreFinal) {
  scripted_[0]->next = Verdict{};  // not accepted
  EXPECT_FALSE(Ask(*chain_, 1, Login("a@example.org", "p"))->accepted);
  EXPECT_TRUE(runtimes_[0]->up.load());
  Verdict outage;
  outage.reason = protocols::LoginFailure::kUnavailable;
  scripted_[0]->next = std::move(outage);
  EXPECT_EQ(Ask(*chain_, 1, Login("a@example.org", "p"))->reason,
            protocols::LoginFailure::kUnavailable);
  EXPECT_FALSE(runtimes_[0]->up.load());
  EXPECT_TRUE(runtimes_[1]->up.load());
  EXPECT_TRUE(scripted_[1]->asked.empty());
}

TEST_F(ChainTest, AnswersThatComeLaterAreSignedAndCounted) {
  EXPECT_FALSE(Ask(*chain_, 7, Login("a@example.org", "p")));
  Verdict verdict;
  verdict.reason = protocols::LoginFailure::kUnavailable;
  verdict.timed_out = true;
  scripted_[0]->answers.OnVerdict({7, 0}, std::move(verdict));
  EXPECT_EQ(asked_.verdicts.at(7).authority, runtimes_[0].get());
  EXPECT_FALSE(runtimes_[0]->up.load());
  Verdict good;
  good.accepted = true;
  scripted_[0]->answers.OnVerdict({8, 0}, std::move(good));
  EXPECT_TRUE(runtimes_[0]->up.load());
  const std::string text = metrics_.Render();
  for (const char* line :
       {"gatepost_authority_requests_total{authority=\"staff\",result=\"timeout\"} 1",
        "gatepost_authority_requests_total{authority=\"staff\",result=\"ok\"} 1",
        "gatepost_authority_requests_total{authority=\"staff\",result=\"error\"} 0",
        "gatepost_authority_requests_total{authority=\"imap\",result=\"ok\"} 0"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line;
  }
  chain_->Cancel({9, 0});
  EXPECT_EQ(scripted_[0]->cancelled, std::vector<uint32_t>{9});
}

TEST_F(ChainTest, PassesQuestionsAndAnswersOn) {
  EXPECT_FALSE(Ask(*chain_, 7, Login("a@example.org", "p")));
  scripted_[0]->answers.OnChallenge({7, 0}, "nonce");
  EXPECT_EQ(asked_.challenges.find(7)->second, "nonce");
  chain_->Continue({7, 0}, "proof");
  EXPECT_EQ(scripted_[0]->continued, (std::vector<std::pair<uint32_t, std::string>>{{7, "proof"}}));
}

TEST_F(ChainTest, OffersWhatAnyAuthorityOfTheListenerHas) {
  using sasl::Mechanism;
  config::Listener listener;
  listener.name = "imap-143";
  const BackendMechanisms all{{}, sasl::MechanismSet::All()};
  EXPECT_EQ(chain_->MechanismsAt(listener, all), kPasswordMechanisms);
  scripted_[1]->mechanisms.Add(Mechanism::kScramSha1);  // of another listener
  scripted_[2]->mechanisms.Add(Mechanism::kScramSha256);
  EXPECT_FALSE(chain_->MechanismsAt(listener, all).Has(Mechanism::kScramSha1));
  EXPECT_TRUE(chain_->MechanismsAt(listener, all).Has(Mechanism::kScramSha256));
  EXPECT_FALSE(chain_->MechanismsAt(listener, {}).Has(Mechanism::kScramSha256));
}

// It has to be asked before anybody knows whose domain it is.
TEST_F(ChainTest, CramMd5IsForOneAuthorityForAll) {
  using sasl::Mechanism;
  const BackendMechanisms all{{}, sasl::MechanismSet::All()};
  for (Scripted* authority : scripted_) authority->mechanisms.Add(Mechanism::kCramMd5);
  config::Listener listener;
  listener.name = "imap-993";
  EXPECT_FALSE(chain_->MechanismsAt(listener, all).Has(Mechanism::kCramMd5));
  settings_[0].domains.clear();
  EXPECT_TRUE(chain_->MechanismsAt(listener, all).Has(Mechanism::kCramMd5));
  scripted_[0]->mechanisms.Remove(Mechanism::kCramMd5);
  EXPECT_FALSE(chain_->MechanismsAt(listener, all).Has(Mechanism::kCramMd5));
}

TEST_F(ChainTest, WhatTheAuthorityDoesNotHaveIsRefusedAndIsNoGuess) {
  const auto verdict =
      Ask(*chain_, 1, Login("a@example.org", "n,,n=a,r=x", sasl::Mechanism::kScramSha256));
  ASSERT_TRUE(verdict);
  EXPECT_FALSE(verdict->accepted);
  EXPECT_EQ(verdict->reason, protocols::LoginFailure::kAuthorizationDenied);
  EXPECT_EQ(verdict->detail, "the authority has no SCRAM-SHA-256");
  EXPECT_TRUE(scripted_[0]->asked.empty());
}

// The backend's answer is the verdict, and not known yet.
TEST_F(ChainTest, WhatTheBackendDecidesIsNotCountedYet) {
  Verdict verdict;
  verdict.accepted = verdict.backend_decides = true;
  scripted_[1]->next = std::move(verdict);
  EXPECT_EQ(Ask(*chain_, 1, Login("a", "p"))->authority, runtimes_[1].get());
  EXPECT_NE(metrics_.Render().find(
                "gatepost_authority_requests_total{authority=\"imap\",result=\"ok\"} 0"),
            std::string::npos);
}

}  // namespace
}  // namespace gatepost::auth
