// SPDX-License-Identifier: Apache-2.0
#include "gateway/auth/http_authority.h"

#include <algorithm>
#include <utility>

#include "config/values.h"
#include "gateway/auth/http_response.h"
#include "gateway/net/dialer.h"
#include "gateway/net/reverse_lookup.h"
#include "gateway/net/stream.h"
#include "gateway/worker.h"
#include "tls/client_context.h"

namespace gatepost::auth {
namespace {

constexpr uint64_t kDownMs = 5'000;     // for which a URL that failed is asked last
constexpr uint64_t kIdleMs = 30'000;    // for which a connection is kept
constexpr uint64_t kBodyMs = 2'000;     // for the rest of a response of which all is known
constexpr uint64_t kLeastWaitMs = 100;  // however soon the service wants to be asked again
constexpr uint32_t kMaxLookups = 2;     // of client names at a time: they take libuv's threads
constexpr std::chrono::seconds kLookupTimeout{5};

uint64_t Milliseconds(std::chrono::milliseconds duration) {
  return static_cast<uint64_t>(duration.count());
}

std::string HostField(const config::HttpUrl& url) {
  const std::string text = config::Text(url);
  const std::string host = text.substr(url.https ? 8 : 7);
  const uint16_t standard = url.https ? 443 : 80;
  return url.address.port == standard ? host.substr(0, host.rfind(':')) : host;
}

Verdict Outage(std::string detail, bool timed_out = false) {
  Verdict verdict;
  verdict.reason = protocols::LoginFailure::kUnavailable;
  verdict.detail = std::move(detail);
  verdict.timed_out = timed_out;
  return verdict;
}

}  // namespace

struct HttpAuthority::Endpoint {
  explicit Endpoint(const config::HttpUrl& configured) : url(configured) {}

  const config::HttpUrl& url;
  std::shared_ptr<tls::Peer> peer;  // https
  bool failing = false;             // as far as the log says
  uint64_t down_until_ms = 0;       // loop time
};

// Task is one question until it is answered.
struct HttpAuthority::Task final : net::Deadlines::Entry, net::ReverseLookup::Observer {
  Task(HttpAuthority& authority, SessionId session) : owner(authority), id(session) {}

  void OnDeadline() override { owner.OnDeadline(*this); }
  void OnName(std::string_view name) override {
    client_host = "Client-Host: " + std::string(name) + "\r\n";
    lookup.reset();
    owner.Queue(*this);
  }

