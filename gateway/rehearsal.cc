// SPDX-License-Identifier: Apache-2.0
#include "gateway/rehearsal.h"

#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <optional>
#include <set>
#include <system_error>
#include <utility>

#include "config/diagnostics.h"
#include "gateway/privileges.h"
#include "tls/certificate_directory.h"

namespace gatepost {
namespace {

namespace fs = std::filesystem;

struct Access {
  fs::path file;
  int mode;         // of access(2)
  std::string key;  // of the configuration, where the start needs it; empty: reloads do
};

// What is read again, but for OCSP responses.
std::set<fs::path> FilesOf(const Prepared& prepared) {
  std::set<fs::path> files = prepared.tls_files->NamedFiles();
  for (const InputFile& input : prepared.inputs) files.insert(input.path);
  for (const config::Certificate& certificate : prepared.runtime->config.certificates) {
    if (!certificate.directory) continue;
    const auto pairs = tls::FindCertificateFiles(*certificate.directory);
    if (!pairs) continue;
    for (const tls::CertificateFiles& pair : *pairs) files.insert({pair.chain, pair.key});
  }
  return files;
}

std::vector<Access> WantedBy(const Prepared& prepared) {
  const config::Config& settings = prepared.runtime->config;
  std::vector<Access> wanted;
  const auto folder_of = [](const fs::path& file) {
    return file.has_parent_path() ? file.parent_path() : fs::path(".");
  };
  std::error_code error;
  if (const auto& log = settings.log.file) {
    const bool is_new = !fs::exists(*log, error);
    wanted.push_back({is_new ? folder_of(*log) : *log, is_new ? W_OK | X_OK : W_OK, "log.file"});
  }
  // A folder that is not there yet is made for the user by whoever starts the service.
  if (const auto& socket = settings.admin.socket; socket && fs::exists(folder_of(*socket), error)) {
    wanted.push_back({folder_of(*socket), W_OK | X_OK, "admin.socket"});
  }
  for (const config::Certificate& certificate : settings.certificates) {
    if (certificate.directory) wanted.push_back({*certificate.directory, R_OK | X_OK, {}});
  }
  for (const fs::path& file : FilesOf(prepared)) wanted.push_back({file, R_OK, {}});
  return wanted;
}

// TryAs returns for each of `wanted` what keeps `user` out: the file itself, or a folder on the way
// to it; or an empty path.
std::optional<std::vector<fs::path>> TryAs(const std::string& user,
                                           const std::vector<Access>& wanted) {
  std::vector<std::pair<fs::path, int>> steps;
  std::vector<size_t> ends;  // in steps, of each of `wanted`
  for (const Access& access : wanted) {
    std::error_code error;
    const fs::path real = fs::canonical(access.file, error);
    fs::path folder;
    for (const fs::path& part : real.parent_path()) steps.emplace_back(folder /= part, X_OK);
    steps.emplace_back(error ? access.file : real, access.mode);
    ends.push_back(steps.size());
  }
  std::array<int, 2> ways{};
  if (pipe(ways.data()) != 0) return std::nullopt;
  const pid_t child = fork();
  if (child == 0) {
    bool good = BecomeUser(user).has_value();
    for (size_t i = 0; good && i < steps.size(); ++i) {
      const char may = access(steps[i].first.c_str(), steps[i].second) == 0 ? 1 : 0;
      good = write(ways[1], &may, 1) == 1;
    }
    _exit(0);
  }
  close(ways[1]);
  std::string answers(steps.size(), '\0');
  size_t known = 0;
  while (child > 0 && known < answers.size()) {
    const ssize_t size = read(ways[0], answers.data() + known, answers.size() - known);
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) break;
    known += static_cast<size_t>(size);
  }
  close(ways[0]);
  if (child > 0) waitpid(child, nullptr, 0);
  if (known < answers.size()) return std::nullopt;
  std::vector<fs::path> obstacles;
  size_t begin = 0;
  for (const size_t end : ends) {
    const size_t wrong = answers.find('\0', begin);
    obstacles.push_back(wrong < end ? steps[wrong].first : fs::path());
    begin = end;
  }
  return obstacles;
}

// The name of the user's own group: the process is in no other.
std::string GroupOf(const std::string& user) {
  const passwd* const entry = getpwnam(user.c_str());
  const group* const own = entry != nullptr ? getgrgid(entry->pw_gid) : nullptr;
  return own != nullptr ? own->gr_name : user;
}

}  // namespace

Rehearsal Rehearse(const Prepared& prepared) {
  Rehearsal rehearsal;
  const auto& user = prepared.runtime->config.process.user;
  if (!user || geteuid() != 0) return rehearsal;
  const std::vector<Access> wanted = WantedBy(prepared);
  const auto obstacles = TryAs(*user, wanted);
  if (!obstacles) return rehearsal;
  const std::string group = GroupOf(*user);
  for (size_t i = 0; i < wanted.size(); ++i) {
    const fs::path& obstacle = (*obstacles)[i];
    if (obstacle.empty()) continue;
    std::error_code error;
    const bool start = !wanted[i].key.empty();
    const bool last = obstacle == fs::canonical(wanted[i].file, error);
    const std::string_view needed = !last                                ? "x"
                                    : !fs::is_directory(obstacle, error) ? (start ? "w" : "r")
                                    : start                              ? "wx"
                                                                         : "rx";
    const std::string remedy = fmt::format("for example: chgrp {0} {2} && chmod g+{1} {2}", group,
                                           needed, obstacle.string());
    if (start) {
      rehearsal.errors.push_back(fmt::format(
          "{}: {}: {} cannot be written by {} (process.user), so that the start would "
          "fail; {}",
          prepared.file, wanted[i].key, wanted[i].file.string(), config::Quote(*user), remedy));
    } else {
      rehearsal.warnings.push_back(fmt::format(
          "{} cannot be read by {} (process.user): it is good for a start as root, and for no "
          "reload; {}",
          wanted[i].file.string(), config::Quote(*user), remedy));
    }
  }
  return rehearsal;
}

}  // namespace gatepost
