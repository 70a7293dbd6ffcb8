// SPDX-License-Identifier: Apache-2.0
#include "gateway/privileges.h"

#include <cap-ng.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>

namespace gatepost {

uint64_t RaiseDescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;
  if (limit.rlim_cur < limit.rlim_max) {
    const rlimit raised{limit.rlim_max, limit.rlim_max};
    if (setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
  }
  return limit.rlim_cur;
}

void ForbidCoreDumps() {
  const rlimit none{0, 0};
  setrlimit(RLIMIT_CORE, &none);
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

tl::expected<void, std::string> BecomeUser(const std::string& user) {
  if (geteuid() != 0) return {};  // nothing to give up
  std::array<char, 4096> buffer{};
  passwd entry{};
  passwd* found = nullptr;
  getpwnam_r(user.c_str(), &entry, buffer.data(), buffer.size(), &found);
  if (found == nullptr) return tl::unexpected("process.user: there is no user \"" + user + "\"");
  capng_clear(CAPNG_SELECT_BOTH);
  const int status =
      capng_change_id(static_cast<int>(found->pw_uid), static_cast<int>(found->pw_gid),
                      static_cast<capng_flags_t>(CAPNG_DROP_SUPP_GRP | CAPNG_CLEAR_BOUNDING));
  if (status != 0) {
    return tl::unexpected("process.user: can't become \"" + user +
                          "\" (capng_change_id: " + std::to_string(status) + ")");
  }
  return {};
}

}  // namespace gatepost