  HttpAuthority& owner;
  const SessionId id;
  protocols::Protocol protocol = protocols::Protocol::kImap;
  LoginCache::Key key{};
  Question question;
  std::string client_host;  // a header line, where it is wanted
  std::unique_ptr<net::ReverseLookup> lookup;
  std::vector<uint32_t> order;       // of the endpoints
  size_t turn = 0;                   // in it
  Connection* connection = nullptr;  // that carries it
  bool queued = false;
  bool retried = false;  // a kept connection had been given up just then
};

// Connection is one to an endpoint: being made, carrying a task, reading a body to its end, or
// idle.
class HttpAuthority::Connection final : private net::Deadlines::Entry,
                                        public net::Dial::Observer,
                                        public net::Stream::Observer {
 public:
  Connection(HttpAuthority& owner, Endpoint& endpoint)
      : owner_(owner),
        endpoint_(endpoint),
        dial_(std::make_unique<net::Dial>(owner.worker_.loop(), owner.worker_.resolver(),
                                          owner.worker_.deadlines(), endpoint.url.address.host,
                                          endpoint.url.address.port,
                                          owner.authority_.settings.connect_timeout, *this)) {}
  ~Connection() {
    if (stream_) owner_.worker_.Bury(std::move(stream_));
  }

  [[nodiscard]] Endpoint& endpoint() { return endpoint_; }
  [[nodiscard]] Task* task() { return task_; }
  [[nodiscard]] bool idle() const { return idle_; }
  // Whether an earlier question has gone over it, and not a byte came as an answer to this one: the
  // service may have given it up just then.
  [[nodiscard]] bool stale() const { return reused_ && !heard_; }

  // Carry asks for `task`, at once or when the connection is there.
  void Carry(Task& task) {
    task_ = &task;
    task.connection = this;
    reused_ = std::exchange(idle_, false);
    net::Deadlines::Disarm(*this);
    if (reused_) Send();
  }

  // Drop lets go of the task.
  void Drop() { task_ = nullptr; }

 private:
  void OnDialed(net::Dial&) override {
    const std::unique_ptr<net::Dial> dial = std::move(dial_);
    if (dial->result() != net::Dial::Result::kConnected) {
      return owner_.Failed(*this, dial->error(), dial->result() == net::Dial::Result::kTimeout);
    }
    stream_ = std::make_unique<net::Stream>(owner_.worker_.io(), dial->TakeConnection(), *this);
    stream_->ResumeReading();
    if (endpoint_.url.https) {
      stream_->StartTls(endpoint_.peer);
    } else {
      Send();
    }
  }

  void Send() {
    heard_ = answered_ = false;
    answer_ = HttpAnswer();
    response_ = std::make_unique<HttpResponse>(
        [this](std::string_view name, std::string_view value) { answer_.Take(name, value); });
    protocols::Buffer text;
    text << "GET " << endpoint_.url.path << " HTTP/1.1\r\nHost: " << HostField(endpoint_.url)
         << "\r\n"
         << task_->question.before.view() << task_->client_host << task_->question.after.view()
         << "\r\n";
    stream_->Write(text.view());
  }

  void OnPlaintext(net::Stream&, net::Bytes plaintext) override {
    if (!response_) return owner_.Remove(*this);  // nobody has asked
    input_.Append(net::AsText(plaintext));
    heard_ = true;
    Read();
  }

  void OnStreamEvent(net::Stream&, net::Stream::Event event) override {
    switch (event) {
      case net::Stream::Event::kTlsEstablished:
        return Send();
      case net::Stream::Event::kDrained:
        return;
      case net::Stream::Event::kEnd:
        if (response_ && !answered_ && response_->End() == HttpResponse::Status::kDone) {
          Answer();
          return owner_.Remove(*this);
        }
        return owner_.Failed(*this, "the service closed the connection", false);
      case net::Stream::Event::kFailed: {
        const std::string error = stream_->error();
        return owner_.Failed(*this, error, false);
      }
    }
  }

  void OnDeadline() override { owner_.Remove(*this); }

  // Read looks at what has come. A body is read to its end for the sake of the connection.
  void Read() {
    const HttpResponse::Status status = response_->Consume(input_);
    switch (status) {
      case HttpResponse::Status::kMore:
        return;
      case HttpResponse::Status::kMalformed:
        return owner_.Failed(*this, "no HTTP response: " + response_->error(), false);
      case HttpResponse::Status::kHeader:
        if (!answered_) owner_.worker_.deadlines().Arm(*this, kBodyMs);
        return Answer();
      case HttpResponse::Status::kDone:
        break;
    }
    if (!response_->keep_alive() || !input_.empty() || stream_->ended()) {
      Answer();
      return owner_.Remove(*this);
    }
    response_.reset();
    idle_ = true;
    owner_.worker_.deadlines().Arm(*this, kIdleMs);
    Answer();  // whoever waits may be asked for over this very connection
  }

  void Answer() {
    if (std::exchange(answered_, true) || task_ == nullptr) return;  // who asked has left
    HttpAnswer answer = std::move(answer_);
    owner_.Answered(*this, answer);
  }

  HttpAuthority& owner_;
  Endpoint& endpoint_;
  std::unique_ptr<net::Dial> dial_;
  std::unique_ptr<net::Stream> stream_;
  Task* task_ = nullptr;
  std::unique_ptr<HttpResponse> response_;
  HttpAnswer answer_;
  protocols::Buffer input_;
  bool idle_ = false;
  bool reused_ = false;
  bool heard_ = false;     // something of the response
  bool answered_ = false;  // with all header fields
};

HttpAuthority::HttpAuthority(Worker& worker, const AuthorityRuntime& authority, Answers& answers)
    : worker_(worker),
      authority_(authority),
      answers_(answers),
      options_{authority.settings.pass_client_certificate, authority.settings.headers},
      good_logins_(Milliseconds(authority.settings.positive_cache)) {
  for (const config::HttpUrl& url : authority.settings.urls) {
    Endpoint& endpoint = *endpoints_.emplace_back(std::make_unique<Endpoint>(url));
    if (url.https) {
      endpoint.peer = std::make_shared<tls::Peer>(authority.tls, url.address.host);
    }
  }
}

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
  if (waiting_.size() >= kWaiting) return Outage("too many questions wait for the authority");
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
  Queue(task);
  return std::nullopt;
}

void HttpAuthority::Cancel(SessionId id) {
  const auto found = tasks_.find(KeyOf(id));
  if (found == tasks_.end()) return;
  Task& task = *found->second;
  Connection* connection = task.connection;
  Release(task);
  tasks_.erase(found);
  if (connection != nullptr) Remove(*connection);
  StartNext();
}

void HttpAuthority::Queue(Task& task) {
  task.queued = true;
  task.turn = 0;
  task.retried = false;
  worker_.deadlines().Arm(task, Milliseconds(authority_.settings.timeout));
  waiting_.push_back(KeyOf(task.id));
  StartNext();
}

