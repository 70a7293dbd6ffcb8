// SPDX-License-Identifier: Apache-2.0
#include "gateway/auth/http_response.h"

#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/error.hpp>
#include <utility>

namespace gatepost::auth {
namespace {

namespace http = boost::beast::http;
using ErrorCode = boost::beast::error_code;

}  // namespace

// Parser hands fields on, and keeps nothing but a body that is wanted.
struct HttpResponse::Parser final : http::basic_parser<false> {
  Parser(OnField to, size_t most) : on_field(std::move(to)), most_body_bytes(most) {
    eager(true);
    header_limit(kMaxHeaderBytes);
    body_limit(UINT64_MAX);  // what is kept of it is bounded below
  }

  void on_request_impl(http::verb, boost::beast::string_view, boost::beast::string_view, int,
                       ErrorCode& error) override {
    error = {};
  }
  void on_response_impl(int status, boost::beast::string_view, int, ErrorCode& error) override {
    code = static_cast<unsigned>(status);
    error = {};
  }
  void on_field_impl(http::field, boost::beast::string_view name, boost::beast::string_view value,
                     ErrorCode& error) override {
    // What a trailer says is none of the header (RFC 9110 section 6.5).
    if (!is_header_done()) on_field({name.data(), name.size()}, {value.data(), value.size()});
    error = {};
  }
  void on_header_impl(ErrorCode& error) override { error = {}; }
  void on_body_init_impl(const boost::optional<uint64_t>&, ErrorCode& error) override {
    error = {};
  }
  size_t on_body_impl(boost::beast::string_view part, ErrorCode& error) override {
    error = {};
    if (most_body_bytes == 0) return part.size();
    // Beast's own limit does not hold for what comes with the header.
    if (part.size() > most_body_bytes - body.size()) {
      error = http::error::body_limit;
      return 0;
    }
    body.append(part.data(), part.size());
    return part.size();
  }
  void on_chunk_header_impl(uint64_t, boost::beast::string_view, ErrorCode& error) override {
    error = {};
  }
  size_t on_chunk_body_impl(uint64_t, boost::beast::string_view part, ErrorCode& error) override {
    return on_body_impl(part, error);
  }
  void on_finish_impl(ErrorCode& error) override { error = {}; }

  OnField on_field;
  const size_t most_body_bytes;
  std::string body;
  unsigned code = 0;
};

HttpResponse::HttpResponse(OnField on_field, size_t most_body_bytes)
    : parser_(std::make_unique<Parser>(std::move(on_field), most_body_bytes)) {}

HttpResponse::~HttpResponse() = default;

HttpResponse::Status HttpResponse::Consume(protocols::Buffer& input) {
  while (!input.empty() && !parser_->is_done()) {
    ErrorCode error;
    const std::string_view bytes = input.view();
    const size_t taken = parser_->put(boost::asio::buffer(bytes.data(), bytes.size()), error);
    input.Consume(taken);
    if (error == http::error::need_more) break;
    if (error) return Broken(error.message());
    if (taken == 0) break;
  }
  return StatusNow();
}

HttpResponse::Status HttpResponse::End() {
  if (parser_->is_done()) return Status::kDone;
  ErrorCode error;
  if (parser_->got_some()) parser_->put_eof(error);
  if (error || !parser_->is_done()) return Broken(error ? error.message() : "no response");
  return Status::kDone;
}

HttpResponse::Status HttpResponse::Broken(std::string error) {
  error_ = std::move(error);
  broken_ = true;
  return parser_->is_header_done() ? Status::kDone : Status::kMalformed;
}

HttpResponse::Status HttpResponse::StatusNow() const {
  if (parser_->is_done()) return Status::kDone;
  return parser_->is_header_done() ? Status::kHeader : Status::kMore;
}

unsigned HttpResponse::code() const {
  return parser_->code;
}

bool HttpResponse::whole() const {
  return !broken_ && parser_->is_done();
}

std::string_view HttpResponse::body() const {
  return parser_->body;
}

bool HttpResponse::keep_alive() const {
  return whole() && parser_->keep_alive();
}

}  // namespace gatepost::auth
