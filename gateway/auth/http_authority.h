// A service that speaks nginx's auth_http protocol as the authority.
//
// Whom it asks, and how often, is the HttpClient's. With CRAM-MD5 the client is asked first, from
// here. An outage, or an answer that makes no sense, is
// a temporary failure, once no other URL is left. One worker's.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>

#include "gateway/auth/auth_http.h"
#include "gateway/auth/authenticator.h"
#include "gateway/auth/authority_runtime.h"
#include "gateway/auth/http_client.h"
#include "gateway/auth/login_cache.h"

namespace gatepost {
class Worker;
}

namespace gatepost::auth {

class HttpAuthority final : public Authenticator, private HttpClient::Observer {
 public:
  HttpAuthority(Worker& worker, const AuthorityRuntime& authority, Answers& answers);
  ~HttpAuthority() override;

  [[nodiscard]] sasl::MechanismSet Mechanisms(const BackendMechanisms& backend) const override;
  [[nodiscard]] std::optional<Verdict> Check(const Request& request) override;
  void Continue(SessionId id, std::string_view answer) override;
  void Cancel(SessionId id) override;

 private:
  struct Task;

  void OnFailing(const config::HttpUrl& url, const std::string& detail) override;
  void OnWorking(const config::HttpUrl& url) override;

  // NeedsPassword says whether the client can only be logged in with a password that the service
  // tells.
  [[nodiscard]] bool NeedsPassword(const Request& request) const;
  void Begin(Task& task);
  void OnDeadline(Task& task);
  void Answered(Task& task);
  void Finish(Task& task, Verdict verdict);

  Worker& worker_;
  const AuthorityRuntime& authority_;
  Answers& answers_;
  const QuestionOptions options_;
  LoginCache good_logins_;
  std::shared_ptr<uint32_t> lookups_ = std::make_shared<uint32_t>(0);  // of names, under way
  std::unordered_map<uint64_t, std::unique_ptr<Task>> tasks_;
  HttpClient client_;  // the first to go
};

}  // namespace gatepost::auth
