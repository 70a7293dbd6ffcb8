// SPDX-License-Identifier: Apache-2.0
#include "gateway/auth/policy.h"

#include <uv.h>

#include <algorithm>
#include <array>
#include <utility>

#include "config/values.h"
#include "gateway/auth/http_response.h"
#include "gateway/secret_file.h"
#include "gateway/worker.h"

namespace gatepost::auth {
namespace {

constexpr size_t kMostAnswerBytes = size_t{16} * 1024;

// WithCommand returns the URLs for one of the two commands.
std::vector<config::HttpUrl> WithCommand(std::vector<config::HttpUrl> urls,
                                         std::string_view command) {
  for (config::HttpUrl& url : urls) {
    const bool query = url.path.find('?') != std::string::npos;
    const bool open = url.path.ends_with('?') || url.path.ends_with('&');
    url.path += (open ? "" : query ? "&" : "?") + ("command=" + std::string(command));
  }
  return urls;
}

PolicyRuntime::Series MakeSeries(observe::Metrics& metrics, std::string_view command) {
  PolicyRuntime::Series series;
  for (size_t i = 0; i < series.size(); ++i) {
    series[i] = metrics.Counter(observe::Metric::kPolicyRequests,
                                {command, Name(static_cast<PolicyResult>(i))});
  }
  return series;
}

HttpClient::Service ServiceOf(const PolicyRuntime& service,
                              const std::vector<config::HttpUrl>& urls) {
  const config::Policy& settings = service.settings;
  return {urls, service.tls, settings.timeout, settings.timeout, settings.max_concurrent};
}

}  // namespace

std::string_view Name(PolicyResult result) {
  static constexpr auto kNames =
      std::to_array<std::string_view>({"ok", "delay", "refuse", "error", "timeout", "dropped"});
  static_assert(kNames.size() == static_cast<size_t>(PolicyResult::kCount));
  return kNames[static_cast<size_t>(result)];
}

PolicyRuntime::PolicyRuntime(const config::Policy& configured, observe::Metrics& metrics)
    : settings(configured),
      allow_urls(WithCommand(configured.urls, "allow")),
      report_urls(WithCommand(configured.urls, "report")),
      allowed(MakeSeries(metrics, "allow")),
      reported(MakeSeries(metrics, "report")),
      took(metrics.Histogram(observe::Metric::kPolicyDuration, {})) {}

tl::expected<std::unique_ptr<PolicyRuntime>, std::vector<std::string>> LoadPolicy(
    const config::Policy& settings, const std::shared_ptr<const tls::KeyLog>& key_log,
    observe::Metrics& metrics) {
  std::vector<std::string> errors;
  auto made = std::make_unique<PolicyRuntime>(settings, metrics);
  if (auto nonce = ReadSecret(settings.nonce_file)) {
    made->nonce = *std::move(nonce);
  } else {
    errors.push_back("policy: " + nonce.error());
  }
  if (settings.header_file) {
    const auto line = ReadSecret(*settings.header_file);
    if (!line) {
      errors.push_back("policy: " + line.error());
    } else if (const auto header = config::SplitHttpHeader(line->Reveal())) {
      protocols::Buffer text;  // which is wiped
      text << header->name << ": " << header->value << "\r\n";
      made->header = sasl::Secret(text.view());
    } else {
      errors.push_back("policy: " + settings.header_file->string() +
                       ": its first line must be an HTTP header field, for example: "
                       "X-API-Key: 4711");
    }
  }
  if (auto tls = HttpTls(settings.urls, settings.ca_file, key_log)) {
    made->tls = *std::move(tls);
  } else {
    errors.push_back("policy: " + tls.error());
  }
  if (!errors.empty()) return tl::unexpected(std::move(errors));
  return made;
}

// Voice says in the log how one of the two commands does.
class Policy::Voice final : public HttpClient::Observer {
 public:
  Voice(Worker& worker, std::string_view command) : worker_(worker), command_(command) {}

 private:
  void OnFailing(const config::HttpUrl& url, const std::string& detail) override {
    worker_.log().Write(observe::Level::kWarning, "policy_failed",
                        {{"command", command_}, {"url", config::Text(url)}, {"detail", detail}});
  }
  void OnWorking(const config::HttpUrl& url) override {
    worker_.log().Write(observe::Level::kInfo, "policy_recovered",
                        {{"command", command_}, {"url", config::Text(url)}});
  }

  Worker& worker_;
  const std::string_view command_;
};

// PolicyQuestion is one POST of JSON.
class PolicyQuestion : public HttpClient::Question {
 public:
  PolicyQuestion(HttpClient& client, size_t most_body_bytes, const PolicyRuntime& service,
                 std::string text)
      : HttpClient::Question(client, "POST", most_body_bytes),
        service_(service),
        text_(std::move(text)) {}

 private:
  void Write(protocols::Buffer& request) override {
    request << "Content-Type: application/json\r\nAccept: application/json\r\n"
            << service_.header.Reveal() << "Content-Length: " << std::to_string(text_.size())
            << "\r\n\r\n"
            << text_;
  }
  void OnField(std::string_view, std::string_view) override {}
  std::optional<std::string> Understand(const HttpResponse& response) override {
    if (response.code() / 100 != 2) return "HTTP status " + std::to_string(response.code());
    return Read(response.body());
  }
  virtual std::optional<std::string> Read(std::string_view body) = 0;

