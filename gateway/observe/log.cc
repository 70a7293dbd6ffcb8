// SPDX-License-Identifier: Apache-2.0
#include "gateway/observe/log.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <spdlog/async.h>
#include <spdlog/async_logger.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <array>
#include <chrono>
#include <iterator>
#include <utility>

namespace gatepost::observe {
namespace {

constexpr size_t kQueueLines = 2048;  // 350 bytes each, allocated at once
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

struct Log::Sink {
  std::shared_ptr<spdlog::details::thread_pool> thread;
  std::shared_ptr<spdlog::async_logger> logger;
};

Log::Log(const config::Log& settings)
    : sink_(std::make_unique<Sink>()), format_(settings.format), level_(settings.level) {
  spdlog::sink_ptr target;
  if (settings.file) {
    target = std::make_shared<spdlog::sinks::basic_file_sink_mt>(settings.file->string());
  } else {
    target = std::make_shared<spdlog::sinks::stderr_sink_mt>();
  }
  target->set_pattern("%v");
  sink_->thread = std::make_shared<spdlog::details::thread_pool>(kQueueLines, 1);
  sink_->logger = std::make_shared<spdlog::async_logger>(
      "gatepost", std::move(target), sink_->thread, spdlog::async_overflow_policy::overrun_oldest);
  sink_->logger->flush_on(spdlog::level::info);
}

Log::~Log() = default;  // the thread pool writes its queue before it joins

void Log::Write(Level level, std::string_view event, std::initializer_list<Field> fields) {
  if (level < level_) return;
  const auto now = std::chrono::system_clock::now();
  const auto milliseconds =
      std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() % 1000;
  const std::string time =
      fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z",
                  fmt::gmtime(std::chrono::system_clock::to_time_t(now)), milliseconds);
  const std::string line = FormatLine(format_, time, level, event, fields);
  sink_->logger->log(spdlog::level::info, spdlog::string_view_t(line.data(), line.size()));
}

uint64_t Log::dropped() const {
  return sink_->thread->overrun_counter();
}

}  // namespace gatepost::observe
