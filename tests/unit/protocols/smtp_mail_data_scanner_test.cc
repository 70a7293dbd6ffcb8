// The block-wise scanner against a byte-wise reference, and its speed's precondition: alignment.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "protocols/smtp/mail_data_scanner.h"
#include "tests/unit/protocols/smtp_mail_data_reference.h"

namespace gatepost::test {
namespace {

using smtp::MailDataScanner;
using Found = MailDataScanner::Found;
using Framing = MailDataScanner::Framing;

TEST(SmtpMailDataScanner, EndsOnlyAtCrlfDotCrlf) {
  const auto scan = [](std::string_view data) {
    return MailDataScanner(Framing::kDotStuffed).Scan(data);
  };
  EXPECT_EQ(scan(".\r\nrest").found, Found::kEnd);
  EXPECT_EQ(scan(".\r\nrest").clean, 3U);
  EXPECT_EQ(scan("a\r\n.\r\nrest").clean, 6U);
  EXPECT_EQ(scan("a\r\n..\r\n").found, Found::kNothing);
  EXPECT_EQ(scan("a.\r\n").clean, 4U);
  EXPECT_EQ(scan("a\r\n.").clean, 3U);
  EXPECT_EQ(scan("a\r\n.\r").clean, 3U);
  EXPECT_EQ(scan("a\r").clean, 1U);
  EXPECT_EQ(scan("a\n").found, Found::kBareLf);
  EXPECT_EQ(scan("a\rb").found, Found::kBareCr);
  EXPECT_EQ(scan("a\rb").clean, 1U);
  EXPECT_EQ(scan("a\r\n.\n").found, Found::kDotBareLf);
  EXPECT_EQ(scan("a\r\n.\n").clean, 3U);
  EXPECT_EQ(scan("a\r\n.\rx").found, Found::kDotBareCr);
}

TEST(SmtpMailDataScanner, KnowsNoDotsInCountedData) {
  MailDataScanner scanner(Framing::kCounted);
  EXPECT_EQ(scanner.Scan("a\r\n.\r\nb").clean, 7U);
  EXPECT_EQ(scanner.Scan(".\n").clean, 1U);
  EXPECT_EQ(scanner.Scan("\n").found, Found::kBareLf);
}

// Each interesting sequence at each place relative to the blocks of 64 bytes.
TEST(SmtpMailDataScanner, FindsEverythingAtEveryAlignment) {
  for (const std::string_view sequence :
       {"\r\n.\r\n", "\n", "\r", "\r\r", "\n\n", "\r\n.\n", "\r\n.\rx", "\r\n..", "\r\n.",
        "\r\n.\r", "\n.\r\n", "\r.\r\n"}) {
    for (size_t before = 0; before < 200; ++before) {
      const std::string data =
          std::string(before, 'x') + std::string(sequence) + std::string(70, 'y');
      for (const std::string_view view :
           {std::string_view(data), std::string_view(data).substr(0, before + sequence.size())}) {
        MailDataScanner scanner(Framing::kDotStuffed);
        ReferenceScanner reference(Framing::kDotStuffed);
        const auto result = scanner.Scan(view);
        const auto expected = reference.Scan(view);
        ASSERT_EQ(result.found, expected.found) << before;
        ASSERT_EQ(result.clean, expected.clean) << before;
      }
    }
  }
}

TEST(SmtpMailDataScanner, AgreesWithTheReferenceOnRandomDataAndSplits) {
  std::mt19937 random(1);  // the same data each time
  constexpr std::string_view kBytes = "\r\n..aaaaaaaaaa";
  for (int round = 0; round < 20000; ++round) {
    std::string data;
    const size_t length = random() % 300;
    const size_t rarity = 1 + random() % 40;
    for (size_t i = 0; i < length; ++i) {
      if (random() % rarity != 0) {
        data += 'a';
      } else if (random() % 2 == 0) {
        data += "\r\n";
      } else {
        data += kBytes[random() % kBytes.size()];
      }
    }
    const std::string difference =
        CompareWithReference(round % 2 == 0 ? Framing::kDotStuffed : Framing::kCounted, data,
                             [&random] { return 1 + random() % 90; });
    ASSERT_EQ(difference, "") << testing::PrintToString(data);
  }
}

}  // namespace
}  // namespace gatepost::test
