// An HTTP/1 response: Boost.Beast's parser, and nothing of it.
//
// Bytes in, header fields out; the body is skipped, unless a short one is wanted. Knows nothing of
// what the fields mean. Owned by its connection; one thread. RFC 9112.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "protocols/buffer.h"

namespace gatepost::auth {

class HttpResponse {
 public:
  static constexpr uint32_t kMaxHeaderBytes = 16 * 1024;

  enum class Status : uint8_t {
    kMore,      // it is not complete
    kHeader,    // all fields are known, the body is not: call again with more
    kDone,      // the next response may follow on the connection, where keep_alive(); or what
                // stands behind good header fields is broken, which does not matter
    kMalformed  // error() says why
  };

  // `on_field` is called for every header field, and for none of a trailer, with its name as it was
  // sent and its value without the space around it; both are valid during the call.
  using OnField = std::function<void(std::string_view name, std::string_view value)>;
  // `most_body_bytes`: a longer body is an error; 0: it is skipped, however long it is.
  explicit HttpResponse(OnField on_field, size_t most_body_bytes = 0);
  ~HttpResponse();

  // Consume takes from `input` what it can, and wipes it there.
  [[nodiscard]] Status Consume(protocols::Buffer& input);
  // End tells that the peer sends nothing more.
  [[nodiscard]] Status End();

  // The status line's number; 0 until it is known.
  [[nodiscard]] unsigned code() const;
  // Whether all of it has come, to the end of a good body.
  [[nodiscard]] bool whole() const;
  // The body, where one is wanted, as far as it has come; valid until the next call.
  [[nodiscard]] std::string_view body() const;
  // Whether the connection can carry another request, after kDone.
  [[nodiscard]] bool keep_alive() const;
  // One line, of the library.
  [[nodiscard]] const std::string& error() const { return error_; }

 private:
  struct Parser;

  [[nodiscard]] Status StatusNow() const;
  [[nodiscard]] Status Broken(std::string error);

  std::unique_ptr<Parser> parser_;
  std::string error_;
  bool broken_ = false;
};

}  // namespace gatepost::auth
