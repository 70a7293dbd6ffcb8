// The JSON documents of the control socket and of /api/status; control.md is their reference.
//
// Text that is not UTF-8 (user names, backends' words) comes out with U+FFFD in its place. Pure
// functions.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "gateway/control/gateway.h"

namespace gatepost::control {

// `names`: with the users and addresses of failed logins.
[[nodiscard]] nlohmann::json ToJson(const Status& status, bool names = true);
[[nodiscard]] nlohmann::json ToJson(const SessionList& list);
// The parts of the status that have commands of their own.
[[nodiscard]] nlohmann::json BackendsJson(const Status& status);
[[nodiscard]] nlohmann::json CertificatesJson(const Status& status);

// StatusDocument is ToJson of the gateway's status as text, for /api/status.
[[nodiscard]] std::string StatusDocument(const Gateway& gateway, bool names);

// Serialize writes a document as one line; never fails.
[[nodiscard]] std::string Serialize(const nlohmann::json& document);

}  // namespace gatepost::control
