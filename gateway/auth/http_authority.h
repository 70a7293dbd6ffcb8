// A service that speaks nginx's auth_http protocol as the authority.
//
// A question goes to the first of its URLs that works, over a connection that is kept for the next.
// Questions are bounded in time and in number; an outage, or an answer that makes no sense, is a
// temporary failure, once no other URL is left. One worker's.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "gateway/auth/auth_http.h"
#include "gateway/auth/authenticator.h"
#include "gateway/auth/authority_runtime.h"
#include "gateway/auth/login_cache.h"

namespace gatepost {
class Worker;
}

namespace gatepost::auth {

class HttpAuthority final : public Authenticator {
 public:
  static constexpr size_t kWaiting = 512;  // for one of max_concurrent; more are told to come later

  HttpAuthority(Worker& worker, const AuthorityRuntime& authority, Answers& answers);
  ~HttpAuthority() override;

  [[nodiscard]] std::optional<Verdict> Check(const Request& request) override;
  void Cancel(SessionId id) override;

 private:
  struct Endpoint;
  struct Task;
  class Connection;

  static uint64_t KeyOf(SessionId id) { return uint64_t{id.generation} << 32 | id.index; }

  void Queue(Task& task);
  void StartNext();
  void Ask(Task& task);
  void Carry(Task& task, bool fresh);
  void OnDeadline(Task& task);
  // Answered: the header fields have come. Failed: they won't. The connection is the caller's.
  void Answered(Connection& connection, HttpAnswer& answer);
  void Failed(Connection& connection, const std::string& detail, bool timed_out);
  void NextEndpoint(Task& task, Endpoint& failed, const std::string& detail, bool timed_out);
  void Finish(Task& task, Verdict verdict);
  void Release(Task& task);
  void Remove(Connection& connection);
  void MarkDown(Endpoint& endpoint, const std::string& detail);
  void MarkUp(Endpoint& endpoint);

  Worker& worker_;
  const AuthorityRuntime& authority_;
  Answers& answers_;
  const QuestionOptions options_;
  LoginCache good_logins_;
  std::vector<std::unique_ptr<Endpoint>> endpoints_;
  std::unordered_map<uint64_t, std::unique_ptr<Task>> tasks_;
  std::deque<uint64_t> waiting_;  // keys; those of tasks that are gone stay until their turn
  std::vector<std::unique_ptr<Connection>> connections_;
  uint32_t asking_ = 0;  // tasks that a connection carries
  std::shared_ptr<uint32_t> lookups_ = std::make_shared<uint32_t>(0);  // of names, under way
};

}  // namespace gatepost::auth
