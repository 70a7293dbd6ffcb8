// The commands of the control socket: what the gateway answers, and what people are shown of it.
//
// A command is one row of the table in commands.cc and a sub-command in main.cc. Serving is for the
// gateway's main thread.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <vector>

#include "gateway/control/gateway.h"

namespace gatepost::control {

// The result, or why there is none: one line.
using Outcome = tl::expected<nlohmann::json, std::string>;
// To be called once, on the main thread, now or later.
using Answer = std::function<void(const Outcome&)>;

struct Command {
  std::string_view name;
  // Keys that a request may have besides "command", each text or a whole number.
  std::vector<std::string_view> keys;
  bool changes;  // something: who asked is logged
  void (*serve)(Gateway& gateway, const nlohmann::json& request, const Answer& answer);
  // What a terminal shows of a result; safe for one whatever the result says.
  std::string (*show)(const nlohmann::json& result);
  // Adds the result of a process from before an upgrade; null: such a one is not asked.
  void (*add)(nlohmann::json& result, const nlohmann::json& old) = nullptr;
  uint64_t patience_ms = 10'000;  // until there must be an answer
  // Whether the result says that all went well; null: it does.
  bool (*good)(const nlohmann::json& result) = nullptr;
};

// FindCommand returns null where there is none of that name.
[[nodiscard]] const Command* FindCommand(std::string_view name);

// Serve reads a request, one JSON object, and has its command answer. Returns the command, or null
// where it has answered that there is no such request.
const Command* Serve(Gateway& gateway, std::string_view request, const Answer& answer);

// ParseAnswer reads the one line that the gateway answers with; the error of an outcome may also be
// that it is none.
[[nodiscard]] Outcome ParseAnswer(std::string_view line);
// AnswerLine is the reverse, with a line feed.
[[nodiscard]] std::string AnswerLine(const Outcome& outcome);

}  // namespace gatepost::control
