// Every dialogue of tests/dialogues: whole, cut at every byte of every flight, and byte by byte.
// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/protocols/dialogue.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>

namespace gatepost::test {
namespace {

// A flight that is longer than this is cut at some places only; it keeps the tests fast.
constexpr size_t kMaxCuts = 512;

std::vector<std::filesystem::path> DialogueFiles() {
  std::vector<std::filesystem::path> files;
  for (const char* protocol : {"imap", "pop3", "smtp"}) {
    const auto folder =
        std::filesystem::path(GATEPOST_SOURCE_DIR) / "tests" / "dialogues" / protocol;
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(folder, ignored)) {
      if (entry.path().extension() == ".dialog") files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::string TestName(const testing::TestParamInfo<std::filesystem::path>& info) {
  std::string name =
      info.param.parent_path().filename().string() + "_" + info.param.stem().string();
  std::replace_if(
      name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
  return name;
}

class DialogueTest : public testing::TestWithParam<std::filesystem::path> {};

TEST_P(DialogueTest, HoldsAtEverySplit) {
  std::string error;
  const Dialogue dialogue = ReadDialogue(GetParam(), error);
  ASSERT_EQ(error, "");
  ASSERT_EQ(RunDialogue(dialogue, {}), "");
  if (!dialogue.may_split) return;
  for (size_t i = 0; i < dialogue.steps.size(); ++i) {
    const auto* flight = std::get_if<Flight>(&dialogue.steps[i].what);
    if (!flight) continue;
    const size_t stride = flight->bytes.size() / kMaxCuts + 1;
    for (size_t offset = 1; offset < flight->bytes.size(); offset += stride) {
      ASSERT_EQ(RunDialogue(dialogue, {.every_byte = false, .step = i, .offset = offset}), "")
          << "with the flight cut at " << offset;
    }
  }
  ASSERT_EQ(RunDialogue(dialogue, {.every_byte = true}), "") << "byte by byte";
}

INSTANTIATE_TEST_SUITE_P(All, DialogueTest, testing::ValuesIn(DialogueFiles()), TestName);

// A runner that accepts everything would make all dialogues pass.
TEST(DialogueRunner, ReportsFileAndLineOfWhatDiffers) {
  Dialogue dialogue;
  dialogue.file = "made-up.dialog";
  dialogue.protocol = protocols::Protocol::kPop3;
  dialogue.facts.hostname = "mail.example.org";
  dialogue.steps = {{1, ExpectLine{"+OK mail.example.org ready", false}},
                    {2, Flight{"NOOP\r\n"}},
                    {3, ExpectLine{"-ERR", false}}};
  EXPECT_EQ(RunDialogue(dialogue, {}), "made-up.dialog:3: expected the line '-ERR', got '+OK'");
  dialogue.steps.pop_back();
  EXPECT_EQ(RunDialogue(dialogue, {}), "made-up.dialog: at the end: unexpected output '+OK\r\n'");
  dialogue.steps = {{1, ExpectLine{".*READY", true}}};
  EXPECT_NE(RunDialogue(dialogue, {}), "");
  dialogue.steps = {{1, ExpectLine{".*ready", true}},
                    {2, Flight{"QUIT\r\n"}},
                    {3, ExpectLine{"+OK Logging out", false}}};
  EXPECT_EQ(RunDialogue(dialogue, {}), "made-up.dialog: at the end: unexpected quit kLoggedOut");
}

}  // namespace
}  // namespace gatepost::test
