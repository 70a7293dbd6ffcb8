// SPDX-License-Identifier: Apache-2.0
#include "gateway/control/tables.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

namespace gatepost::control {
namespace {

using nlohmann::json;

constexpr double kLastSecondOfTheYear9999 = 253'402'300'799;

// Printable keeps what a terminal shows as it is. C1 controls are two bytes of UTF-8.
std::string Printable(std::string_view text) {
  std::string shown;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const bool c1 =
        byte == 0xC2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xA0;
    if (c1) ++i;
    shown += byte < 0x20 || byte == 0x7F || c1 ? '?' : text[i];
  }
  return shown;
}

std::string Text(const json& entry, const char* key) {
  const auto found = entry.find(key);
  return found == entry.end() || !found->is_string() ? std::string()
                                                     : Printable(found->get<std::string>());
}

double Number(const json& entry, const char* key) {
  const auto found = entry.find(key);
  return found == entry.end() || !found->is_number() ? 0 : found->get<double>();
}

std::string Count(const json& entry, const char* key) {
  return fmt::format("{:.0f}", Number(entry, key));
}

json List(const json& result, const char* key) {
  const auto found = result.find(key);
  return found == result.end() || !found->is_array() ? json::array() : *found;
}

std::string Duration(double seconds) {
  if (seconds < 60) return fmt::format("{:.0f}s", seconds);
  if (seconds < 3600) return fmt::format("{:.0f}m", seconds / 60);
  if (seconds < 48 * 3600) return fmt::format("{:.1f}h", seconds / 3600);
  return fmt::format("{:.0f}d", seconds / 86400);
}

std::string Bytes(double bytes) {
  static constexpr std::array<std::string_view, 5> kUnits = {"B", "kB", "MB", "GB", "TB"};
  size_t unit = 0;
  while (bytes >= 1000 && unit + 1 < kUnits.size()) {
    bytes /= 1000;
    ++unit;
  }
  return fmt::format("{:.{}f} {}", bytes, bytes < 10 && unit > 0 ? 1 : 0, kUnits[unit]);
}

// Width counts characters, not the bytes of their UTF-8.
size_t Width(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

// A table whose columns are as wide as they have to be; those of `numbers` are set to the right.
class Table {
 public:
  Table(std::vector<std::string> head, std::vector<size_t> numbers)
      : numbers_(std::move(numbers)), rows_{std::move(head)} {}

  void Add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }

  [[nodiscard]] std::string Show() const {
    std::vector<size_t> widths(rows_.front().size());
    for (const auto& row : rows_) {
      for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], Width(row[i]));
    }
    std::string text;
    for (const auto& row : rows_) {
      std::string line;
      for (size_t i = 0; i < row.size(); ++i) {
        const std::string padding(widths[i] - Width(row[i]), ' ');
        const bool right = std::find(numbers_.begin(), numbers_.end(), i) != numbers_.end();
        if (i > 0) line += "  ";
        line += right ? padding + row[i] : row[i] + padding;
      }
      text += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
    }
    return text;
  }

 private:
  std::vector<size_t> numbers_;
  std::vector<std::vector<std::string>> rows_;
};

std::string ShowFailedLogins(const json& result) {
  constexpr size_t kShown = 10;
  const json list = List(result, "failed_logins");
  if (list.empty()) return {};
  const double now = Number(result, "time");
  Table table({"FAILED LOGIN", "PROTOCOL", "USER", "CLIENT", "REASON"}, {0});
  for (size_t i = 0; i < std::min(list.size(), kShown); ++i) {
    table.Add({Duration(now - Number(list[i], "time")) + " ago", Text(list[i], "protocol"),
               Text(list[i], "user"), Text(list[i], "client"), Text(list[i], "reason")});
  }
  return "\n" + table.Show();
}

}  // namespace

std::string ShowStatus(const json& result) {
  const std::string problem = Text(result, "problem");
  std::string text = fmt::format(
      "{}: gatepost {}, {}{}\nprocess {}, up {}, {} workers, {} of {} connections\n",
      Text(result, "hostname"), Text(result, "version"), Text(result, "state"),
      problem.empty() ? "" : ": " + problem, Count(result, "pid"),
      Duration(Number(result, "time") - Number(result, "started")), Count(result, "workers"),
      Count(result, "connections"), Count(result, "connection_limit"));
  for (const json& entry : List(result, "old_processes")) {
    text += fmt::format("process {} from before an upgrade, {} connections\n", Count(entry, "pid"),
                        Count(entry, "connections"));
  }
  text += "\n";
  Table protocols({"PROTOCOL", "CONNECTIONS", "SESSIONS", "LOGINS", "REFUSED", "DEFERRED",
                   "LIMITED", "IN", "OUT"},
                  {1, 2, 3, 4, 5, 6, 7, 8});
  for (const json& entry : List(result, "protocols")) {
    protocols.Add({Text(entry, "protocol"), Count(entry, "connections"), Count(entry, "sessions"),
                   Count(entry, "logins_ok"), Count(entry, "logins_failed"),
                   Count(entry, "logins_deferred"), Count(entry, "logins_limited"),
                   Bytes(Number(entry, "bytes_in")), Bytes(Number(entry, "bytes_out"))});
  }
  Table listeners({"LISTENER", "ADDRESSES", "TLS", "POOL", "CONNECTIONS", "ACCEPTED"}, {4, 5});
  for (const json& entry : List(result, "listeners")) {
    std::string addresses;
    for (const json& address : List(entry, "addresses")) {
      if (!address.is_string()) continue;
      addresses += (addresses.empty() ? "" : " ") + Printable(address.get<std::string>());
    }
    listeners.Add({Text(entry, "name"), addresses, Text(entry, "tls"), Text(entry, "pool"),
                   Count(entry, "connections"), Count(entry, "accepted")});
  }
  return text + protocols.Show() + "\n" + listeners.Show() + "\n" + ShowBackends(result) + "\n" +
         ShowCertificates(result) + ShowFailedLogins(result);
}