void HttpAuthority::StartNext() {
  while (asking_ < authority_.settings.max_concurrent && !waiting_.empty()) {
    const auto found = tasks_.find(waiting_.front());
    waiting_.pop_front();
    if (found != tasks_.end() && found->second->queued) Ask(*found->second);
  }
}

void HttpAuthority::Ask(Task& task) {
  task.queued = false;
  task.order.clear();
  for (const bool down : {false, true}) {
    for (uint32_t i = 0; i < endpoints_.size(); ++i) {
      if ((endpoints_[i]->down_until_ms > worker_.Now()) == down) task.order.push_back(i);
    }
  }
  ++asking_;
  Carry(task, false);
}

// Carry has the task asked at the endpoint whose turn it is, over a kept connection unless `fresh`.
void HttpAuthority::Carry(Task& task, bool fresh) {
  worker_.deadlines().Arm(task, Milliseconds(authority_.settings.timeout));
  Endpoint& endpoint = *endpoints_[task.order[task.turn]];
  const auto kept =
      std::find_if(connections_.rbegin(), connections_.rend(), [&](const auto& connection) {
        return !fresh && connection->idle() && &connection->endpoint() == &endpoint;
      });
  if (kept != connections_.rend()) return (*kept)->Carry(task);
  connections_.push_back(std::make_unique<Connection>(*this, endpoint));
  connections_.back()->Carry(task);
}

void HttpAuthority::OnDeadline(Task& task) {
  if (task.queued) {
    return Finish(task, Outage("the authority has too many questions to answer", true));
  }
  if (task.connection != nullptr) return Failed(*task.connection, "no answer in time", true);
  Queue(task);  // it was told to ask again
}

// Release lets go of the connection that carries the task.
void HttpAuthority::Release(Task& task) {
  if (task.connection == nullptr) return;
  std::exchange(task.connection, nullptr)->Drop();
  --asking_;
}

void HttpAuthority::Answered(Connection& connection, HttpAnswer& answer) {
  Task& task = *connection.task();
  Endpoint& endpoint = connection.endpoint();
  auto meaning = answer.Finish(task.protocol);
  if (!meaning) {
    std::exchange(task.connection, nullptr)->Drop();
    return NextEndpoint(task, endpoint, "the answer makes no sense: " + meaning.error(), false);
  }
  MarkUp(endpoint);
  if (!meaning->wait) {
    const Verdict& verdict = meaning->verdict;
    if (verdict.accepted && !verdict.backend_password) {
      good_logins_.Keep(task.key, {verdict.backend, verdict.backend_user}, worker_.Now());
    }
    return Finish(task, std::move(meaning->verdict));
  }
  authority_.Count(worker_.shard(), Outcome::kWait);
  Release(task);
  worker_.deadlines().Arm(task, std::max(Milliseconds(meaning->wait->time), kLeastWaitMs));
  StartNext();
}

void HttpAuthority::Failed(Connection& connection, const std::string& detail, bool timed_out) {
  Task* task = connection.task();
  Endpoint& endpoint = connection.endpoint();
  const bool stale = connection.stale();
  if (task != nullptr) std::exchange(task->connection, nullptr)->Drop();
  Remove(connection);
  if (task == nullptr) return;
  if (stale && !timed_out && !std::exchange(task->retried, true)) return Carry(*task, true);
  NextEndpoint(*task, endpoint, detail, timed_out);
}

void HttpAuthority::NextEndpoint(Task& task, Endpoint& failed, const std::string& detail,
                                 bool timed_out) {
  MarkDown(failed, detail);
  if (++task.turn < task.order.size()) return Carry(task, false);
  --asking_;
  Finish(task, Outage(config::Text(failed.url) + ": " + detail, timed_out));
}

void HttpAuthority::Finish(Task& task, Verdict verdict) {
  Release(task);
  const SessionId id = task.id;
  tasks_.erase(KeyOf(id));
  StartNext();
  answers_.OnVerdict(id, std::move(verdict));
}

void HttpAuthority::Remove(Connection& connection) {
  std::erase_if(connections_, [&](const auto& other) { return other.get() == &connection; });
}

void HttpAuthority::MarkDown(Endpoint& endpoint, const std::string& detail) {
  endpoint.down_until_ms = worker_.Now() + kDownMs;
  if (std::exchange(endpoint.failing, true)) return;
  worker_.log().Write(observe::Level::kWarning, "authority_failed",
                      {{"authority", authority_.settings.name},
                       {"url", config::Text(endpoint.url)},
                       {"detail", detail}});
}

void HttpAuthority::MarkUp(Endpoint& endpoint) {
  endpoint.down_until_ms = 0;
  if (!std::exchange(endpoint.failing, false)) return;
  worker_.log().Write(
      observe::Level::kInfo, "authority_recovered",
      {{"authority", authority_.settings.name}, {"url", config::Text(endpoint.url)}});
}

}  // namespace gatepost::auth
