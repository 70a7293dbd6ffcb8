// SPDX-License-Identifier: Apache-2.0
#include "tls/key_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

namespace gatepost::tls {

tl::expected<std::shared_ptr<const KeyLog>, Error> KeyLog::Open(const std::filesystem::path& file) {
  const auto fail = [&](std::string_view problem) {
    return tl::unexpected(Error{file.string() + ": " + std::string(problem)});
  };
  // O_NOFOLLOW: root may be asked to write where others can place links.
  const int descriptor =
      open(file.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
  if (descriptor < 0) return fail(std::strerror(errno));
  std::shared_ptr<const KeyLog> self(new KeyLog(file, descriptor));
  struct stat status {};
  if (fstat(descriptor, &status) != 0) return fail(std::strerror(errno));
  if (!S_ISREG(status.st_mode)) return fail("not a regular file");
  if ((status.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
    return fail("others than its owner may read or write it; remove it, or chmod 600");
  }
  return self;
}

KeyLog::~KeyLog() {
  close(descriptor_);
}

void KeyLog::Write(std::string_view line) const {
  char end = '\n';
  const iovec parts[] = {{const_cast<char*>(line.data()), line.size()}, {&end, 1}};
  // A full disk loses a line that only debugging misses.
  [[maybe_unused]] const ssize_t written = writev(descriptor_, parts, 2);
}

}  // namespace gatepost::tls
