// SPDX-License-Identifier: Apache-2.0
#include "gateway/auth/http_client.h"

#include <algorithm>
#include <utility>

#include "config/values.h"
#include "gateway/auth/http_response.h"
#include "gateway/net/dialer.h"
#include "gateway/net/stream.h"
#include "gateway/worker.h"

namespace gatepost::auth {
namespace {

constexpr uint64_t kDownMs = 5'000;   // for which a URL that failed is asked last
constexpr uint64_t kIdleMs = 30'000;  // for which a connection is kept
constexpr uint64_t kBodyMs = 2'000;   // for the rest of a response of which all is known

uint64_t Milliseconds(std::chrono::milliseconds duration) {
  return static_cast<uint64_t>(duration.count());
}

std::string HostField(const config::HttpUrl& url) {
  const std::string text = config::Text(url);
  const std::string host = text.substr(url.https ? 8 : 7);
  const uint16_t standard = url.https ? 443 : 80;
  return url.address.port == standard ? host.substr(0, host.rfind(':')) : host;
}

}  // namespace

struct HttpClient::Endpoint {
  explicit Endpoint(const config::HttpUrl& configured) : url(configured) {}

  const config::HttpUrl& url;
  std::shared_ptr<tls::Peer> peer;  // https
  bool failing = false;             // as far as the observer knows
  uint64_t down_until_ms = 0;       // loop time
};

// Connection is one to an endpoint: being made, carrying a question, reading a body to its end, or
// idle.
class HttpClient::Connection final : private net::Deadlines::Entry,
                                     public net::Dial::Observer,
                                     public net::Stream::Observer {
 public:
  Connection(HttpClient& owner, Endpoint& endpoint)
      : owner_(owner),
        endpoint_(endpoint),
        dial_(std::make_unique<net::Dial>(owner.worker_.loop(), owner.worker_.resolver(),
                                          owner.worker_.deadlines(), endpoint.url.address.host,
                                          endpoint.url.address.port, owner.service_.connect_timeout,
                                          *this)) {}
  ~Connection() {
    if (stream_) owner_.worker_.Bury(std::move(stream_));
  }

  [[nodiscard]] Endpoint& endpoint() { return endpoint_; }
  [[nodiscard]] Question* question() { return question_; }
  [[nodiscard]] bool idle() const { return idle_; }
  // Whether an earlier question has gone over it, and not a byte came as an answer to this one: the
  // service may have given it up just then.
  [[nodiscard]] bool stale() const { return reused_ && !heard_; }

  // Carry asks `question`, at once or when the connection is there.
  void Carry(Question& question) {
    question_ = &question;
    question.connection_ = this;
    reused_ = std::exchange(idle_, false);
    net::Deadlines::Disarm(*this);
    if (reused_) Send();
  }

  // Drop lets go of the question.
  void Drop() { question_ = nullptr; }

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
    response_ = std::make_unique<HttpResponse>(
        [this](std::string_view name, std::string_view value) {
          if (question_ != nullptr) question_->OnField(name, value);
        },
        question_->most_body_bytes_);
    protocols::Buffer text;
    text << question_->method_ << " " << endpoint_.url.path
         << " HTTP/1.1\r\nHost: " << HostField(endpoint_.url) << "\r\n";
    question_->Write(text);
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
        if (response_ && !answered_ && response_->End() == HttpResponse::Status::kDone &&
            Usable()) {
          Answer(*response_);
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
        if (WantsBody()) return;
        if (!answered_) owner_.worker_.deadlines().Arm(*this, kBodyMs);
        return Answer(*response_);
      case HttpResponse::Status::kDone:
        break;
    }
    if (!Usable()) return owner_.Failed(*this, "no HTTP response: " + response_->error(), false);
    if (!response_->keep_alive() || !input_.empty() || stream_->ended()) {
      Answer(*response_);
      return owner_.Remove(*this);
    }
    const std::unique_ptr<HttpResponse> response = std::move(response_);
    idle_ = true;
    owner_.worker_.deadlines().Arm(*this, kIdleMs);
    Answer(*response);  // whoever waits may be asked for over this very connection
  }

  void Answer(const HttpResponse& response) {
    if (std::exchange(answered_, true) || question_ == nullptr) return;  // who asked has left
    owner_.Answered(*this, response);
  }

  [[nodiscard]] bool WantsBody() const {
    return !answered_ && question_ != nullptr && question_->most_body_bytes_ > 0;
  }
  // Usable: what is broken behind good header fields matters to nobody else.
  [[nodiscard]] bool Usable() const { return !WantsBody() || response_->whole(); }

  HttpClient& owner_;
  Endpoint& endpoint_;
  std::unique_ptr<net::Dial> dial_;
  std::unique_ptr<net::Stream> stream_;
  Question* question_ = nullptr;
  std::unique_ptr<HttpResponse> response_;
  protocols::Buffer input_;
  bool idle_ = false;
  bool reused_ = false;
  bool heard_ = false;     // something of the response
  bool answered_ = false;  // with all that was wanted
};

