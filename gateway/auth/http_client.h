// Questions to an HTTP service, each put to the first of its URLs that works.
//
// Connections are kept for the next question; questions are bounded in time and in number, and
// more than so many wait for their turn. What is asked, and what an answer means, is the Question's
// alone. One worker's.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/schema.h"
#include "gateway/auth/turns.h"
#include "gateway/net/deadlines.h"
#include "protocols/buffer.h"
#include "tls/client_context.h"

namespace gatepost {
class Worker;
}

namespace gatepost::auth {

class HttpResponse;

class HttpClient {
 private:
  struct Endpoint;
  class Connection;

 public:
  struct Service {
    const std::vector<config::HttpUrl>& urls;       // must outlive the client
    std::shared_ptr<const tls::ClientContext> tls;  // where one of them is https
    std::chrono::milliseconds connect_timeout;
    std::chrono::milliseconds
        timeout;  // of one URL, with the connecting, and of the waiting before
    uint32_t max_concurrent;
  };

  // Observer hears when a URL begins to fail, and when it works again.
  class Observer {
   public:
    virtual void OnFailing(const config::HttpUrl& url, const std::string& detail) = 0;
    virtual void OnWorking(const config::HttpUrl& url) = 0;

   protected:
    ~Observer() = default;
  };

  // Question is whatever is asked. Between Ask and OnAnswer or OnOutage the client borrows it, and
  // must be told to Forget it before it is destroyed.
  class Question {
   public:
    // `method` is a constant. `most_body_bytes`: the answer is in a body of so many bytes; 0: in
    // the header fields alone.
    Question(HttpClient& client, std::string_view method, size_t most_body_bytes)
        : client_(client), method_(method), most_body_bytes_(most_body_bytes), deadline_(*this) {}
    virtual ~Question() = default;
    Question(const Question&) = delete;
    Question& operator=(const Question&) = delete;

   private:
    friend class HttpClient;

    struct Deadline final : net::Deadlines::Entry {
      explicit Deadline(Question& asked) : question(asked) {}
      void OnDeadline() override { question.client_.OnDeadline(question); }

      Question& question;
    };

    // Write appends the header fields but Host, the empty line, and the body. Called for every URL
    // that is tried: what an earlier one has said is to be forgotten.
    virtual void Write(protocols::Buffer& request) = 0;
    // OnField is called for each header field of the response; both are valid during the call.
    virtual void OnField(std::string_view name, std::string_view value) = 0;
    // Understand says what is wrong with the response, so that the next URL is asked. All header
    // fields have come, and the body, where the answer is in it.
    [[nodiscard]] virtual std::optional<std::string> Understand(const HttpResponse& response) = 0;
    // OnAnswer ends the question with what was understood; it may destroy itself.
    virtual void OnAnswer() = 0;
    // OnOutage ends it without an answer. The same.
    virtual void OnOutage(std::string detail, bool timed_out) = 0;

    HttpClient& client_;
    const std::string_view method_;
    const size_t most_body_bytes_;
    Deadline deadline_;
    std::vector<uint32_t> order_;       // of the endpoints
    size_t turn_ = 0;                   // in it
    Connection* connection_ = nullptr;  // that carries it
    bool queued_ = false;
    bool retried_ = false;  // a kept connection had been given up just then
  };

  HttpClient(Worker& worker, Service service, Observer& observer);
  ~HttpClient();

  // Whether so many questions wait that no more should be asked.
  [[nodiscard]] bool full() const { return turns_.full(); }
  // Whether each URL has failed just now, so that asking will hardly help.
  [[nodiscard]] bool down() const;
  // Ask puts the question, now or when it is its turn.
  void Ask(Question& question);
  // Forget lets go of the question: nobody wants the answer any more.
  void Forget(Question& question);

 private:
  void StartNext();
  void Begin(Question& question);
  void Carry(Question& question, bool fresh);
  void OnDeadline(Question& question);
  // Answered: all that the question wants has come. Failed: it won't. The connection is the
  // caller's.
  void Answered(Connection& connection, const HttpResponse& response);
  void Failed(Connection& connection, const std::string& detail, bool timed_out);
  void NextEndpoint(Question& question, Endpoint& failed, const std::string& detail,
                    bool timed_out);
  void Release(Question& question);
  void Remove(Connection& connection);
  void MarkDown(Endpoint& endpoint, const std::string& detail);
  void MarkUp(Endpoint& endpoint);

  Worker& worker_;
  const Service service_;
  Observer& observer_;
  std::vector<std::unique_ptr<Endpoint>> endpoints_;
  std::vector<std::unique_ptr<Connection>> connections_;
  Turns<Question*> turns_;  // one that a connection carries has one
};

}  // namespace gatepost::auth
