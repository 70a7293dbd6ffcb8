// SPDX-License-Identifier: Apache-2.0
#include "tests/benchmark/load/process_tree.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace gatepost::benchmark {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> Entries(const fs::path& folder) {
  std::vector<fs::path> entries;
  std::error_code gone;
  for (fs::directory_iterator it(folder, gone); !gone && it != fs::directory_iterator();
       it.increment(gone)) {
    entries.push_back(it->path());
  }
  return entries;
}

// The field of /proc/PID/stat at `index`, counted as proc(5) does; the name (2) may hold blanks.
uint64_t StatField(const std::string& stat, int index) {
  std::istringstream fields(stat.substr(stat.rfind(')') + 2));
  std::string field;
  for (int i = 3; i <= index; ++i) fields >> field;
  return std::strtoull(field.c_str(), nullptr, 10);
}

std::string ReadAll(const fs::path& file) {
  std::ifstream in(file);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

fs::path Folder(pid_t pid) {
  return fs::path("/proc") / std::to_string(pid);
}

}  // namespace

std::vector<pid_t> ProcessTree::Processes() const {
  std::vector<std::pair<pid_t, pid_t>> all;  // process, parent
  for (const fs::path& entry : Entries("/proc")) {
    const pid_t pid = std::atoi(entry.filename().c_str());
    if (pid <= 0) continue;
    const std::string stat = ReadAll(entry / "stat");
    if (stat.find(')') != std::string::npos) {
      all.emplace_back(pid, static_cast<pid_t>(StatField(stat, 4)));
    }
  }
  std::vector<pid_t> tree = {root_};
  for (size_t i = 0; i < tree.size(); ++i) {
    for (const auto& [pid, parent] : all) {
      if (parent == tree[i] && pid != root_) tree.push_back(pid);
    }
  }
  return tree;
}

uint64_t ProcessTree::CpuNanoseconds() const {
  const uint64_t tick = 1'000'000'000ULL / static_cast<uint64_t>(sysconf(_SC_CLK_TCK));
  uint64_t sum = 0;
  for (const pid_t pid : Processes()) {
    uint64_t threads = 0;
    for (const fs::path& thread : Entries(Folder(pid) / "task")) {
      uint64_t running = 0;
      std::ifstream(thread / "schedstat") >> running;
      threads += running;
    }
    const std::string stat = ReadAll(Folder(pid) / "stat");
    if (stat.empty()) continue;
    // utime and stime count threads that ended, too, but only in ticks.
    sum += std::max(threads, (StatField(stat, 14) + StatField(stat, 15)) * tick);
    sum += (StatField(stat, 16) + StatField(stat, 17)) * tick;  // cutime, cstime
  }
  return sum;
}

uint64_t ProcessTree::PssBytes() const {
  uint64_t sum = 0;
  for (const pid_t pid : Processes()) {
    std::ifstream rollup(Folder(pid) / "smaps_rollup");
    for (std::string line; std::getline(rollup, line);) {
      if (line.starts_with("Pss:")) sum += std::strtoull(line.c_str() + 4, nullptr, 10) * 1024;
    }
  }
  return sum;
}

uint64_t ProcessTree::Descriptors() const {
  uint64_t sum = 0;
  for (const pid_t pid : Processes()) sum += Entries(Folder(pid) / "fd").size();
  return sum;
}

}  // namespace gatepost::benchmark
