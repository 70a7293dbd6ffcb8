// SPDX-License-Identifier: Apache-2.0
#include "gateway/control/commands.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "gateway/control/documents.h"
#include "gateway/control/tables.h"

namespace gatepost::control {
namespace {

using nlohmann::json;

constexpr uint64_t kMostSessions = 100'000;

std::string Text(const json& request, const char* key) {
  return request.value(key, std::string());
}

session::SessionFilter Filter(const json& request) {
  return {Text(request, "session"), Text(request, "user"), Text(request, "protocol"),
          Text(request, "backend")};
}

void ServeSessions(Gateway& gateway, const json& request, const Answer& answer) {
  gateway.ListSessions(Filter(request),
                       std::min(request.value("limit", kMostSessions), kMostSessions),
                       [answer](const SessionList& list) { answer(ToJson(list)); });
}

// With nothing to pick sessions by, all would be meant: too much for an order that came wrong.
void ServeKick(Gateway& gateway, const json& request, const Answer& answer) {
  session::SessionFilter filter = Filter(request);
  if (filter.id.empty() && filter.user.empty() && filter.backend.empty()) {
    return answer(tl::unexpected<std::string>("kick whom? name a session, a user or a backend"));
  }
  gateway.Kick(std::move(filter), [answer](uint64_t count) {
    if (count == 0) return answer(tl::unexpected<std::string>("no session matches"));
    answer(json{{"kicked", count}});
  });
}

void ServeReload(Gateway& gateway, const json&, const Answer& answer) {
  gateway.Reload([answer](const ReloadResult& result) {
    if (!result.problems.empty()) {
      std::string lines = "nothing has changed:";
      for (const std::string& problem : result.problems) lines += "\n" + problem;
      return answer(tl::unexpected(std::move(lines)));
    }
    json document{{"changed", result.changed}, {"generation", result.generation}};
    for (const NotTaken& file : result.not_taken) {
      document["not_taken"].push_back({{"file", file.file}, {"problem", file.problem}});
    }
    if (!result.restart.empty()) document["restart"] = result.restart;
    answer(document);
  });
}

bool WholeReload(const json& result) {
  return !result.contains("not_taken");
}

void ServeUpgrade(Gateway& gateway, const json&, const Answer& answer) {
  gateway.Upgrade([answer](const UpgradeResult& result) {
    if (!result.problem.empty()) return answer(tl::unexpected(result.problem));
    answer(json{{"process", result.process}, {"sessions", result.sessions}});
  });
}

uint64_t Count(const json& result, const char* key) {
  const auto found = result.find(key);
  return found != result.end() && found->is_number_unsigned() ? found->get<uint64_t>() : 0;
}

// What an old process answers is as little to be believed as what a socket says at all.
void AddCount(json& result, const json& old, const char* key) {
  result[key] = Count(result, key) + Count(old, key);
}

void AddStatus(json& result, const json& old) {
  result["old_processes"].push_back(
      {{"pid", Count(old, "pid")}, {"connections", Count(old, "connections")}});
}

void AddSessions(json& result, const json& old) {
  AddCount(result, old, "matched");
  const auto more = old.find("sessions");
  json& sessions = result["sessions"];
  if (!sessions.is_array() || more == old.end() || !more->is_array()) return;
  sessions.insert(sessions.end(), more->begin(), more->end());
}

void AddKick(json& result, const json& old) {
  AddCount(result, old, "kicked");
}

void AddDrain(json& result, const json& old) {
  AddCount(result, old, "connections");
}

const std::vector<Command>& Table() {
  static const std::vector<Command> kTable = {
      {"status",
       {},
       false,
       [](Gateway& gateway, const json&, const Answer& answer) {
         answer(ToJson(gateway.GetStatus()));
       },
       ShowStatus,
       AddStatus},
      {"sessions",
       {"session", "user", "protocol", "backend", "limit"},
       false,
       ServeSessions,
       ShowSessions,
       AddSessions},
      {"backends",
       {},
       false,
       [](Gateway& gateway, const json&, const Answer& answer) {
         answer(BackendsJson(gateway.GetStatus()));
       },
       ShowBackends},
      {"certificates",
       {},
       false,
       [](Gateway& gateway, const json&, const Answer& answer) {
         answer(CertificatesJson(gateway.GetStatus()));
       },
       ShowCertificates},
      {"kick", {"session", "user", "protocol", "backend"}, true, ServeKick, ShowKick, AddKick},
      {"drain",
       {},
       true,
       [](Gateway& gateway, const json&, const Answer& answer) {
         const bool begun = gateway.Drain();
         answer(json{{"begun", begun}, {"connections", gateway.GetStatus().connections}});
       },
       ShowDrain,
       AddDrain},
      {"reload", {}, true, ServeReload, ShowReload, nullptr, 120'000, WholeReload},
      {"upgrade", {}, true, ServeUpgrade, ShowUpgrade, nullptr, 120'000},
  };
  return kTable;
}

// WrongWith says what is wrong with a request's keys; empty: nothing.
std::string WrongWith(const Command& command, const json& request) {
  for (const auto& [key, value] : request.items()) {
    if (key == "command") continue;
    if (std::find(command.keys.begin(), command.keys.end(), key) == command.keys.end()) {
      return std::string(command.name) + " takes no \"" + key + "\"";
    }
    const bool right = key == "limit" ? value.is_number_unsigned() : value.is_string();
    if (!right) return "\"" + key + "\" is of the wrong type";
  }
  return {};
}

}  // namespace

const Command* FindCommand(std::string_view name) {
  for (const Command& command : Table()) {
    if (command.name == name) return &command;
  }
  return nullptr;
}

const Command* Serve(Gateway& gateway, std::string_view request, const Answer& answer) {
  const auto refuse = [&](const std::string& why) {
    answer(tl::unexpected(why));
    return nullptr;
  };
  const json document = json::parse(request, nullptr, false);
  if (!document.is_object()) return refuse("the request is no JSON object");
  const auto name = document.find("command");
  if (name == document.end() || !name->is_string()) return refuse("the request has no \"command\"");
  const Command* command = FindCommand(name->get_ref<const std::string&>());
  if (command == nullptr) return refuse("no such command");
  if (const std::string wrong = WrongWith(*command, document); !wrong.empty()) return refuse(wrong);
  command->serve(gateway, document, answer);
  return command;
}

Outcome ParseAnswer(std::string_view line) {
  const json document = json::parse(line, nullptr, false);
  if (document.is_object()) {
    if (const auto result = document.find("result"); result != document.end()) return *result;
    if (const auto error = document.find("error"); error != document.end() && error->is_string()) {
      return tl::unexpected(error->get<std::string>());
    }
  }
  return tl::unexpected<std::string>("the gateway's answer is not understood");
}

std::string AnswerLine(const Outcome& outcome) {
  return Serialize(outcome ? json{{"result", *outcome}} : json{{"error", outcome.error()}}) + "\n";
}

}  // namespace gatepost::control
