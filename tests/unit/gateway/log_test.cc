// SPDX-License-Identifier: Apache-2.0
#include "gateway/observe/log.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace gatepost::observe {
namespace {

constexpr config::LogFormat kLogfmt = config::LogFormat::kLogfmt;
constexpr config::LogFormat kJson = config::LogFormat::kJson;

TEST(FormatLine, LogfmtQuotesOnlyWhatNeedsIt) {
  EXPECT_EQ(FormatLine(kLogfmt, "T", Level::kInfo, "session",
                       {{"user", "alice@example.org"}, {"bytes", 12}, {"text", "two words"}}),
            "ts=T level=info event=session user=alice@example.org bytes=12 text=\"two words\"");
}

TEST(FormatLine, EmptyTextIsLeftOut) {
  EXPECT_EQ(FormatLine(kLogfmt, "T", Level::kInfo, "e", {{"a", ""}, {"b", 0}}),
            "ts=T level=info event=e b=0");
  EXPECT_EQ(FormatLine(kJson, "T", Level::kInfo, "e", {{"a", ""}, {"b", 0}}),
            R"({"ts":"T","level":"info","event":"e","b":0})");
}

TEST(FormatLine, UntrustedBytesCannotForgeALine) {
  using namespace std::string_literals;
  const std::string user = "x\r\nts=T level=info event=session user=\"root\" \x1b[2J\0z\xff"s;
  for (const auto format : {kLogfmt, kJson}) {
    const std::string line =
        FormatLine(format, "T", Level::kWarning, "login_failed", {{"user", user}});
    for (const char c : line) {
      EXPECT_GE(c, 0x20) << line;
      EXPECT_LT(c, 0x7F) << line;
    }
    EXPECT_NE(line.find(R"(x\u000d\u000ats=T)"), std::string::npos) << line;
    EXPECT_NE(line.find(R"(\"root\")"), std::string::npos) << line;
  }
}

TEST(FormatLine, ALongValueIsCut) {
  const std::string line =
      FormatLine(kLogfmt, "T", Level::kInfo, "e", {{"user", std::string(100'000, 'a')}});
  EXPECT_LT(line.size(), 600U);
}

TEST(Log, WritesLinesOfItsLevelToTheFile) {
  const auto file = std::filesystem::temp_directory_path() /
                    ("gatepost-log-test-" + std::to_string(getpid()) + ".log");
  config::Log settings;
  settings.file = file;
  settings.level = Level::kWarning;
  {
    Log log(settings);
    log.Write(Level::kInfo, "quiet", {});
    log.Write(Level::kError, "loud", {{"n", 1}});
  }
  std::ifstream input(file);
  const std::string text((std::istreambuf_iterator<char>(input)), {});
  std::filesystem::remove(file);
  EXPECT_EQ(text.find("quiet"), std::string::npos);
  EXPECT_NE(text.find("level=error event=loud n=1\n"), std::string::npos);
}

}  // namespace
}  // namespace gatepost::observe
