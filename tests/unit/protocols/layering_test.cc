// The layering of the house, read from its #include lines, so that it can't rot:
// protocols/, config/ and tls/ know nothing of each other nor of gateway/; each library has its
// place.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace gatepost {
namespace {

using Names = std::vector<std::string_view>;

struct Folder {
  std::string_view name;
  Names may_include;  // folders of ours
};
const std::vector<Folder>& Folders() {
  static const std::vector<Folder> kFolders = {
      {"protocols", {"protocols/"}},
      {"config", {"config/"}},
      {"tls", {"tls/"}},
      {"gateway", {"gateway/", "protocols/", "config/", "tls/"}},
  };
  return kFolders;
}

struct Library {
  std::string_view header;  // how its headers begin
  Names allowed_in;
};
const std::vector<Library>& Libraries() {
  static const std::vector<Library> kLibraries = {
      {"openssl/", {"tls"}},
      {"toml++/", {"config"}},
      {"tl/expected.hpp", {"config", "tls", "gateway"}},
      {"uv.h", {"gateway"}},
      {"prometheus/", {"gateway"}},
      {"fmt/", {"gateway"}},
      {"civetweb.h", {"gateway"}},
      {"CLI/", {"gateway"}},
      {"crypt.h", {"gateway"}},
      {"boost/beast/http/", {"gateway"}},
      {"cap-ng.h", {"gateway"}},
      {"ares.h", {"gateway"}},
      {"nlohmann/", {"gateway"}},
  };
  return kLibraries;
}

bool Contains(const Names& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// Forbidden says what is wrong with a file of `folder` including `header`; empty: nothing.
std::string Forbidden(const Folder& folder, std::string_view header, bool quoted) {
  if (quoted) {
    const bool known =
        std::any_of(folder.may_include.begin(), folder.may_include.end(),
                    [&](std::string_view prefix) { return header.starts_with(prefix); });
    return known ? "" : "not a folder that it may include from";
  }
  for (const Library& library : Libraries()) {
    if (header.starts_with(library.header)) {
      return Contains(library.allowed_in, folder.name) ? "" : "a library of another folder";
    }
  }
  const bool is_std = header.find_first_of("./") == std::string_view::npos;
  if (is_std) return "";
  // The engines are standard C++, but for explicit_bzero, which <cstring> lacks, and the compiler's
  // own SSE2.
  if (folder.name == "protocols") {
    return Contains({"string.h", "immintrin.h"}, header) ? "" : "not the standard library";
  }
  if (header.ends_with(".h")) return "";  // the system's
  return "a library that no folder has";
}

// Violations returns one line for each forbidden #include in `source`, the text of `file`.
std::string Violations(const Folder& folder, const std::string& file, std::istream& source) {
  std::string result;
  std::string text;
  for (int number = 1; std::getline(source, text); ++number) {
    std::string_view line = text;
    const auto skip = [&](std::string_view blanks) {
      line.remove_prefix(std::min(line.find_first_not_of(blanks), line.size()));
    };
    skip(" \t");
    if (!line.starts_with('#')) continue;
    line.remove_prefix(1);
    skip(" \t");
    if (!line.starts_with("include")) continue;
    line.remove_prefix(7);
    skip(" \t");
    const bool quoted = line.starts_with('"');
    if (!quoted && !line.starts_with('<')) continue;
    const std::string_view header = line.substr(1, line.find(quoted ? '"' : '>', 1) - 1);
    const std::string wrong = Forbidden(folder, header, quoted);
    if (wrong.empty()) continue;
    result +=
        file + ":" + std::to_string(number) + ": " + std::string(header) + ": " + wrong + "\n";
  }
  return result;
}

std::string ViolationsIn(std::string_view folder_name, const std::string& text) {
  std::istringstream source(text);
  for (const Folder& folder : Folders()) {
    if (folder.name == folder_name) return Violations(folder, "x.cc", source);
  }
  return "no such folder";
}

TEST(Layering, HoldsInEveryFolder) {
  const std::filesystem::path root = GATEPOST_SOURCE_DIR;
  for (const Folder& folder : Folders()) {
    size_t files = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root / folder.name)) {
      const auto extension = entry.path().extension();
      if (extension != ".h" && extension != ".cc") continue;
      std::ifstream source(entry.path());
      EXPECT_EQ(Violations(folder, entry.path().string(), source), "");
      ++files;
    }
    EXPECT_GT(files, 0U) << folder.name;
  }
}

TEST(Layering, ForbidsWhatItShould) {
  EXPECT_EQ(ViolationsIn("protocols", "#include <string.h>\n#include \"protocols/buffer.h\"\n"),
            "");
  EXPECT_EQ(ViolationsIn("protocols", "#include <uv.h>\n"),
            "x.cc:1: uv.h: a library of another folder\n");
  EXPECT_NE(ViolationsIn("protocols", "\n # include <unistd.h>\n"), "");
  EXPECT_NE(ViolationsIn("protocols", "#include <tl/expected.hpp>\n"), "");
  EXPECT_NE(ViolationsIn("protocols", "#include \"config/schema.h\"\n"), "");
  EXPECT_NE(ViolationsIn("protocols", "#include \"buffer.h\"\n"), "");
  EXPECT_NE(ViolationsIn("config", "#include \"protocols/engine.h\"\n"), "");
  EXPECT_NE(ViolationsIn("config", "#include <fmt/format.h>\n"), "");
  EXPECT_EQ(ViolationsIn("config", "#include <toml++/toml.h>\n#include <arpa/inet.h>\n"), "");
  EXPECT_NE(ViolationsIn("tls", "#include \"gateway/worker.h\"\n"), "");
  EXPECT_NE(ViolationsIn("tls", "#include <boost/asio.hpp>\n"), "");
  EXPECT_NE(ViolationsIn("gateway", "#include <openssl/ssl.h>\n"), "");
  EXPECT_EQ(ViolationsIn("gateway", "#include \"tls/channel.h\"\n#include <uv.h>\n"), "");
}

// A clone stands alone: nothing in it points to a folder beside it.
TEST(Layering, PointsToNothingOutside) {
  const std::string outside = std::string("../") + "shared";
  const std::filesystem::path root = GATEPOST_SOURCE_DIR;
  size_t files = 0;
  auto entry = std::filesystem::recursive_directory_iterator(root);
  for (; entry != std::filesystem::recursive_directory_iterator(); ++entry) {
    const std::string name = entry->path().filename().string();
    if (entry->is_directory() && (name == ".git" || name.starts_with("build"))) {
      entry.disable_recursion_pending();
      continue;
    }
    if (!entry->is_regular_file()) continue;
    std::ifstream file(entry->path(), std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)), {});
    EXPECT_EQ(bytes.find(outside), std::string::npos) << entry->path();
    ++files;
  }
  EXPECT_GT(files, 10U);
}

}  // namespace
}  // namespace gatepost
