// SPDX-License-Identifier: Apache-2.0
#include "gateway/net/reverse_lookup.h"

#include <netdb.h>

#include <algorithm>
#include <utility>

namespace gatepost::net {
namespace {

// The characters of a host name: whatever else a PTR record holds goes nowhere.
bool IsName(std::string_view text) {
  return !text.empty() && text.size() <= 255 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.';
  });
}

}  // namespace

// Job is what libuv works on. It outlives a question that was forgotten.
struct ReverseLookup::Job {
  uv_getnameinfo_t to_name;
  uv_getaddrinfo_t to_addresses;
  ReverseLookup* lookup;  // null once it was forgotten
  Address address;
  std::string name;
  std::shared_ptr<uint32_t> running;

  ~Job() { --*running; }

  // Forget takes back what has not begun.
  void Forget() {
    lookup = nullptr;
    uv_cancel(reinterpret_cast<uv_req_t*>(&to_name));
    uv_cancel(reinterpret_cast<uv_req_t*>(&to_addresses));
  }

  static void OnName(uv_getnameinfo_t* request, int status, const char* host, const char*) {
    std::unique_ptr<Job> job(static_cast<Job*>(request->data));
    if (job->lookup == nullptr) return;
    if (status != 0) return Tell(*job, status);
    if (!IsName(host)) return job->lookup->Finish(kNoName);
    job->name = host;
    addrinfo hints{};
    hints.ai_family = job->address.family();
    hints.ai_socktype = SOCK_STREAM;
    Job& asked = *job;
    if (uv_getaddrinfo(request->loop, &asked.to_addresses, &Job::OnAddresses, asked.name.c_str(),
                       nullptr, &hints) == 0) {
      (void)job.release();
    } else {
      asked.lookup->Finish(kNoAnswer);
    }
  }

  static void OnAddresses(uv_getaddrinfo_t* request, int status, addrinfo* result) {
    const std::unique_ptr<Job> job(static_cast<Job*>(request->data));
    const std::unique_ptr<addrinfo, decltype(&uv_freeaddrinfo)> owned(result, &uv_freeaddrinfo);
    if (job->lookup == nullptr) return;
    if (status != 0) return Tell(*job, status);
    for (const addrinfo* found = result; found != nullptr; found = found->ai_next) {
      if (Address(found->ai_addr).Mapped() == job->address.Mapped()) {
        return job->lookup->Finish(job->name);
      }
    }
    job->lookup->Finish(kNoName);
  }

  static void Tell(Job& job, int status) {
    job.lookup->Finish(status == UV_EAI_NONAME || status == UV_EAI_NODATA ? kNoName : kNoAnswer);
  }
};

std::unique_ptr<ReverseLookup> ReverseLookup::Start(uv_loop_t* loop, Deadlines& deadlines,
                                                    const Address& address,
                                                    std::chrono::milliseconds timeout,
                                                    const std::shared_ptr<uint32_t>& running,
                                                    uint32_t most, Observer& observer) {
  if (*running >= most) return nullptr;
  std::unique_ptr<ReverseLookup> lookup(new ReverseLookup(observer));
  ++*running;
  std::unique_ptr<Job> job(new Job{{}, {}, lookup.get(), address, {}, running});
  job->to_name.data = job->to_addresses.data = job.get();
  if (uv_getnameinfo(loop, &job->to_name, &Job::OnName, address.get(), NI_NAMEREQD) != 0) {
    return nullptr;
  }
  lookup->job_ = job.release();
  deadlines.Arm(*lookup, static_cast<uint64_t>(timeout.count()));
  return lookup;
}

ReverseLookup::~ReverseLookup() {
  if (job_ != nullptr) job_->Forget();
}

void ReverseLookup::OnDeadline() {
  Finish(kNoAnswer);
}

void ReverseLookup::Finish(std::string_view name) {
  const std::string kept(name);
  Deadlines::Disarm(*this);
  if (job_ != nullptr) std::exchange(job_, nullptr)->Forget();
  observer_.OnName(kept);
}

}  // namespace gatepost::net
