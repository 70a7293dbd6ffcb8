// SPDX-License-Identifier: Apache-2.0
#include "gateway/auth/redis_courier.h"

#include <hiredis/hiredis.h>
#include <pthread.h>
#include <sys/time.h>
#include <uv.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <csignal>
#include <random>
#include <string_view>
#include <utility>

#include "config/values.h"

namespace gatepost::auth {
namespace {

constexpr const char* kStream = "gatepost:throttle";
constexpr const char* kMostEntries = "100000";  // of the stream
constexpr const char* kBlockMs = "200";         // for which Redis may wait with its answer
constexpr size_t kBatch = 500;
constexpr timeval kConnectTimeout{1, 0};
constexpr timeval kAnswerTimeout{2, 0};
constexpr std::chrono::milliseconds kPause{1'000};  // before Redis is tried again
constexpr uint64_t kHalfLives = 4;  // what is older than so many counts for next to nothing

uint64_t NowMs() {
  return uv_hrtime() / 1'000'000;
}

std::string_view TextOf(const redisReply* reply) {
  if (reply == nullptr ||
      (reply->type != REDIS_REPLY_STRING && reply->type != REDIS_REPLY_STATUS)) {
    return {};
  }
  return {reply->str, reply->len};
}

bool IsArray(const redisReply* reply, size_t least) {
  return reply != nullptr && reply->type == REDIS_REPLY_ARRAY && reply->elements >= least;
}

// Number reads what stands before the first other character.
uint64_t Number(std::string_view text) {
  uint64_t number = 0;
  (void)std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

uint64_t Random() {
  std::random_device device;
  return uint64_t{device()} << 32 | device();
}

}  // namespace

void RedisCourier::Close::operator()(redisContext* context) const {
  redisFree(context);
}

void RedisCourier::Free::operator()(redisReply* reply) const {
  freeReplyObject(reply);
}

RedisCourier::RedisCourier(const config::Throttle& settings, const sasl::Secret& password,
                           Throttle& throttle, std::shared_ptr<observe::Log> log)
    : socket_(settings.redis.value_or(config::ServiceSocket{})),
      user_(settings.redis_user.value_or("")),
      password_(password.Clone()),
      half_life_ms_(static_cast<uint64_t>(settings.half_life.count())),
      origin_(Random()),
      throttle_(throttle),
      log_(std::move(log)),
      thread_([this] { Run(); }) {}

RedisCourier::~RedisCourier() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void RedisCourier::Tell(ThrottleEvent event) {
  event.origin = origin_;
  const std::lock_guard lock(mutex_);
  kept_.push_back(event);
  DropOldest();
}

void RedisCourier::DropOldest() {
  for (; kept_.size() > kKept; kept_.pop_front()) dropped_.fetch_add(1, std::memory_order_relaxed);
}

RedisCourier::Figures RedisCourier::figures() const {
  return {up_.load(std::memory_order_relaxed), sent_.load(std::memory_order_relaxed),
          received_.load(std::memory_order_relaxed), dropped_.load(std::memory_order_relaxed)};
}

bool RedisCourier::stopping() const {
  const std::lock_guard lock(mutex_);
  return stopping_;
}

// ---- the thread
// ----------------------------------------------------------------------------------

void RedisCourier::Run() {
  pthread_setname_np(pthread_self(), "redis");
  // Signals are the main thread's.
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  while (!stopping()) {
    if ((redis_ || Connect()) && Send() && Read()) continue;
    Lost();
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, kPause, [this] { return stopping_; });
  }
  if (redis_) (void)Send();
}

bool RedisCourier::Connect() {
  redis_.reset(socket_.path.empty()
                   ? redisConnectWithTimeout(socket_.address.host.c_str(), socket_.address.port,
                                             kConnectTimeout)
                   : redisConnectUnixWithTimeout(socket_.path.c_str(), kConnectTimeout));
  if (!redis_ || redis_->err != 0) {
    problem_ = redis_ ? redis_->errstr : "no memory";
    return false;
  }
  redisSetTimeout(redis_.get(), kAnswerTimeout);
  if (!LogIn()) return false;
  const Reply time = Ask({"TIME"});
  if (!time) return false;
  if (!IsArray(time.get(), 2)) {
    problem_ = "no answer to TIME";
    return false;
  }
  redis_now_ms_ = Number(TextOf(time->element[0])) * 1000 + Number(TextOf(time->element[1])) / 1000;
  asked_ms_ = NowMs();
  if (last_.empty()) {
    const uint64_t oldest = kHalfLives * half_life_ms_;
    last_ = std::to_string(redis_now_ms_ - std::min(redis_now_ms_, oldest)) + "-0";
  }
  return true;
}

bool RedisCourier::LogIn() {
  if (password_.empty()) return true;
  Words words = {"AUTH"};
  if (!user_.empty()) words.push_back(user_);
  words.push_back(password_.Reveal());
  return Ask(words) != nullptr;
}

bool RedisCourier::Send() {
  std::vector<ThrottleEvent> events;
  {
    const std::lock_guard lock(mutex_);
    const auto end = kept_.begin() + static_cast<ptrdiff_t>(std::min(kept_.size(), kBatch));
    events.assign(kept_.begin(), end);
    kept_.erase(kept_.begin(), end);
  }
  for (size_t i = 0; i < events.size(); ++i) {
    if (Ask({"XADD", kStream, "MAXLEN", "~", kMostEntries, "*", "e", Encode(events[i])})) {
      sent_.fetch_add(1, std::memory_order_relaxed);
      continue;
    }
    const std::lock_guard lock(mutex_);  // the rest waits for another connection
    kept_.insert(kept_.begin(), events.begin() + static_cast<ptrdiff_t>(i), events.end());
    DropOldest();  // others may have come meanwhile
    return false;
  }
  if (events.empty()) return true;
  return Ask({"PEXPIRE", kStream, std::to_string(kHalfLives * half_life_ms_)}) != nullptr;
}

// Read waits for a moment when there is nothing new.
bool RedisCourier::Read() {
  const Reply reply = Ask({"XREAD", "COUNT", "500", "BLOCK", kBlockMs, "STREAMS", kStream, last_});
  if (!reply) return false;
  if (!std::exchange(reported_, true) || !up_.load(std::memory_order_relaxed)) {
    up_.store(true, std::memory_order_relaxed);
    log_->Write(observe::Level::kInfo, "throttle_shared", {{"redis", config::Text(socket_)}});
  }
  if (reply->type == REDIS_REPLY_NIL) return true;
  // [[stream, [[id, [field, value, …]], …]]]
  if (!IsArray(reply.get(), 1) || !IsArray(reply->element[0], 2) ||
      !IsArray(reply->element[0]->element[1], 0)) {
    problem_ = "no answer to XREAD";
    return false;
  }
  const redisReply& entries = *reply->element[0]->element[1];
  for (size_t i = 0; i < entries.elements; ++i) {
    if (IsArray(entries.element[i], 2)) Take(*entries.element[i]);
  }
  return true;
}

void RedisCourier::Take(const redisReply& entry) {
  const std::string_view id = TextOf(entry.element[0]);
  if (id.empty()) return;
  last_ = id;
  const redisReply* fields = entry.element[1];
  if (!IsArray(fields, 2)) return;
  const auto event = ParseThrottleEvent(TextOf(fields->element[1]));
  if (!event || event->origin == origin_) return;
  received_.fetch_add(1, std::memory_order_relaxed);
  const uint64_t now_ms = NowMs();
  const uint64_t redis_ms = redis_now_ms_ + (now_ms - asked_ms_);
  const uint64_t seen_ms = Number(id);
  throttle_.Apply(*event, redis_ms > seen_ms ? redis_ms - seen_ms : 0, now_ms);
}

RedisCourier::Reply RedisCourier::Ask(const Words& words) {
  std::vector<const char*> texts;
  std::vector<size_t> lengths;
  for (const std::string_view word : words) {
    texts.push_back(word.data());
    lengths.push_back(word.size());
  }
  Reply reply(static_cast<redisReply*>(redisCommandArgv(
      redis_.get(), static_cast<int>(words.size()), texts.data(), lengths.data())));
  if (!reply) {
    problem_ = redis_->errstr;
  } else if (reply->type == REDIS_REPLY_ERROR) {
    problem_.assign(reply->str, reply->len);
    reply.reset();
  }
  return reply;
}

void RedisCourier::Lost() {
  redis_.reset();
  if (std::exchange(reported_, true) && !up_.load(std::memory_order_relaxed)) return;
  up_.store(false, std::memory_order_relaxed);
  log_->Write(observe::Level::kWarning, "throttle_not_shared",
              {{"redis", config::Text(socket_)}, {"detail", problem_}});
}

}  // namespace gatepost::auth
