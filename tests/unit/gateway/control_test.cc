// The commands of the control socket and what a terminal shows of them, without a socket.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>

#include "gateway/control/commands.h"
#include "gateway/control/documents.h"
#include "gateway/control/tables.h"

namespace gatepost::control {
namespace {

using nlohmann::json;

class FakeGateway final : public Gateway {
 public:
  Status GetStatus() const override { return status; }
  void ListSessions(session::SessionFilter wanted, size_t most,
                    std::function<void(SessionList)> answer) override {
    filter = std::move(wanted);
    limit = most;
    answer(list);
  }
  void Kick(session::SessionFilter wanted, std::function<void(uint64_t)> answer) override {
    filter = std::move(wanted);
    answer(kicked);
  }
  bool Drain() override { return !std::exchange(draining, true); }
  void Reload(std::function<void(const ReloadResult&)> answer) override { answer(reload); }
  void Upgrade(std::function<void(const UpgradeResult&)> answer) override { answer({}); }

  Status status;
  SessionList list;
  session::SessionFilter filter;
  size_t limit = 0;
  uint64_t kicked = 0;
  bool draining = false;
  ReloadResult reload;
};

Outcome Answered(Gateway& gateway, std::string_view request) {
  std::optional<Outcome> outcome;
  Serve(gateway, request, [&](const Outcome& given) {
    EXPECT_FALSE(outcome.has_value());
    outcome = given;
  });
  return outcome.value_or(tl::unexpected<std::string>("nothing"));
}

TEST(ControlCommands, HaveUniqueNamesAndAreFound) {
  for (const std::string_view name :
       {"status", "sessions", "backends", "certificates", "kick", "drain"}) {
    ASSERT_NE(FindCommand(name), nullptr) << name;
    EXPECT_EQ(FindCommand(name)->name, name);
  }
  EXPECT_EQ(FindCommand("statu"), nullptr);
}

TEST(ControlCommands, PassOnWhoIsMeant) {
  FakeGateway gateway;
  gateway.list.matched = 7;
  const Outcome outcome = Answered(
      gateway, R"({"command":"sessions","user":"u","protocol":"imap","backend":"b","limit":3})");
  ASSERT_TRUE(outcome);
  EXPECT_EQ((*outcome)["matched"], 7);
  EXPECT_EQ(gateway.filter.user, "u");
  EXPECT_EQ(gateway.filter.protocol, "imap");
  EXPECT_EQ(gateway.filter.backend, "b");
  EXPECT_EQ(gateway.filter.id, "");
  EXPECT_EQ(gateway.limit, 3U);
}

TEST(ControlCommands, BoundTheList) {
  FakeGateway gateway;
  ASSERT_TRUE(Answered(gateway, R"({"command":"sessions","limit":18446744073709551615})"));
  EXPECT_EQ(gateway.limit, 100'000U);
  ASSERT_TRUE(Answered(gateway, R"({"command":"sessions"})"));
  EXPECT_EQ(gateway.limit, 100'000U);
  ASSERT_TRUE(Answered(gateway, R"({"command":"sessions","limit":0})"));
  EXPECT_EQ(gateway.limit, 0U);
}

TEST(ControlCommands, KickNobodyUnlessSomebodyIsNamed) {
  FakeGateway gateway;
  gateway.kicked = 5;
  EXPECT_FALSE(Answered(gateway, R"({"command":"kick"})"));
  EXPECT_FALSE(Answered(gateway, R"({"command":"kick","protocol":"imap"})"));
  EXPECT_FALSE(Answered(gateway, R"({"command":"kick","user":""})"));
  const Outcome outcome = Answered(gateway, R"({"command":"kick","session":"0a"})");
  ASSERT_TRUE(outcome);
  EXPECT_EQ((*outcome)["kicked"], 5);
  EXPECT_EQ(gateway.filter.id, "0a");
  gateway.kicked = 0;
  EXPECT_EQ(Answered(gateway, R"({"command":"kick","user":"x"})").error(), "no session matches");
}

TEST(ControlCommands, SayWhatAReloadHasNotTaken) {
  FakeGateway gateway;
  gateway.reload.generation = 4;
  const Command& command = *FindCommand("reload");
  Outcome outcome = Answered(gateway, R"({"command":"reload"})");
  ASSERT_TRUE(outcome);
  EXPECT_TRUE(command.good(*outcome));
  EXPECT_EQ(command.show(*outcome),
            "the configuration is as before; certificates and their kin are read\n");
  gateway.reload.not_taken = {{"/c.pem", "no certificate"}, {"/d.pem", "no\nkey"}};
  outcome = Answered(gateway, R"({"command":"reload"})");
  ASSERT_TRUE(outcome);
  EXPECT_FALSE(command.good(*outcome));
  EXPECT_EQ((*outcome)["not_taken"][1]["file"], "/d.pem");
  EXPECT_EQ(command.show(*outcome),
            "the configuration is as before; of the certificates and their kin these are not "
            "taken:\n/c.pem: no certificate\n/d.pem: no?key\n");
}

TEST(ControlCommands, DrainOnce) {
  FakeGateway gateway;
  EXPECT_TRUE((*Answered(gateway, R"({"command":"drain"})"))["begun"]);
  EXPECT_FALSE((*Answered(gateway, R"({"command":"drain"})"))["begun"]);
}

TEST(ControlCommands, RefuseWhatTheyDoNotKnow) {
  FakeGateway gateway;
  for (const std::string_view request :
       {"", "x", "{", "[]", "1", "{}", R"({"command":1})", R"({"command":"x"})",
        R"({"command":"status","x":1})", R"({"command":"sessions","limit":1.5})",
        R"({"command":"sessions","user":null})", "{\"command\":\"\xff\"}"}) {
    EXPECT_FALSE(Answered(gateway, request)) << request;
  }
}

TEST(ControlDocuments, HoldAnyBytes) {
  FakeGateway gateway;
  gateway.list.sessions.emplace_back().user = "a\xff\n\"b";
  const std::string line = AnswerLine(Answered(gateway, R"({"command":"sessions"})"));
  EXPECT_EQ(line.find('\n'), line.size() - 1);
  const Outcome outcome = ParseAnswer(line);
  ASSERT_TRUE(outcome);
  EXPECT_EQ((*outcome)["sessions"][0]["user"], "a\xEF\xBF\xBD\n\"b");
}

TEST(ControlDocuments, LeaveNamesOutWhereStrangersLook) {
  FakeGateway gateway;
  gateway.status.failed_logins = {{.time = 7, .client = "192.0.2.1", .user = "u", .reason = "r"}};
  const json with = json::parse(StatusDocument(gateway, true))["failed_logins"][0];
  EXPECT_EQ(with["user"], "u");
  EXPECT_EQ(with["client"], "192.0.2.1");
  const std::string without = StatusDocument(gateway, false);
  EXPECT_EQ(without.find("192.0.2.1"), std::string::npos);
  EXPECT_EQ(json::parse(without)["failed_logins"][0]["reason"], "r");
  EXPECT_FALSE(json::parse(without)["failed_logins"][0].contains("user"));
}

TEST(ControlDocuments, CountDays) {
  Status status;
  status.time = 1'000'000;
  status.certificates = {{"/c", "n", 1'000'000 + 86'400 * 3 + 5, ""}, {"/d", "", 0, "gone"}};
  const json document = ToJson(status);
  EXPECT_EQ(document["certificates"][0]["days_left"], 3);
  EXPECT_FALSE(document["certificates"][1].contains("days_left"));
  EXPECT_EQ(document["certificates"][1]["problem"], "gone");
}

TEST(ControlAnswers, AreParsedWithCare) {
  EXPECT_EQ(ParseAnswer(R"({"error":"why"})").error(), "why");
  for (const std::string_view line : {"", "{", "[]", "{}", R"({"error":1})"}) {
    EXPECT_FALSE(ParseAnswer(line)) << line;
  }
}

TEST(ControlTables, AlignWhatTheyShow) {
  const json result = {{"backends",
                        {{{"pool", "p"},
                          {"protocol", "imap"},
                          {"member", "größe:143"},
                          {"state", "up"},
                          {"sessions", 12},
                          {"share", 0.254},
                          {"login_ms", 4.25},
                          {"weight", 1}},
                         {{"pool", "longer"}, {"state", "down"}, {"problem", "refused"}}}}};
  EXPECT_EQ(ShowBackends(result),
            "POOL    PROTOCOL  MEMBER     STATE  SESSIONS  SHARE  WEIGHT   LOGIN  PROBLEM\n"
            "p       imap      größe:143  up           12   25 %       1  4.2 ms\n"
            "longer                       down          0    0 %       0       -  refused\n");
}

TEST(ControlTables, ShowNoControlCharacter) {
  const json result = {
      {"matched", 1}, {"sessions", {{{"user", "a\x1b[2J\n\t\x7f\xC2\x9B z"}, {"age_ms", 90'000}}}}};
  const std::string table = ShowSessions(result);
  EXPECT_NE(table.find("a?[2J???? z"), std::string::npos) << table;
  EXPECT_NE(table.find("2m"), std::string::npos) << table;
}

TEST(ControlTables, SurviveAnyDocument) {
  for (const json& result :
       {json(), json::array(), json(1), json{{"sessions", 1}}, json{{"backends", {1, nullptr}}},
        json{{"certificates", {{{"not_after", "x"}}}}},
        json{{"listeners", {{{"addresses", 5}}}}}}) {
    for (const std::string_view name :
         {"status", "sessions", "backends", "certificates", "kick", "drain"}) {
      EXPECT_FALSE(FindCommand(name)->show(result).empty()) << name;
    }
  }
}

}  // namespace
}  // namespace gatepost::control