  const PolicyRuntime& service_;
  const std::string text_;
};

class Policy::Allow final : public PolicyQuestion {
 public:
  Allow(Policy& owner, SessionId session, std::string text)
      : PolicyQuestion(owner.asking_, kMostAnswerBytes, owner.service_, std::move(text)),
        id(session),
        began_ns(uv_hrtime()),
        owner_(owner) {}

  const SessionId id;
  const uint64_t began_ns;

 private:
  std::optional<std::string> Read(std::string_view body) override {
    auto answer = ParsePolicyAnswer(body);
    if (!answer) return answer.error();
    answer_ = *std::move(answer);
    return std::nullopt;
  }
  void OnAnswer() override { owner_.Decided(*this, answer_); }
  void OnOutage(std::string detail, bool timed_out) override {
    owner_.Undecided(*this, std::move(detail), timed_out);
  }

  Policy& owner_;
  PolicyAnswer answer_;
};

class Policy::Told final : public PolicyQuestion {
 public:
  Told(Policy& owner, std::string text)
      : PolicyQuestion(owner.telling_, 0, owner.service_, std::move(text)), owner_(owner) {}

  std::list<std::unique_ptr<Told>>::iterator place;

 private:
  std::optional<std::string> Read(std::string_view) override { return std::nullopt; }
  void OnAnswer() override { owner_.Finish(*this, PolicyResult::kOk); }
  void OnOutage(std::string, bool timed_out) override {
    owner_.Finish(*this, timed_out ? PolicyResult::kTimeout : PolicyResult::kError);
  }

  Policy& owner_;
};

Policy::Policy(Worker& worker, const PolicyRuntime& service, Answers& answers)
    : worker_(worker),
      service_(service),
      answers_(answers),
      asking_voice_(std::make_unique<Voice>(worker, "allow")),
      telling_voice_(std::make_unique<Voice>(worker, "report")),
      asking_(worker, ServiceOf(service, service.allow_urls), *asking_voice_),
      telling_(worker, ServiceOf(service, service.report_urls), *telling_voice_) {}

Policy::~Policy() = default;

std::optional<Policy::Decision> Policy::Ask(SessionId id, const PolicyCase& login) {
  // While it is out of order, a login now and then finds out whether it still is; but where nobody
  // may log in without it, each does.
  if (asking_.full() || (asking_.down() && !service_.settings.reject_on_failure)) {
    worker_.shard().Add(service_.allowed[static_cast<size_t>(PolicyResult::kDropped)]);
    return Decision{PolicyResult::kDropped, {}, "the policy service is out of order"};
  }
  auto made = std::make_unique<Allow>(*this, id, AllowText(login));
  Allow& asked = *made;
  asked_[KeyOf(id)] = std::move(made);
  asking_.Ask(asked);
  return std::nullopt;
}

void Policy::Cancel(SessionId id) {
  const auto found = asked_.find(KeyOf(id));
  if (found == asked_.end()) return;
  const std::unique_ptr<Allow> asked = std::move(found->second);
  asked_.erase(found);
  asking_.Forget(*asked);
}

void Policy::Report(const PolicyCase& login, std::optional<protocols::LoginFailure> failure) {
  if (!service_.settings.report) return;
  if (telling_.full() || telling_.down()) {
    return worker_.shard().Add(service_.reported[static_cast<size_t>(PolicyResult::kDropped)]);
  }
  told_.push_front(std::make_unique<Told>(*this, ReportText(login, failure)));
  told_.front()->place = told_.begin();
  telling_.Ask(*told_.front());
}

void Policy::Decided(Allow& asked, const PolicyAnswer& answer) {
  Decision decision;
  decision.detail = answer.message;
  if (answer.status < 0) {
    decision.result = PolicyResult::kRefuse;
  } else if (answer.status > 0) {
    decision.result = PolicyResult::kDelay;
    const auto most = std::chrono::duration_cast<std::chrono::seconds>(service_.settings.max_delay);
    decision.delay = answer.status > most.count()
                         ? service_.settings.max_delay
                         : std::chrono::milliseconds(std::chrono::seconds(answer.status));
  }
  Finish(asked, std::move(decision));
}

void Policy::Undecided(Allow& asked, std::string detail, bool timed_out) {
  Finish(asked, {timed_out ? PolicyResult::kTimeout : PolicyResult::kError, {}, std::move(detail)});
}

void Policy::Finish(Allow& asked, Decision decision) {
  const SessionId id = asked.id;
  worker_.shard().Add(service_.allowed[static_cast<size_t>(decision.result)]);
  worker_.shard().Observe(service_.took, static_cast<double>(uv_hrtime() - asked.began_ns) / 1e9);
  asked_.erase(KeyOf(id));
  answers_.OnPolicy(id, std::move(decision));
}

void Policy::Finish(Told& told, PolicyResult result) {
  worker_.shard().Add(service_.reported[static_cast<size_t>(result)]);
  told_.erase(told.place);
}

}  // namespace gatepost::auth
