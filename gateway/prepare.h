// From a configuration file to what serves by it: everything that could be wrong is found here, so
// that `gatepost check`, `gatepost serve` and a reload say the same.
//
// Any thread, one at a time. Opens no socket and no log.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <tl/expected.hpp>
#include <vector>

#include "config/schema.h"
#include "gateway/runtime.h"
#include "gateway/tls_files.h"
#include "tls/key_log.h"

namespace gatepost {

// A file that is read when a configuration is, and not looked at again before a reload.
struct InputFile {
  std::filesystem::path path;
  FileStamp stamp;
  bool operator==(const InputFile&) const = default;
};

// Prepared is a Runtime whose files have all been read, and what its listeners offer.
struct Prepared {
  std::string file;  // the configuration's name, for messages
  std::vector<InputFile> inputs;
  std::unique_ptr<Runtime> runtime;            // without log, limits and what else Past has
  std::shared_ptr<const tls::KeyLog> key_log;  // null: none
  std::unique_ptr<TlsFiles> tls_files;         // refers to the Runtime's configuration
};

// Past is what runs while a reload prepares the next: pools that stay the same keep their members,
// counters count on, tickets stay good.
struct Past {
  const Runtime& runtime;
  TlsFiles::Past tls;
};

// Prepare reads the configuration and every file that it names; on failure every problem as
// "FILE:LINE:COLUMN: what" where a place is known. The secrets of all TLS connections go to
// `key_log`, where it is not null. `past`: null at the start.
[[nodiscard]] tl::expected<Prepared, std::vector<std::string>> Prepare(
    const std::string& file, std::shared_ptr<const tls::KeyLog> key_log = nullptr,
    const Past* past = nullptr);

// InputFiles returns those of a configuration, as they are now: `file` itself, passwords of pools
// and of users, and CAs of authorities.
[[nodiscard]] std::vector<InputFile> InputFiles(const std::string& file,
                                                const config::Config& config);

// RenewRoutes takes what the files of the first `count` routes say now.
void RenewRoutes(const TlsFiles& files, size_t count, backends::Routes& routes);

// PasswordExposed tells whether every user of the machine can read the file with a pool's password,
// where there is one.
[[nodiscard]] bool PasswordExposed(const std::optional<std::filesystem::path>& file);

// WorkerCount returns how many threads serve clients.
[[nodiscard]] uint32_t WorkerCount(const config::Config& config);

}  // namespace gatepost
