// SPDX-License-Identifier: Apache-2.0
#include "gateway/auth/http_response.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>

namespace gatepost::auth {
namespace {

using Status = HttpResponse::Status;

// Feed gives `text` in pieces of `step` bytes, until there is a status that ends it.
Status Feed(HttpResponse& response, std::string_view text, size_t step) {
  protocols::Buffer input;
  auto status = Status::kMore;
  while (!text.empty() && (status == Status::kMore || status == Status::kHeader)) {
    input.Append(text.substr(0, step));
    text.remove_prefix(std::min(step, text.size()));
    status = response.Consume(input);
  }
  return status;
}

std::string WithBody(size_t bytes) {
  return "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(bytes) + "\r\n\r\n" +
         std::string(bytes, 'x');
}

constexpr std::string_view kChunked =
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n6\r\nefghij\r\n0\r\n\r\n";

TEST(HttpResponse, KeepsABodyThatIsWanted) {
  for (const size_t step : {size_t{1}, size_t{7}, size_t{50}, size_t{1000}}) {
    HttpResponse sized([](auto, auto) {}, 10);
    EXPECT_EQ(Feed(sized, WithBody(10), step), Status::kDone);
    EXPECT_TRUE(sized.whole());
    EXPECT_EQ(sized.body(), "xxxxxxxxxx");
    HttpResponse chunked([](auto, auto) {}, 10);
    EXPECT_EQ(Feed(chunked, kChunked, step), Status::kDone);
    EXPECT_TRUE(chunked.whole() && chunked.keep_alive());
    EXPECT_EQ(chunked.body(), "abcdefghij");
  }
}

TEST(HttpResponse, ALongerBodyIsNeverWhole) {
  for (const size_t step : {size_t{1}, size_t{7}, size_t{50}, size_t{1000}}) {
    for (const std::string& text : {WithBody(10), std::string(kChunked)}) {
      HttpResponse response([](auto, auto) {}, 9);
      (void)Feed(response, text, step);
      EXPECT_FALSE(response.whole()) << step;
      EXPECT_LE(response.body().size(), 9U);
      EXPECT_FALSE(response.error().empty());
    }
  }
}

TEST(HttpResponse, SkipsABodyThatIsNot) {
  HttpResponse response([](auto, auto) {});
  EXPECT_EQ(Feed(response, WithBody(100'000), 1000), Status::kDone);
  EXPECT_TRUE(response.whole());
  EXPECT_EQ(response.body(), "");
}

}  // namespace
}  // namespace gatepost::auth
