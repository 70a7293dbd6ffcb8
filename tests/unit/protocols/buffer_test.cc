// The byte queue: order, growth, and that what leaves it is gone.
// SPDX-License-Identifier: Apache-2.0
#include "protocols/buffer.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace gatepost::protocols {
namespace {

TEST(Buffer, IsAQueue) {
  Buffer buffer;
  EXPECT_TRUE(buffer.empty());
  buffer << "abc"
         << ""
         << "def";
  EXPECT_EQ(buffer.view(), "abcdef");
  buffer.Consume(2);
  EXPECT_EQ(buffer.view(), "cdef");
  buffer.Consume(4);
  EXPECT_TRUE(buffer.empty());
  buffer << "x";
  EXPECT_EQ(buffer.view(), "x");
}

TEST(Buffer, AgreesWithAStringWhateverIsAppendedAndConsumed) {
  std::mt19937 random(1);  // the same each time
  Buffer buffer;
  std::string expected;
  for (int i = 0; i < 20000; ++i) {
    const std::string bytes(random() % 300, static_cast<char>('a' + i % 26));
    buffer.Append(bytes);
    expected += bytes;
    const size_t count = random() % (expected.size() + 1);
    buffer.Consume(count);
    expected.erase(0, count);
    ASSERT_EQ(buffer.view(), expected);
  }
}

TEST(Buffer, WipesWhatIsConsumed) {
  Buffer buffer;
  buffer << "secret"
         << "rest";
  const char* begin = buffer.view().data();
  buffer.Consume(6);
  EXPECT_EQ(std::string_view(begin, 6), std::string_view("\0\0\0\0\0\0", 6));
  EXPECT_EQ(buffer.view(), "rest");
}

// The bytes move to the front when that makes room, and must not stay behind.
TEST(Buffer, WipesWhatItMoves) {
  Buffer buffer;
  buffer << std::string(200, 'x') << "secret";
  const char* begin = buffer.view().data();
  buffer.Consume(200);
  buffer << std::string(100, 'y');
  EXPECT_EQ(buffer.view().substr(0, 6), "secret");
  EXPECT_EQ(buffer.view().data(), begin);  // the same memory
  EXPECT_EQ(std::string_view(begin + 200, 6), std::string_view("\0\0\0\0\0\0", 6));
}

TEST(Buffer, MovesAndClears) {
  Buffer buffer;
  buffer << "abc";
  Buffer other = std::move(buffer);
  EXPECT_EQ(other.view(), "abc");
  EXPECT_TRUE(buffer.empty());  // NOLINT(bugprone-use-after-move): what is promised here
  buffer << "new";
  other = std::move(buffer);
  EXPECT_EQ(other.view(), "new");
  other.Clear();
  EXPECT_TRUE(other.empty());
  EXPECT_EQ(other.view().data(), nullptr);
}

}  // namespace
}  // namespace gatepost::protocols
