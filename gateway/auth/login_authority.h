// A login at a mail store as the authority, for other servers that know no passwords (saslauthd's
// rimap).
//
// The client's credentials are tried at a member of a pool, by IMAP or POP3, and the connection is
// ended again. Bounded in number, and in time by the pool's settings. One worker's.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>

#include "gateway/auth/authenticator.h"
#include "gateway/auth/authority_runtime.h"
#include "gateway/auth/turns.h"

namespace gatepost {
class Worker;
}

namespace gatepost::auth {

class LoginAuthority final : public Authenticator {
 public:
  LoginAuthority(Worker& worker, const AuthorityRuntime& authority, Answers& answers);
  ~LoginAuthority() override;

  // A client with a certificate is let in without a question: a store has no answer without a
  // password.
  [[nodiscard]] std::optional<Verdict> Check(const Request& request) override;
  void Cancel(SessionId id) override;

 private:
  class Attempt;

  void StartNext();
  void Finish(SessionId id, Verdict verdict);

  Worker& worker_;
  const AuthorityRuntime& authority_;
  Answers& answers_;
  std::unordered_map<uint64_t, std::unique_ptr<Attempt>> attempts_;
  Turns<uint64_t> turns_;
};

}  // namespace gatepost::auth
