// SPDX-License-Identifier: Apache-2.0
#include "gateway/tls_watch.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <pthread.h>
#include <sys/stat.h>

#include <algorithm>
#include <csignal>
#include <string>

namespace gatepost {
namespace {

using observe::Level;

constexpr uint64_t kQuietMs = 300;         // a renewal writes several files
constexpr uint64_t kLongestMs = 2'000;     // but a folder that is never quiet is looked at too
constexpr uint64_t kSecondLookMs = 1'000;  // at what was seen broken for the first time
constexpr size_t kProblemsInLine = 3;

}  // namespace

TlsWatch::TlsWatch(std::unique_ptr<TlsFiles> files, std::chrono::milliseconds poll_interval,
                   observe::Log& log, Offer offer)
    : files_(std::move(files)),
      poll_interval_(poll_interval),
      log_(log),
      offer_(std::move(offer)),
      wake_(new uv_async_t),
      quiet_(new uv_timer_t),
      poll_(new uv_timer_t) {
  uv_loop_init(&loop_);
  uv_async_init(&loop_, wake_.get(),
                [](uv_async_t* async) { static_cast<TlsWatch*>(async->data)->OnWake(); });
  uv_timer_init(&loop_, quiet_.get());
  uv_timer_init(&loop_, poll_.get());
  wake_->data = quiet_->data = poll_->data = this;
  Publish();
  // The watches first: what changed before them, and what the user that we have become cannot read,
  // is seen by the thread's first look.
  WatchFolders();
  thread_ = std::thread([this] { Run(); });
}

TlsWatch::~TlsWatch() {
  End();
  watches_.clear();
  wake_.reset();
  quiet_.reset();
  poll_.reset();
  uv_run(&loop_, UV_RUN_DEFAULT);
  uv_loop_close(&loop_);
}

void TlsWatch::End() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    end_wanted_ = true;
  }
  reload_end_.notify_all();
  uv_async_send(wake_.get());
  thread_.join();
}

TlsWatch::Reloaded TlsWatch::ReloadAll() {
  std::unique_lock lock(mutex_);
  if (end_wanted_) return {};
  reload_wanted_ = true;
  uv_async_send(wake_.get());
  reload_end_.wait(lock, [this] { return !reload_wanted_ || end_wanted_; });
  return std::exchange(reloaded_, {});
}

std::shared_ptr<const TlsFiles::Series> TlsWatch::series() const {
  const std::lock_guard lock(mutex_);
  return series_;
}

void TlsWatch::Publish() {
  auto series = std::make_shared<const TlsFiles::Series>(files_->series());
  const std::lock_guard lock(mutex_);
  series_.swap(series);
}

// ---- the thread
// ----------------------------------------------------------------------------------

void TlsWatch::Run() {
  pthread_setname_np(pthread_self(), "tls-files");
  sigset_t all;  // signals are the main thread's
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);

  Look(TlsFiles::Look::kChanged);
  const auto interval = static_cast<uint64_t>(poll_interval_.count());
  uv_update_time(&loop_);
  uv_timer_start(
      poll_.get(),
      [](uv_timer_t* timer) {
        static_cast<TlsWatch*>(timer->data)->Look(TlsFiles::Look::kChanged);
      },
      interval, interval);
  uv_run(&loop_, UV_RUN_DEFAULT);
}

void TlsWatch::OnWake() {
  bool reload = false;
  {
    const std::lock_guard lock(mutex_);
    if (end_wanted_) {
      uv_stop(&loop_);
      return;
    }
    reload = reload_wanted_;
  }
  if (!reload) return;
  Reloaded reloaded = Look(TlsFiles::Look::kAll);
  {
    const std::lock_guard lock(mutex_);
    reloaded_ = std::move(reloaded);
    reload_wanted_ = false;
  }
  reload_end_.notify_all();
}

void TlsWatch::OnEvent() {
  const uint64_t now = uv_now(&loop_);
  if (first_event_ms_ == 0) first_event_ms_ = now;
  const uint64_t latest = first_event_ms_ + kLongestMs;
  uv_timer_start(
      quiet_.get(),
      [](uv_timer_t* timer) {
        static_cast<TlsWatch*>(timer->data)->Look(TlsFiles::Look::kChanged);
      },
      std::min(kQuietMs, latest > now ? latest - now : 0), 0);
}

