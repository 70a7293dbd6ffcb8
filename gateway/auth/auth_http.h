// nginx's auth_http protocol as text: the header fields of a question, and what those of an answer
// mean.
//
// nginx.org/en/docs/mail/ngx_mail_auth_http_module.html. No I/O. Pure functions and one collector.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

#include "gateway/auth/authenticator.h"
#include "protocols/buffer.h"

namespace gatepost::auth {

// Question is the part of a request that is the same at every endpoint: whole header lines. Between
// `before` and `after` stands Client-Host, where that is asked for.
struct Question {
  protocols::Buffer who;  // holds the password
  protocols::Buffer before;
  protocols::Buffer after;
};

struct QuestionOptions {
  bool client_certificate = false;        // the whole of it, as PEM
  std::vector<std::string> headers = {};  // "Name: value", literally
};

// MakeQuestion writes `request` as nginx does, but for `who`.
[[nodiscard]] Question MakeQuestion(const Request& request, const QuestionOptions& options);

// NobodyLogsIn writes that instead of who wants to: nginx's method "none".
[[nodiscard]] protocols::Buffer NobodyLogsIn();

// Whose writes who wants to log in: `challenge` is what the password of CRAM-MD5 and APOP is a
// digest of. Of user and password every byte is encoded that is not a letter, a digit or one of
// "_.~-".
[[nodiscard]] protocols::Buffer Whose(const sasl::Credentials& credentials,
                                      std::string_view challenge);

// HttpAnswer collects the fields of a response.
class HttpAnswer {
 public:
  // Take notes a header field, in any case; unknown ones are ignored.
  void Take(std::string_view name, std::string_view value);

  // Finish says what the answer means, once. An error is one line: the answer makes no sense.
  struct Wait {
    std::chrono::seconds time;  // then ask the same again
  };
  struct Meaning {
    std::optional<Wait> wait;  // else the verdict
    Verdict verdict;
  };
  struct Matter {
    protocols::Protocol protocol;
    bool needs_password = false;  // the client has shown none: nobody is logged in without one
    bool recipient = false;       // the question was about one, not about a login
  };
  [[nodiscard]] tl::expected<Meaning, std::string> Finish(const Matter& matter);

 private:
  void Set(std::optional<std::string>& field, std::string_view name, std::string_view value);
  void Refuse(const Matter& matter, Verdict& verdict) const;

  std::optional<std::string> status_, server_, port_, user_, wait_, code_;
  std::optional<sasl::Secret> password_;
  std::string problem_;
};

}  // namespace gatepost::auth