HttpClient::HttpClient(Worker& worker, Service service, Observer& observer)
    : worker_(worker),
      service_(std::move(service)),
      observer_(observer),
      turns_(service_.max_concurrent) {
  for (const config::HttpUrl& url : service_.urls) {
    Endpoint& endpoint = *endpoints_.emplace_back(std::make_unique<Endpoint>(url));
    if (url.https) endpoint.peer = std::make_shared<tls::Peer>(service_.tls, url.address.host);
  }
}

HttpClient::~HttpClient() = default;

bool HttpClient::down() const {
  return std::all_of(endpoints_.begin(), endpoints_.end(),
                     [&](const auto& endpoint) { return endpoint->down_until_ms > worker_.Now(); });
}

void HttpClient::Ask(Question& question) {
  question.queued_ = true;
  question.turn_ = 0;
  question.retried_ = false;
  worker_.deadlines().Arm(question.deadline_, Milliseconds(service_.timeout));
  turns_.Wait(&question);
  StartNext();
}

void HttpClient::Forget(Question& question) {
  net::Deadlines::Disarm(question.deadline_);
  if (question.queued_) turns_.Leave(&question);
  question.queued_ = false;
  Connection* connection = question.connection_;
  Release(question);
  if (connection != nullptr) Remove(*connection);
  StartNext();
}

void HttpClient::StartNext() {
  turns_.Start([this](Question* question) {
    Begin(*question);
    return true;
  });
}

void HttpClient::Begin(Question& question) {
  question.queued_ = false;
  question.order_.clear();
  for (const bool down : {false, true}) {
    for (uint32_t i = 0; i < endpoints_.size(); ++i) {
      if ((endpoints_[i]->down_until_ms > worker_.Now()) == down) question.order_.push_back(i);
    }
  }
  Carry(question, false);
}

// Carry has the question asked at the endpoint whose turn it is, over a kept connection unless
// `fresh`.
void HttpClient::Carry(Question& question, bool fresh) {
  worker_.deadlines().Arm(question.deadline_, Milliseconds(service_.timeout));
  Endpoint& endpoint = *endpoints_[question.order_[question.turn_]];
  const auto kept =
      std::find_if(connections_.rbegin(), connections_.rend(), [&](const auto& connection) {
        return !fresh && connection->idle() && &connection->endpoint() == &endpoint;
      });
  if (kept != connections_.rend()) return (*kept)->Carry(question);
  connections_.push_back(std::make_unique<Connection>(*this, endpoint));
  connections_.back()->Carry(question);
}

void HttpClient::OnDeadline(Question& question) {
  if (question.connection_ != nullptr) {
    return Failed(*question.connection_, "no answer in time", true);
  }
  turns_.Leave(&question);
  question.queued_ = false;
  question.OnOutage("there are too many questions to answer", true);
}

// Release lets go of the connection that carries the question.
void HttpClient::Release(Question& question) {
  if (question.connection_ == nullptr) return;
  std::exchange(question.connection_, nullptr)->Drop();
  turns_.Release();
}

void HttpClient::Answered(Connection& connection, const HttpResponse& response) {
  Question& question = *connection.question();
  Endpoint& endpoint = connection.endpoint();
  if (const auto problem = question.Understand(response)) {
    std::exchange(question.connection_, nullptr)->Drop();
    return NextEndpoint(question, endpoint, "the answer makes no sense: " + *problem, false);
  }
  net::Deadlines::Disarm(question.deadline_);
  Release(question);
  MarkUp(endpoint);
  question.OnAnswer();
  StartNext();
}

void HttpClient::Failed(Connection& connection, const std::string& detail, bool timed_out) {
  Question* question = connection.question();
  Endpoint& endpoint = connection.endpoint();
  const bool stale = connection.stale();
  if (question != nullptr) std::exchange(question->connection_, nullptr)->Drop();
  Remove(connection);
  if (question == nullptr) return;
  if (stale && !timed_out && !std::exchange(question->retried_, true)) {
    return Carry(*question, true);
  }
  NextEndpoint(*question, endpoint, detail, timed_out);
}

void HttpClient::NextEndpoint(Question& question, Endpoint& failed, const std::string& detail,
                              bool timed_out) {
  MarkDown(failed, detail);
  if (++question.turn_ < question.order_.size()) return Carry(question, false);
  turns_.Release();
  net::Deadlines::Disarm(question.deadline_);
  question.OnOutage(config::Text(failed.url) + ": " + detail, timed_out);
  StartNext();
}

void HttpClient::Remove(Connection& connection) {
  std::erase_if(connections_, [&](const auto& other) { return other.get() == &connection; });
}

void HttpClient::MarkDown(Endpoint& endpoint, const std::string& detail) {
  endpoint.down_until_ms = worker_.Now() + kDownMs;
  if (!std::exchange(endpoint.failing, true)) observer_.OnFailing(endpoint.url, detail);
}

void HttpClient::MarkUp(Endpoint& endpoint) {
  endpoint.down_until_ms = 0;
  if (std::exchange(endpoint.failing, false)) observer_.OnWorking(endpoint.url);
}

}  // namespace gatepost::auth
