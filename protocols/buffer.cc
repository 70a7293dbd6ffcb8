// SPDX-License-Identifier: Apache-2.0
#include "protocols/buffer.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <utility>

namespace gatepost::protocols {

void Wipe(void* data, size_t size) {
  if (size > 0) explicit_bzero(data, size);
}

Buffer::~Buffer() {
  Clear();
}

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::move(other.data_)),
      begin_(std::exchange(other.begin_, 0)),
      end_(std::exchange(other.end_, 0)),
      capacity_(std::exchange(other.capacity_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this != &other) {
    Clear();
    data_ = std::move(other.data_);
    begin_ = std::exchange(other.begin_, 0);
    end_ = std::exchange(other.end_, 0);
    capacity_ = std::exchange(other.capacity_, 0);
  }
  return *this;
}

void Buffer::Append(std::string_view bytes) {
  if (bytes.empty()) return;
  if (capacity_ - end_ < bytes.size()) {
    const size_t length = size();
    const size_t needed = length + bytes.size();
    if (needed <= capacity_ && begin_ >= length) {
      memcpy(data_.get(), data_.get() + begin_, length);
      Wipe(data_.get() + begin_, length);
    } else {
      const size_t grown = std::max<size_t>({needed, capacity_ * 2, 256});
      std::unique_ptr<char[]> larger(new char[grown]);
      if (length > 0) memcpy(larger.get(), data_.get() + begin_, length);
      Wipe(data_.get(), capacity_);
      data_ = std::move(larger);
      capacity_ = grown;
    }
    begin_ = 0;
    end_ = length;
  }
  memcpy(data_.get() + end_, bytes.data(), bytes.size());
  end_ += bytes.size();
}

void Buffer::Consume(size_t count) {
  assert(count <= size());
  count = std::min(count, size());
  Wipe(data_.get() + begin_, count);
  begin_ += count;
  if (begin_ == end_) begin_ = end_ = 0;
}

void Buffer::Clear() {
  Wipe(data_.get(), capacity_);
  data_.reset();
  begin_ = end_ = capacity_ = 0;
}

}  // namespace gatepost::protocols
