// What people see of the documents: tables for a terminal.
//
// Pure functions. A key that a document lacks counts as empty or 0; control characters, which a
// user's name or a backend's words may hold, are shown as "?".
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace gatepost::control {

[[nodiscard]] std::string ShowStatus(const nlohmann::json& result);
[[nodiscard]] std::string ShowSessions(const nlohmann::json& result);
[[nodiscard]] std::string ShowBackends(const nlohmann::json& result);
[[nodiscard]] std::string ShowCertificates(const nlohmann::json& result);
[[nodiscard]] std::string ShowKick(const nlohmann::json& result);
[[nodiscard]] std::string ShowDrain(const nlohmann::json& result);
[[nodiscard]] std::string ShowReload(const nlohmann::json& result);
[[nodiscard]] std::string ShowUpgrade(const nlohmann::json& result);

}  // namespace gatepost::control
