// SPDX-License-Identifier: Apache-2.0
#include "tls/certificate_directory.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include "tls/internal.h"

namespace gatepost::tls {
namespace {

namespace fs = std::filesystem;

// Names returns the names in `folder` that do not begin with a dot, sorted.
std::vector<std::string> NamesIn(const fs::path& folder, std::error_code& error) {
  std::vector<std::string> names;
  for (auto entry = fs::directory_iterator(folder, error);
       !error && entry != fs::directory_iterator(); entry.increment(error)) {
    std::string name = entry->path().filename().string();
    if (!name.starts_with('.')) names.push_back(std::move(name));
  }
  std::sort(names.begin(), names.end());
  return names;
}

void AddPairs(const fs::path& folder, const std::vector<std::string>& names,
              std::vector<CertificateFiles>& pairs) {
  const auto add = [&](const std::string& chain, const std::string& key) {
    if (!std::binary_search(names.begin(), names.end(), key)) return;
    pairs.push_back({folder / chain, folder / key});
  };
  constexpr std::string_view kChainEnd = ".crt";
  for (const std::string& name : names) {
    if (name == "fullchain.pem") add(name, "privkey.pem");
    if (!name.ends_with(kChainEnd)) continue;
    add(name, name.substr(0, name.size() - kChainEnd.size()) + ".key");
  }
}

}  // namespace

std::vector<fs::path> CertificateFolders(const fs::path& directory) {
  std::vector<fs::path> folders = {directory};
  std::error_code error;
  for (const std::string& name : NamesIn(directory, error)) {
    std::error_code ignored;
    if (fs::is_directory(directory / name, ignored)) folders.push_back(directory / name);
  }
  return folders;
}

tl::expected<std::vector<CertificateFiles>, Error> FindCertificateFiles(const fs::path& directory) {
  std::error_code error;
  std::vector<CertificateFiles> pairs;
  AddPairs(directory, NamesIn(directory, error), pairs);
  const std::string name = Printable(directory.native(), 4096);
  if (error) return tl::unexpected(Error{name + ": cannot be read: " + error.message()});
  const std::vector<fs::path> folders = CertificateFolders(directory);
  for (size_t i = 1; i < folders.size(); ++i) {
    std::error_code ignored;  // what cannot be looked into is not ours
    AddPairs(folders[i], NamesIn(folders[i], ignored), pairs);
  }
  if (pairs.empty()) {
    return tl::unexpected(
        Error{name + ": holds no certificate with its key; expected NAME.crt with NAME.key, or "
                     "fullchain.pem with privkey.pem, there or in its sub-folders"});
  }
  std::sort(pairs.begin(), pairs.end(), [](const CertificateFiles& a, const CertificateFiles& b) {
    return a.chain.native() < b.chain.native();
  });
  return pairs;
}

}  // namespace gatepost::tls
