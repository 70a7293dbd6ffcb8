// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/gateway/allocation_counter.h"

#include <atomic>
#include <cstddef>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define GATEPOST_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define GATEPOST_SANITIZED 1
#endif
#endif

namespace {
std::atomic<uint64_t> allocations{0};
}  // namespace

#ifndef GATEPOST_SANITIZED
extern "C" {
// glibc's own entry points beneath the public names.
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* memory, size_t size);

void* malloc(size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_malloc(size);
}
void* calloc(size_t count, size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_calloc(count, size);
}
void* realloc(void* memory, size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_realloc(memory, size);
}
}
#endif

namespace gatepost::test {

uint64_t Allocations() {
  return allocations.load(std::memory_order_relaxed);
}

bool CountsAllocations() {
#ifdef GATEPOST_SANITIZED
  return false;
#else
  return true;
#endif
}

}  // namespace gatepost::test