TlsWatch::Reloaded TlsWatch::Look(TlsFiles::Look look) {
  first_event_ms_ = 0;
  uv_timer_stop(quiet_.get());
  const uint64_t began = uv_hrtime();
  TlsFiles::Outcome outcome = files_->Refresh(look);
  if (outcome.changed) offer_(*files_);
  Publish();
  Reloaded reloaded{.refused = {},
                    .certificates = files_->certificates().size(),
                    .ticket_keys = files_->ticket_keys().size(),
                    .duration_ms = (uv_hrtime() - began) / 1'000'000};
  for (TlsFiles::News& news : outcome.news) {
    Tell(news);
    if (!news.problem.empty()) reloaded.refused.push_back(std::move(news));
  }
  if (look == TlsFiles::Look::kChanged && outcome.changed) LogReload(log_, "files", reloaded);
  uv_update_time(&loop_);
  // A new folder may have been filled before it was watched.
  if (WatchFolders()) OnEvent();
  if (outcome.again) {
    uv_timer_start(
        quiet_.get(),
        [](uv_timer_t* timer) {
          static_cast<TlsWatch*>(timer->data)->Look(TlsFiles::Look::kChanged);
        },
        kSecondLookMs, 0);
  }
  return reloaded;
}

// WatchFolders makes the watches fit the folders that there are now, and returns whether there is a
// new one.
bool TlsWatch::WatchFolders() {
  const std::vector<std::filesystem::path> folders = files_->Folders();
  bool added = false;
  for (const std::filesystem::path& folder : folders) {
    struct stat status {};
    if (stat(folder.c_str(), &status) != 0) continue;
    const Identity identity(status.st_dev, status.st_ino);
    const auto known = watches_.find(folder);
    if (known != watches_.end() && known->second.folder == identity) continue;
    net::HandlePtr<uv_fs_event_t> handle(new uv_fs_event_t);
    uv_fs_event_init(&loop_, handle.get());
    handle->data = this;
    const int error = uv_fs_event_start(
        handle.get(),
        [](uv_fs_event_t* event, const char*, int, int) {
          if (event->data != nullptr) static_cast<TlsWatch*>(event->data)->OnEvent();
        },
        folder.c_str(), 0);
    if (error != 0) {
      handle.reset();
      if (!watch_failure_told_) {
        log_.Write(Level::kWarning, "watch_failed",
                   {{"folder", folder.string()},
                    {"error", uv_strerror(error)},
                    {"detail", "changes are seen after process.file_poll_interval"}});
      }
      watch_failure_told_ = true;
    }
    added = added || handle != nullptr;
    watches_[folder] = {identity, std::move(handle)};
  }
  std::erase_if(watches_, [&folders](const auto& watch) {
    return !std::binary_search(folders.begin(), folders.end(), watch.first);
  });
  return added;
}

void TlsWatch::Tell(const TlsFiles::News& news) {
  if (news.certificate) {
    const tls::CertificateInfo& info = news.certificate->info();
    return log_.Write(
        Level::kInfo, "certificate",
        {{"result", "ok"},
         {"file", news.part},
         {"name", info.names.empty() ? std::string_view() : info.names.front()},
         {"not_after",
          fmt::format("{:%Y-%m-%dT%H:%M:%SZ}",
                      fmt::gmtime(std::chrono::system_clock::to_time_t(info.not_after)))}});
  }
  const bool good = news.problem.empty();
  log_.Write(good ? Level::kInfo : Level::kError, "certificate",
             {{"result", good ? "ok" : "failed"}, {"file", news.part}, {"detail", news.problem}});
}

void TlsWatch::LogReload(observe::Log& log, std::string_view trigger, const Reloaded& reloaded) {
  const size_t failed = reloaded.refused.size();
  std::string problems;
  for (size_t i = 0; i < std::min(failed, kProblemsInLine); ++i) {
    problems += (i == 0 ? "" : "; ") + reloaded.refused[i].problem;
  }
  if (failed > kProblemsInLine) {
    problems += fmt::format("; and {} more", failed - kProblemsInLine);
  }
  log.Write(failed == 0 ? Level::kInfo : Level::kError, "reload",
            {{"trigger", trigger},
             {"result", failed == 0 ? "ok" : "failed"},
             {"certificates", reloaded.certificates},
             {"ticket_keys", reloaded.ticket_keys},
             {"duration_ms", reloaded.duration_ms},
             {"detail", problems}});
}

}  // namespace gatepost
