// SPDX-License-Identifier: Apache-2.0
#include "gateway/auth/policy_text.h"

#include <fmt/format.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "protocols/buffer.h"
#include "protocols/line_framer.h"
#include "tls/digest.h"

namespace gatepost::auth {
namespace {

using nlohmann::json;
using protocols::LoginFailure;

constexpr size_t kMaxMessageBytes = 200;

// FailType has the words of Dovecot's fail_type.
std::string_view FailType(LoginFailure failure) {
  switch (failure) {
    case LoginFailure::kBadCredentials:
      return "credentials";
    case LoginFailure::kAuthorizationDenied:
      return "account";
    case LoginFailure::kAccountDisabled:
      return "disabled";
    case LoginFailure::kPasswordExpired:
      return "expired";
    case LoginFailure::kPolicy:
      return "policy";
    case LoginFailure::kUnavailable:
    case LoginFailure::kBackendMisconfigured:
    case LoginFailure::kTooManyConnections:
    case LoginFailure::kRateLimited:
    case LoginFailure::kCount:
      break;
  }
  return "internal";
}

json Fields(const PolicyCase& login) {
  return {{"device_id", login.device},     {"fail_type", ""},
          {"login", login.login},          {"protocol", login.protocol},
          {"pwhash", login.password_hash}, {"remote", login.remote},
          {"session_id", login.session},   {"tls", login.tls}};
}

// A user's name need not be UTF-8, which JSON is.
std::string Text(const json& fields) {
  return fields.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace

std::string PasswordHash(std::string_view nonce, std::string_view login, std::string_view password,
                         uint32_t bits) {
  auto digest = tls::Sha256({nonce, login, std::string_view("\0", 1), password});
  const size_t bytes = (bits + 7) / 8;
  const unsigned shift = static_cast<unsigned>(bytes * 8 - bits);  // below 8
  std::string text;
  unsigned before = 0;
  for (size_t i = 0; i < bytes; ++i) {
    text += fmt::format("{:02x}", (before << 8 | digest[i]) >> shift & 0xff);
    before = digest[i];
  }
  protocols::Wipe(digest.data(), digest.size());
  return text;
}

std::string AllowText(const PolicyCase& login) {
  return Text(Fields(login));
}

std::string ReportText(const PolicyCase& login, std::optional<LoginFailure> failure) {
  json fields = Fields(login);
  if (failure) fields["fail_type"] = FailType(*failure);
  fields["success"] = !failure.has_value();
  fields["policy_reject"] = failure == LoginFailure::kPolicy;
  return Text(fields);
}

tl::expected<PolicyAnswer, std::string> ParsePolicyAnswer(std::string_view text) {
  const json answer = json::parse(text, nullptr, false);
  if (!answer.is_object()) return tl::unexpected(std::string("it is no JSON object"));
  const auto status = answer.find("status");
  if (status == answer.end() || !status->is_number_integer()) {
    return tl::unexpected(std::string("it has no status"));
  }
  PolicyAnswer parsed;
  constexpr auto kMost = std::numeric_limits<int64_t>::max();
  const bool huge = status->is_number_unsigned() && status->get<uint64_t>() > uint64_t{kMost};
  parsed.status = huge ? kMost : status->get<int64_t>();
  if (const auto message = answer.find("msg"); message != answer.end() && message->is_string()) {
    parsed.message = protocols::Printable(message->get_ref<const std::string&>(), kMaxMessageBytes);
  }
  return parsed;
}

}  // namespace gatepost::auth
