// SPDX-License-Identifier: Apache-2.0
#include "gateway/observe/log.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <pthread.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <iterator>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

namespace gatepost::observe {
namespace {

constexpr size_t kMaxPendingBytes =
    size_t{16} * 1024 * 1024;  // of lines not written yet; then they drop
constexpr size_t kKeepBytes = size_t{16} * 1024;
constexpr auto kGather = std::chrono::milliseconds(20);
constexpr size_t kMaxValueBytes = 512;

std::string_view Name(Level level) {
  static constexpr std::array<std::string_view, 4> kNames = {"debug", "info", "warning", "error"};
  return kNames[static_cast<size_t>(level)];
}

bool NeedsQuotes(std::string_view text) {
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte <= 0x20 || byte == 0x7F || byte >= 0x80 || c == '"' || c == '=' || c == '\\')
      return true;
  }
  return text.empty();
}

// AppendQuoted writes a JSON string in ASCII. Valid UTF-8 is not assumed: every byte above 0x7E is
// written as \u00XX, so that one malformed name can't make a line unreadable for its parser.
void AppendQuoted(std::string_view text, std::string& line) {
  line += '"';
  for (const char c : text.substr(0, kMaxValueBytes)) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      line += '\\';
      line += c;
    } else if (byte < 0x20 || byte > 0x7E) {
      fmt::format_to(std::back_inserter(line), "\\u{:04x}", byte);
    } else {
      line += c;
    }
  }
  line += '"';
}

void AppendField(config::LogFormat format, const Field& field, std::string& line) {
  const auto* text = std::get_if<std::string_view>(&field.value);
  if (text != nullptr && text->empty()) return;
  if (format == config::LogFormat::kJson) {
    if (line.size() > 1) line += ',';
    AppendQuoted(field.key, line);
    line += ':';
  } else {
    if (!line.empty()) line += ' ';
    line += field.key;
    line += '=';
  }
  if (text != nullptr) {
    if (format == config::LogFormat::kJson || NeedsQuotes(*text)) {
      AppendQuoted(*text, line);
    } else {
      line += text->substr(0, kMaxValueBytes);
    }
  } else if (const auto* number = std::get_if<int64_t>(&field.value)) {
    fmt::format_to(std::back_inserter(line), "{}", *number);
  } else {
    fmt::format_to(std::back_inserter(line), "{:.3f}", std::get<double>(field.value));
  }
}

}  // namespace

std::string FormatLine(config::LogFormat format, std::string_view time, Level level,
                       std::string_view event, std::initializer_list<Field> fields) {
  std::string line;
  line.reserve(512);
  if (format == config::LogFormat::kJson) line += '{';
  AppendField(format, {"ts", time}, line);
  AppendField(format, {"level", Name(level)}, line);
  AppendField(format, {"event", event}, line);
  for (const Field& field : fields) AppendField(format, field, line);
  if (format == config::LogFormat::kJson) line += '}';
  return line;
}

// Sink is the writer: lines are appended to `pending` and written in batches by its thread.
// (spdlog's asynchronous logger costs 400 bytes a queued line, allocated at start, and a wake-up a
// line: 6 % of the CPU of a login.)
struct Log::Sink {
  explicit Sink(int file) : descriptor(file), writer([this] { Run(); }) {}

  ~Sink() {
    {
      const std::lock_guard lock(mutex);
      stopping = true;
    }
    wake.notify_one();
    writer.join();
    if (descriptor != STDERR_FILENO) close(descriptor);
  }

  void Append(const std::string& line) {
    bool first = false;
    {
      const std::lock_guard lock(mutex);
      if (pending.size() + line.size() > kMaxPendingBytes) {
        ++dropped;
        return;
      }
      first = pending.empty();
      pending.append(line).push_back('\n');
    }
    if (first) wake.notify_one();
  }

  void Run() {
    pthread_setname_np(pthread_self(), "log");
    std::string batch;
    std::unique_lock lock(mutex);
    for (;;) {
      wake.wait(lock, [this] { return stopping || !pending.empty(); });
      if (pending.empty()) return;
      // Let a few more lines gather: one wake-up and one write for all of them.
      if (!stopping) wake.wait_for(lock, kGather, [this] { return stopping; });
      batch.swap(pending);
      lock.unlock();
      WriteAll(batch);
      if (batch.capacity() > kKeepBytes) batch = {};
      batch.clear();
      lock.lock();
    }
  }

  void WriteAll(std::string_view bytes) const {
    while (!bytes.empty()) {
      const ssize_t written = write(descriptor, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) return;  // a full disk: there is nobody to tell
      bytes.remove_prefix(static_cast<size_t>(written));
    }
  }

  const int descriptor;
  std::mutex mutex;
  std::condition_variable wake;
  std::string pending;
  uint64_t dropped = 0;
  bool stopping = false;
  std::thread writer;  // last: it uses all the others
};

Log::Log(const config::Log& settings) : format_(settings.format), level_(settings.level) {
  int descriptor = STDERR_FILENO;
  if (settings.file) {
    descriptor = open(settings.file->c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    if (descriptor < 0) {
      throw std::system_error(errno, std::generic_category(), settings.file->string());
    }
  }
  sink_ = std::make_unique<Sink>(descriptor);
}

Log::~Log() = default;

void Log::Write(Level level, std::string_view event, std::initializer_list<Field> fields) {
  if (level < level_) return;
  const auto now = std::chrono::system_clock::now();
  const auto milliseconds =
      std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() % 1000;
  const std::string time =
      fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z",
                  fmt::gmtime(std::chrono::system_clock::to_time_t(now)), milliseconds);
  sink_->Append(FormatLine(format_, time, level, event, fields));
}

uint64_t Log::dropped() const {
  const std::lock_guard lock(sink_->mutex);
  return sink_->dropped;
}

}  // namespace gatepost::observe
