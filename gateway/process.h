// The process: from a loaded configuration to running workers, and back down again.
//
// Main thread. Prepare finds everything that could be wrong (so `gatepost check` and `gatepost
// serve` say the same); Serve binds, drops privileges, runs the workers and obeys signals.
// SPDX-License-Identifier: Apache-2.0
#pragma once

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

// Prepared is a Runtime whose files have all been read, and what its listeners offer.
struct Prepared {
  std::string file;  // the configuration's name, for messages
  std::unique_ptr<Runtime> runtime;
  std::shared_ptr<const tls::KeyLog> key_log;  // null: none
  std::unique_ptr<TlsFiles> tls_files;         // refers to the Runtime's configuration
};

// Prepare reads certificates, CA files, the password file and the users of certificates; on failure
// every problem as "FILE:LINE:COLUMN: what" where a place is known. Opens no socket and no log. The
// secrets of all TLS connections go to `key_log`, where it is not null.
[[nodiscard]] tl::expected<Prepared, std::vector<std::string>> Prepare(
    config::Config config, const std::string& file,
    std::shared_ptr<const tls::KeyLog> key_log = nullptr);

// PasswordExposed tells whether every user of the machine can read the file with a pool's password,
// where there is one.
[[nodiscard]] bool PasswordExposed(const std::optional<std::filesystem::path>& file);

// Serve runs until a signal has drained the last session, and returns the exit code.
[[nodiscard]] int Serve(Prepared prepared);

}  // namespace gatepost
