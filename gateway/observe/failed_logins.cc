// SPDX-License-Identifier: Apache-2.0
#include "gateway/observe/failed_logins.h"

#include <algorithm>
#include <utility>

namespace gatepost::observe {

void FailedLogins::Add(FailedLogin login) {
  const std::lock_guard lock(mutex_);
  ring_[next_] = std::move(login);
  next_ = (next_ + 1) % kKept;
  count_ = std::min(count_ + 1, kKept);
}

std::vector<FailedLogin> FailedLogins::Latest() const {
  const std::lock_guard lock(mutex_);
  std::vector<FailedLogin> latest;
  latest.reserve(count_);
  for (size_t i = 1; i <= count_; ++i) latest.push_back(ring_[(next_ + kKept - i) % kKept]);
  return latest;
}

}  // namespace gatepost::observe
