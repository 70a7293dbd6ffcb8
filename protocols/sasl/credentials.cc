// SPDX-License-Identifier: Apache-2.0
#include "protocols/sasl/credentials.h"

#include <cstring>
#include <utility>

#include "protocols/buffer.h"

namespace gatepost::sasl {

Secret::Secret(std::string_view bytes) : size_(bytes.size()) {
  if (bytes.empty()) return;
  data_.reset(new char[bytes.size()]);
  memcpy(data_.get(), bytes.data(), bytes.size());
}

Secret::~Secret() {
  protocols::Wipe(data_.get(), size_);
}

Secret::Secret(Secret&& other) noexcept
    : data_(std::move(other.data_)), size_(std::exchange(other.size_, 0)) {}

Secret& Secret::operator=(Secret&& other) noexcept {
  if (this != &other) {
    protocols::Wipe(data_.get(), size_);
    data_ = std::move(other.data_);
    size_ = std::exchange(other.size_, 0);
  }
  return *this;
}

bool IsTooLong(const Credentials& credentials) {
  const size_t most = IsToken(credentials.mechanism) ? kMaxTokenBytes : kMaxPasswordBytes;
  return credentials.authorization_identity.size() + credentials.authentication_identity.size() >
             kMaxIdentityBytes ||
         credentials.password.Reveal().size() > most;
}

bool IsLongToken(const Credentials& credentials) {
  return IsToken(credentials.mechanism) && credentials.password.Reveal().size() > kMaxPasswordBytes;
}

std::string_view Name(Mechanism mechanism) {
  static constexpr std::array<std::string_view, static_cast<size_t>(Mechanism::kCount)> kNames = {
      "PLAIN",       "LOGIN",         "EXTERNAL", "XOAUTH2",   "OAUTHBEARER",
      "SCRAM-SHA-1", "SCRAM-SHA-256", "CRAM-MD5", "cleartext", "APOP"};
  return kNames[static_cast<size_t>(mechanism)];
}

}  // namespace gatepost::sasl
