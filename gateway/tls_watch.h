// Takes renewed certificates, CAs, CRLs and users of certificates into use while the gateway runs.
//
// A thread of its own looks at the files (tls_files.h) when the file system tells of an event, when
// a signal asks for it, and every so often, since events do not come from everywhere. Public
// functions are for any thread.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <uv.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "gateway/net/uv_handle.h"
#include "gateway/observe/log.h"
#include "gateway/tls_files.h"

namespace gatepost {

class TlsWatch {
 public:
  // What is called when something of the files is new, on this object's thread.
  using Offer = std::function<void(const TlsFiles&)>;

  // What came of looking at the files.
  struct Reloaded {
    std::vector<TlsFiles::News> refused;
    size_t certificates = 0;  // in use now
    size_t ticket_keys = 0;
    uint64_t duration_ms = 0;
  };

  // Starts the thread; `log` must outlive it.
  TlsWatch(std::unique_ptr<TlsFiles> files, std::chrono::milliseconds poll_interval,
           observe::Log& log, Offer offer);
  ~TlsWatch();
  TlsWatch(const TlsWatch&) = delete;
  TlsWatch& operator=(const TlsWatch&) = delete;

  // ReloadAll has everything read and waits for it: not for a loop. What becomes of each part is in
  // the log; LogReload is the caller's. Nothing is read behind End. One call at a time.
  [[nodiscard]] Reloaded ReloadAll();

  // LogReload writes the line that sums up.
  static void LogReload(observe::Log& log, std::string_view trigger, const Reloaded& reloaded);

  // End stops looking, for good; a look under way is finished first. Not thread-safe.
  void End();

  // What the metrics say of the files now, or at the end.
  [[nodiscard]] std::shared_ptr<const TlsFiles::Series> series() const;

 private:
  using Identity = std::pair<uint64_t, uint64_t>;  // device and inode
  struct Watch {
    Identity folder;
    net::HandlePtr<uv_fs_event_t> handle;  // null: it cannot be watched
  };

  void Run();
  void OnWake();
  void OnEvent();
  Reloaded Look(TlsFiles::Look look);
  bool WatchFolders();
  void Tell(const TlsFiles::News& news);
  void Publish();

  const std::unique_ptr<TlsFiles> files_;
  const std::chrono::milliseconds poll_interval_;
  observe::Log& log_;
  const Offer offer_;

  mutable std::mutex mutex_;  // guards these four
  std::shared_ptr<const TlsFiles::Series> series_;
  bool reload_wanted_ = false;
  bool end_wanted_ = false;
  Reloaded reloaded_;                   // once reload_wanted_ is false again
  std::condition_variable reload_end_;  // when that or end_wanted_ changes

  uv_loop_t loop_{};
  net::HandlePtr<uv_async_t> wake_;
  net::HandlePtr<uv_timer_t> quiet_;  // runs out when events have ceased
  net::HandlePtr<uv_timer_t> poll_;
  std::map<std::filesystem::path, Watch> watches_;
  uint64_t first_event_ms_ = 0;  // of those not looked at yet; 0: there are none
  bool watch_failure_told_ = false;
  std::thread thread_;
};

}  // namespace gatepost
