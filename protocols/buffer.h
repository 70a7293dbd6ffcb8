// A byte queue for dialogues that may carry secrets: whatever leaves it is wiped.
//
// Login dialogues (commands with passwords, our own login at a backend) pass through Buffers only.
// Not for the relay's hot path. Owned by its session; one thread.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>

namespace gatepost::protocols {

// Wipe overwrites `size` bytes at `data` in a way that the compiler does not remove.
void Wipe(void* data, size_t size);

// Buffer is a queue of bytes: appended at the end, consumed at the front. Memory is wiped when
// bytes are consumed, when the buffer grows or is destroyed. An empty Buffer owns no memory. Views
// from view() are valid until the next non-const call.
class Buffer {
 public:
  Buffer() = default;
  ~Buffer();
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  [[nodiscard]] std::string_view view() const { return {data_.get() + begin_, end_ - begin_}; }
  [[nodiscard]] size_t size() const { return end_ - begin_; }
  [[nodiscard]] bool empty() const { return begin_ == end_; }

  void Append(std::string_view bytes);
  Buffer& operator<<(std::string_view bytes) {
    Append(bytes);
    return *this;
  }

  // Consume wipes and removes the first `count` bytes; `count` must not exceed size().
  void Consume(size_t count);

  // Clear wipes and removes everything and releases the memory.
  void Clear();

 private:
  std::unique_ptr<char[]> data_;
  size_t begin_ = 0;
  size_t end_ = 0;
  size_t capacity_ = 0;
};

}  // namespace gatepost::protocols
