// SPDX-License-Identifier: Apache-2.0
#include "gateway/auth/http_authority.h"

#include <algorithm>
#include <utility>

#include "config/values.h"
#include "gateway/auth/challenge.h"
#include "gateway/auth/user_names.h"
#include "gateway/backends/directory.h"
#include "gateway/net/reverse_lookup.h"
#include "gateway/worker.h"
#include "protocols/sasl/digest.h"

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

// Task is one login until it is decided. Its deadline is that of asking, first or again.
struct HttpAuthority::Task final : HttpClient::Question,
                                   net::Deadlines::Entry,
                                   net::ReverseLookup::Observer {
  Task(HttpAuthority& authority, SessionId session)
      : HttpClient::Question(authority.client_, "GET", 0), owner(authority), id(session) {}

  void Write(protocols::Buffer& request) override {
    answer = HttpAnswer();
    request << question.who.view() << question.before.view() << client_host << question.after.view()
            << "\r\n";
  }
  void OnField(std::string_view name, std::string_view value) override { answer.Take(name, value); }
  std::optional<std::string> Understand(const HttpResponse&) override {
    auto understood = answer.Finish(matter);
    if (!understood) return understood.error();
    meaning = *std::move(understood);
    return std::nullopt;
  }
  void OnAnswer() override { owner.Answered(*this); }
  void OnOutage(std::string detail, bool timed_out) override {
    owner.Finish(*this, Outage(std::move(detail), timed_out));
  }
  void OnDeadline() override { owner.OnDeadline(*this); }
  void OnName(std::string_view name) override {
    client_host = "Client-Host: " + std::string(name) + "\r\n";
    lookup.reset();
    owner.client_.Ask(*this);
  }

  HttpAuthority& owner;
  const SessionId id;
  HttpAnswer::Matter matter{protocols::Protocol::kImap};
  LoginCache::Key key{};
  // CRAM-MD5:
  enum class Client : uint8_t { kHasSpoken, kIsToBeAsked, kIsAsked };
  Client client = Client::kHasSpoken;
  std::string challenge;
  std::string user;                     // whom it has named
  std::optional<net::Address> resolve;  // whose name is wanted
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

sasl::MechanismSet HttpAuthority::Mechanisms(const BackendMechanisms& /*backend*/) const {
  sasl::MechanismSet all = kPasswordMechanisms;
  for (const config::Mechanism digest : authority_.settings.digest_mechanisms) {
    all.Add(digest == config::Mechanism::kApop ? sasl::Mechanism::kApop
                                               : sasl::Mechanism::kCramMd5);
  }
  return all;
}

bool HttpAuthority::NeedsPassword(const Request& request) const {
  if (!sasl::kPasswordless.Has(request.credentials.mechanism)) return false;
  const backends::Pool* pool =
      worker_.runtime().directory->Find(request.listener.pool, request.protocol);
  return pool != nullptr && pool->settings().login == config::BackendLogin::kSame &&
         !pool->settings().master_user;
}

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
  // A digest that was good once proves nothing: somebody may have listened.
  const bool digest = credentials.mechanism == sasl::Mechanism::kCramMd5 ||
                      credentials.mechanism == sasl::Mechanism::kApop;
  if (authority_.settings.positive_cache.count() > 0 && !digest && request.recipient == nullptr) {
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
  task.key = key;
  task.matter = {request.protocol, NeedsPassword(request), request.recipient != nullptr};
  task.question = MakeQuestion(request, options_);
  if (authority_.settings.resolve_client_host && request.protocol == protocols::Protocol::kSmtp) {
    task.resolve = request.client;
  }
  if (credentials.mechanism == sasl::Mechanism::kCramMd5) {
    task.challenge = NewChallenge(worker_.runtime().config.hostname);
    task.client = Task::Client::kIsToBeAsked;
    worker_.deadlines().Arm(task, 0);  // from the loop
    return std::nullopt;
  }
  task.question.who =
      request.recipient != nullptr ? NobodyLogsIn() : Whose(credentials, request.challenge);
  Begin(task);
  return std::nullopt;
}

// The client's time is bounded by limits.login_timeout.
void HttpAuthority::Continue(SessionId id, std::string_view answer) {
  const auto found = tasks_.find(KeyOf(id));
  if (found == tasks_.end() || found->second->client != Task::Client::kIsAsked) return;
  Task& task = *found->second;
  auto credentials = sasl::ParseDigest(sasl::Mechanism::kCramMd5, answer);
  if (!credentials) {
    Verdict verdict;
    verdict.detail = "the client's answer is none of CRAM-MD5";
    return Finish(task, std::move(verdict));
  }
  NormalizeUsers(worker_.runtime().config.users, *credentials);
  task.client = Task::Client::kHasSpoken;
  task.user = credentials->authentication_identity;
  task.question.who = Whose(*credentials, task.challenge);
  Begin(task);
}

// Begin asks, once the client's name is known where that is wanted.
void HttpAuthority::Begin(Task& task) {
  if (task.resolve) {
    task.lookup = net::ReverseLookup::Start(worker_.loop(), worker_.deadlines(), *task.resolve,
                                            kLookupTimeout, lookups_, kMaxLookups, task);
    if (task.lookup) return;
    task.client_host = "Client-Host: [TEMPUNAVAIL]\r\n";
  }
  client_.Ask(task);
}

void HttpAuthority::OnDeadline(Task& task) {
  if (task.client != Task::Client::kIsToBeAsked) return client_.Ask(task);  // it was told to, again
  if (task.challenge.empty()) return Finish(task, Outage("the system gave no randomness"));
  task.client = Task::Client::kIsAsked;
  answers_.OnChallenge(task.id, task.challenge);
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
  if (verdict.accepted && !verdict.backend_password && task.key != LoginCache::Key{}) {
    good_logins_.Keep(task.key, {verdict.backend, verdict.backend_user}, worker_.Now());
  }
  Finish(task, std::move(meaning.verdict));
}

void HttpAuthority::Finish(Task& task, Verdict verdict) {
  if (verdict.user.empty()) verdict.user = std::move(task.user);
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
