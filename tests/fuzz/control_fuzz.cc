// The control socket's requests and answers: any line gets one answer, and any answer can be shown.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "gateway/control/commands.h"

namespace {

using namespace gatepost::control;

void Require(bool condition) {
  if (!condition) std::abort();
}

class Echo final : public Gateway {
 public:
  explicit Echo(std::string_view text) : text_(text) {}

  Status GetStatus() const override {
    Status status;
    status.problem = text_;
    status.backends.emplace_back().problem = text_;
    return status;
  }
  void ListSessions(gatepost::session::SessionFilter filter, size_t limit,
                    std::function<void(SessionList)> answer) override {
    Require(limit > 0);
    SessionList list;
    list.sessions.emplace_back().user = std::move(filter.user);
    answer(list);
  }
  void Kick(gatepost::session::SessionFilter filter,
            std::function<void(uint64_t)> answer) override {
    Require(!filter.id.empty() || !filter.user.empty() || !filter.backend.empty());
    answer(text_.size());
  }
  bool Drain() override { return true; }
  void Reload(std::function<void(const ReloadResult&)> answer) override {
    answer({.problems = {text_}});
  }
  void Upgrade(std::function<void(const UpgradeResult&)> answer) override {
    answer({.problem = text_});
  }

 private:
  std::string text_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  Echo gateway(text);
  int answers = 0;
  const Command* command = nullptr;
  std::string line;
  command = Serve(gateway, text, [&](const Outcome& outcome) {
    ++answers;
    line = AnswerLine(outcome);
  });
  Require(answers == 1);
  Require(line.find('\n') == line.size() - 1);
  const Outcome understood = ParseAnswer(line);
  if (command != nullptr && understood) (void)command->show(*understood);

  // What a client that asked for any of them might be told.
  if (const Outcome foreign = ParseAnswer(text)) {
    for (const std::string_view name : {"status", "sessions", "backends", "certificates"}) {
      for (const char c : FindCommand(name)->show(*foreign)) {
        Require(c == '\n' || (static_cast<unsigned char>(c) >= 0x20 && c != 0x7F));
      }
    }
  }
  return 0;
}
