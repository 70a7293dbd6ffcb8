// The JSON documents of the control socket and of /api/status; control.md is their reference.
//
// Text that is not UTF-8 (user names, backends' words) comes out with U+FFFD in its place. Pure
// functions. SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "gateway/control/gateway.h"

namespace gatepost::control {

[[nodiscard]] nlohmann::json ToJson(const Status& status);
[[nodiscard]] nlohmann::json ToJson(const SessionList& list);
// The parts of the status that have commands of their own.
[[nodiscard]] nlohmann::json BackendsJson(const Status& status);
[[nodiscard]] nlohmann::json CertificatesJson(const Status& status);

// Serialize writes a document as one line; never fails.
[[nodiscard]] std::string Serialize(const nlohmann::json& document);

}  // namespace gatepost::control
