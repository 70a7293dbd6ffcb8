// SPDX-License-Identifier: Apache-2.0
#include "gateway/auth/http_authority.h"

#include <algorithm>
#include <utility>

#include "config/values.h"
#include "gateway/net/reverse_lookup.h"
#include "gateway/worker.h"

namespace gatepost::auth {
namespace {

constexpr uint64_t kLeastWaitMs = 100;  // however soon the service wants to be asked again
constexpr uint32_t kMaxLookups = 2;     // of client names at a time: they take libuv's threads
constexpr std::chrono::seconds kLookupTimeout{5};

uint64_t Milliseconds(std::chrono::milliseconds duration) {
  return static_cast<uint64_t>(duration.count());
}

Verdict Outage(std::string detail, bool timed_out = false) {
  Verdict verdict;
  verdict.reason = protocols::LoginFailure::kUnavailable;
  verdict.detail = std::move(detail);
  verdict.timed_out = timed_out;
  return verdict;
}

}  // namespace

// Task is one login until it is decided. Its deadline is that of asking again.
struct HttpAuthority::Task final : HttpClient::Question,
                                   net::Deadlines::Entry,
                                   net::ReverseLookup::Observer {
  Task(HttpAuthority& authority, SessionId session)
      : HttpClient::Question(authority.client_, "GET", 0), owner(authority), id(session) {}

  void Write(protocols::Buffer& request) override {
    answer = HttpAnswer();
    request << question.before.view() << client_host << question.after.view() << "\r\n";
  }
  void OnField(std::string_view name, std::string_view value) override { answer.Take(name, value); }
  std::optional<std::string> Understand(const HttpResponse&) override {
    auto understood = answer.Finish(protocol);
    if (!understood) return understood.error();
    meaning = *std::move(understood);
    return std::nullopt;
  }
  void OnAnswer() override { owner.Answered(*this); }
  void OnOutage(std::string detail, bool timed_out) override {
    owner.Finish(*this, Outage(std::move(detail), timed_out));
  }
  void OnDeadline() override { owner.client_.Ask(*this); }
  void OnName(std::string_view name) override {
    client_host = "Client-Host: " + std::string(name) + "\r\n";
    lookup.reset();
    owner.client_.Ask(*this);
  }

  HttpAuthority& owner;
  const SessionId id;
  protocols::Protocol protocol = protocols::Protocol::kImap;
  LoginCache::Key key{};
  auth::Question question;
  std::string client_host;  // a header line, where it is wanted
  std::unique_ptr<net::ReverseLookup> lookup;
  HttpAnswer answer;
  HttpAnswer::Meaning meaning;
};

HttpAuthority::HttpAuthority(Worker& worker, const AuthorityRuntime& authority, Answers& answers)
    : worker_(worker),
      authority_(authority),
      answers_(answers),
      options_{authority.settings.pass_client_certificate, authority.settings.headers},
      good_logins_(Milliseconds(authority.settings.positive_cache)),
      client_(worker,
              {authority.settings.urls, authority.tls, authority.settings.connect_timeout,
               authority.settings.timeout, authority.settings.max_concurrent},
              *this) {}

HttpAuthority::~HttpAuthority() = default;

std::optional<Verdict> HttpAuthority::Check(const Request& request) {
  const sasl::Credentials& credentials = request.credentials;
  if (!credentials.authorization_identity.empty() &&
      credentials.authorization_identity != credentials.authentication_identity) {
    // The protocol has no words to ask who may act for whom (RFC 4422 §3.4.1).
    Verdict verdict;
    verdict.reason = protocols::LoginFailure::kAuthorizationDenied;
    return verdict;
  }
  LoginCache::Key key{};
  if (authority_.settings.positive_cache.count() > 0) {
    key = good_logins_.KeyOf(request);
    if (const LoginCache::Login* known = good_logins_.Find(key, worker_.Now())) {
      Verdict verdict;
      verdict.accepted = true;
      verdict.backend = known->backend;
      verdict.backend_user = known->backend_user;
      return verdict;
    }
  }
  if (client_.full()) return Outage("too many questions wait for the authority");
  auto made = std::make_unique<Task>(*this, request.id);
  Task& task = *made;
  tasks_[KeyOf(request.id)] = std::move(made);
  task.protocol = request.protocol;
  task.key = key;
  task.question = MakeQuestion(request, options_);
  if (authority_.settings.resolve_client_host && request.protocol == protocols::Protocol::kSmtp) {
    task.lookup = net::ReverseLookup::Start(worker_.loop(), worker_.deadlines(), request.client,
                                            kLookupTimeout, lookups_, kMaxLookups, task);
    if (task.lookup) return std::nullopt;
    task.client_host = "Client-Host: [TEMPUNAVAIL]\r\n";
  }
  client_.Ask(task);
  return std::nullopt;
}

void HttpAuthority::Cancel(SessionId id) {
  const auto found = tasks_.find(KeyOf(id));
  if (found == tasks_.end()) return;
  const std::unique_ptr<Task> task = std::move(found->second);
  tasks_.erase(found);
  client_.Forget(*task);
}

void HttpAuthority::Answered(Task& task) {
  HttpAnswer::Meaning& meaning = task.meaning;
  if (meaning.wait) {
    authority_.Count(worker_.shard(), Outcome::kWait);
    return worker_.deadlines().Arm(task, std::max(Milliseconds(meaning.wait->time), kLeastWaitMs));
  }
  const Verdict& verdict = meaning.verdict;
  if (verdict.accepted && !verdict.backend_password) {
    good_logins_.Keep(task.key, {verdict.backend, verdict.backend_user}, worker_.Now());
  }
  Finish(task, std::move(meaning.verdict));
}

void HttpAuthority::Finish(Task& task, Verdict verdict) {
  const SessionId id = task.id;
  tasks_.erase(KeyOf(id));
  answers_.OnVerdict(id, std::move(verdict));
}

void HttpAuthority::OnFailing(const config::HttpUrl& url, const std::string& detail) {
  worker_.log().Write(
      observe::Level::kWarning, "authority_failed",
      {{"authority", authority_.settings.name}, {"url", config::Text(url)}, {"detail", detail}});
}

void HttpAuthority::OnWorking(const config::HttpUrl& url) {
  worker_.log().Write(observe::Level::kInfo, "authority_recovered",
                      {{"authority", authority_.settings.name}, {"url", config::Text(url)}});
}

}  // namespace gatepost::auth