std::string ShowSessions(const json& result) {
  Table table({"SESSION", "PROTOCOL", "USER", "CLIENT", "BACKEND", "TLS", "STATE", "AGE", "IDLE",
               "IN", "OUT"},
              {7, 8, 9, 10});
  const json sessions = List(result, "sessions");
  for (const json& entry : sessions) {
    table.Add({Text(entry, "id"), Text(entry, "protocol"), Text(entry, "user"),
               Text(entry, "client"), Text(entry, "backend"), Text(entry, "tls"),
               Text(entry, "state"), Duration(Number(entry, "age_ms") / 1000),
               Duration(Number(entry, "idle_ms") / 1000), Bytes(Number(entry, "bytes_in")),
               Bytes(Number(entry, "bytes_out"))});
  }
  return fmt::format("{}{} of {} sessions\n", sessions.empty() ? "" : table.Show(), sessions.size(),
                     Count(result, "matched"));
}

std::string ShowBackends(const json& result) {
  Table table(
      {"POOL", "PROTOCOL", "MEMBER", "STATE", "SESSIONS", "SHARE", "WEIGHT", "LOGIN", "PROBLEM"},
      {4, 5, 6, 7});
  for (const json& entry : List(result, "backends")) {
    table.Add(
        {Text(entry, "pool"), Text(entry, "protocol"), Text(entry, "member"), Text(entry, "state"),
         Count(entry, "sessions"), fmt::format("{:.0f} %", Number(entry, "share") * 100),
         Count(entry, "weight"),
         entry.contains("login_ms") ? fmt::format("{:.1f} ms", Number(entry, "login_ms")) : "-",
         Text(entry, "problem")});
  }
  return table.Show();
}

std::string ShowCertificates(const json& result) {
  Table table({"CERTIFICATE", "NAME", "UNTIL", "DAYS", "PROBLEM"}, {3});
  for (const json& entry : List(result, "certificates")) {
    const auto until = static_cast<std::time_t>(
        std::clamp(Number(entry, "not_after"), 0.0, kLastSecondOfTheYear9999));
    table.Add({Text(entry, "certificate"), Text(entry, "name"),
               until == 0 ? "" : fmt::format("{:%Y-%m-%d}", fmt::gmtime(until)),
               until == 0 ? "" : Count(entry, "days_left"), Text(entry, "problem")});
  }
  return table.Show();
}

std::string ShowKick(const json& result) {
  const std::string count = Count(result, "kicked");
  return count + (count == "1" ? " session is" : " sessions are") + " asked to end\n";
}

std::string ShowDrain(const json& result) {
  const auto begun = result.find("begun");
  const bool first = begun != result.end() && begun->is_boolean() && begun->get<bool>();
  return fmt::format("{}, {} connections left\n",
                     first ? "the gateway drains" : "the gateway was draining already",
                     Count(result, "connections"));
}

std::string ShowReload(const json& result) {
  const auto changed = result.find("changed");
  const bool is_new = changed != result.end() && changed->is_boolean() && changed->get<bool>();
  std::string text = is_new ? fmt::format("the configuration is in use, as generation {}",
                                          Count(result, "generation"))
                            : std::string("the configuration is as before");
  const json refused = List(result, "not_taken");
  if (!refused.empty()) {
    text += "; of the certificates and their kin these are not taken:\n";
    for (const json& file : refused) {
      text += fmt::format("{}: {}\n", Text(file, "file"), Text(file, "problem"));
    }
  } else {
    text += is_new ? "\n" : "; certificates and their kin are read\n";
  }
  if (const std::string restart = Text(result, "restart"); !restart.empty()) {
    text += fmt::format("changes only with a restart: {}\n", restart);
  }
  return text;
}

std::string ShowUpgrade(const json& result) {
  return fmt::format("process {} serves; {} connections stay with the one before\n",
                     Count(result, "process"), Count(result, "sessions"));
}

}  // namespace gatepost::control
