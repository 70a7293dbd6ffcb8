// The log: one structured line an event, logfmt or JSON, written by a thread of its own.
//
// A worker never waits for the disk: when the queue is full the oldest lines are dropped and
// counted. Every value is escaped here, so untrusted bytes can't forge a line; secrets have no way
// in (a sasl::Secret does not convert). Thread-safe.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <variant>

#include "config/schema.h"

namespace gatepost::observe {

using Level = config::LogLevel;

// One key and its value. Text is borrowed for the call. Empty text is left out of the line.
struct Field {
  std::string_view key;
  std::variant<std::string_view, int64_t, double> value;

  Field(std::string_view k, std::string_view text) : key(k), value(text) {}
  Field(std::string_view k, const std::string& text) : key(k), value(std::string_view(text)) {}
  Field(std::string_view k, const char* text) : key(k), value(std::string_view(text)) {}
  Field(std::string_view k, int64_t number) : key(k), value(number) {}
  Field(std::string_view k, uint64_t number) : key(k), value(static_cast<int64_t>(number)) {}
  Field(std::string_view k, uint32_t number) : key(k), value(static_cast<int64_t>(number)) {}
  Field(std::string_view k, int number) : key(k), value(static_cast<int64_t>(number)) {}
  Field(std::string_view k, double number) : key(k), value(number) {}
};

class Log {
 public:
  // Opens the destination; throws std::system_error when the file can't be opened (start-up only).
  explicit Log(const config::Log& settings);
  ~Log();  // writes what is queued
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  // Write appends one line: time, level, event, then the fields in their order.
  void Write(Level level, std::string_view event, std::initializer_list<Field> fields);

  // Lines dropped since the queue was full.
  [[nodiscard]] uint64_t dropped() const;

 private:
  struct Sink;
  std::unique_ptr<Sink> sink_;
  config::LogFormat format_;
  Level level_;
};

// FormatLine is what Write writes, without the line end; exposed for tests and benchmarks.
[[nodiscard]] std::string FormatLine(config::LogFormat format, std::string_view time, Level level,
                                     std::string_view event, std::initializer_list<Field> fields);

}  // namespace gatepost::observe
