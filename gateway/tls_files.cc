// SPDX-License-Identifier: Apache-2.0
#include "gateway/tls_files.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "tls/certificate_directory.h"

namespace gatepost {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::system_clock;

// A file that was written so shortly before it was read may have been written once more within the
// same tick of the file system's clock.
constexpr std::chrono::nanoseconds kClockTick = std::chrono::seconds(2);

std::string Joined(const std::vector<std::string>& problems) {
  std::string joined;
  for (const std::string& problem : problems) joined += (joined.empty() ? "" : "; ") + problem;
  return joined;
}

bool Exists(const fs::path& file) {
  std::error_code ignored;
  return fs::exists(fs::symlink_status(file, ignored));
}

}  // namespace

FileStamp StampOf(const fs::path& file) {
  struct stat status {};
  if (file.empty() || stat(file.c_str(), &status) != 0) return {};
  const auto ns = [](const timespec& time) {
    return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
  };
  return {.device = status.st_dev,
          .inode = status.st_ino,
          .size = status.st_size,
          .modified_ns = ns(status.st_mtim),
          .changed_ns = ns(status.st_ctim),
          .readable = access(file.c_str(), R_OK) == 0};
}

tl::expected<std::unique_ptr<TlsFiles>, std::vector<std::string>> TlsFiles::Load(
    const config::Config& config, const backends::Directory* pools,
    std::shared_ptr<const tls::KeyLog> key_log, const std::string& file, const Past* past) {
  std::unique_ptr<TlsFiles> self(new TlsFiles(config, pools, std::move(key_log), file));
  const auto lifetime =
      std::chrono::duration_cast<std::chrono::seconds>(config.tls.ticket_lifetime);
  if (past != nullptr && !config.tls.ticket_key_file && !past->ticket_keys->file() &&
      past->ticket_keys->lifetime() == lifetime) {
    self->ticket_keys_ = past->ticket_keys;
  }
  self->backends_.status.part = "pools";
  self->sources_.resize(config.certificates.size());
  self->listeners_.resize(config.listeners.size());
  for (size_t i = 0; i < config.certificates.size(); ++i) {
    const config::Certificate& certificate = config.certificates[i];
    if (certificate.directory) {
      self->sources_[i].directory.status.part = certificate.directory->string();
    }
  }
  for (size_t i = 0; i < config.listeners.size(); ++i) {
    self->listeners_[i].status.part = "listener[" + std::to_string(i + 1) + "]";
  }
  const Outcome outcome = self->Refresh(Look::kAll);
  std::vector<std::string> problems = self->StartProblems();
  if (!problems.empty()) return tl::unexpected(std::move(problems));
  // What happened at the start was no reload; what did not go well then is told now.
  std::map<std::string, const Status*> before;
  if (past != nullptr) {
    for (const Status& status : past->series->statuses) before.emplace(status.part, &status);
  }
  const auto count = [&before](Status& status) {
    const auto known = before.find(status.part);
    if (known == before.end()) {
      status.taken = 0;
      return;
    }
    status.taken += known->second->taken;
    status.failed += known->second->failed;
  };
  for (auto& [chain, pair] : self->pairs_) {
    count(pair.status);
    count(pair.staple.status);
  }
  for (auto& [files, trust] : self->trusts_) count(trust.status);
  for (auto& [map, users] : self->users_) count(users.status);
  for (auto& [path, moved] : self->moved_) count(moved.status);
  count(self->backends_.status);
  count(self->tickets_.status);
  return self;
}

// Problems that forbid to start: of everything but pairs that a directory has beside good ones.
std::vector<std::string> TlsFiles::StartProblems() const {
  std::vector<std::string> problems;
  for (size_t i = 0; i < sources_.size(); ++i) {
    const config::Certificate& certificate = config_.certificates[i];
    const std::string at =
        At(file_, certificate.place) + "certificate[" + std::to_string(i + 1) + "]: ";
    if (!sources_[i].directory.status.problem.empty()) {
      problems.push_back(at + sources_[i].directory.status.problem);
      continue;
    }
    const bool usable =
        certificate.directory &&
        std::any_of(sources_[i].pairs.begin(), sources_[i].pairs.end(),
                    [&](const std::string& chain) { return pairs_.at(chain).certificate; });
    for (const std::string& chain : sources_[i].pairs) {
      const std::string& problem = pairs_.at(chain).status.problem;
      if (!problem.empty() && !usable) problems.push_back(at + problem);
    }
  }
  problems.insert(problems.end(), backends_.errors.begin(), backends_.errors.end());
  if (!tickets_.status.problem.empty()) {
    problems.push_back(file_ + ": tls.ticket_key_file: " + tickets_.status.problem);
  }
  for (const auto& [file, users] : users_) {
    problems.insert(problems.end(), users.errors.begin(), users.errors.end());
  }
  for (const auto& [file, moved] : moved_) {
    problems.insert(problems.end(), moved.errors.begin(), moved.errors.end());
  }
  for (size_t i = 0; i < listeners_.size(); ++i) {
    const config::Listener& listener = config_.listeners[i];
    const std::string at = At(file_, listener.place) + listeners_[i].status.part + ": ";
    if (listener.client_ca_file) {
      const std::string& problem =
          trusts_.at({*listener.client_ca_file, listener.client_crl_file.value_or("")})
              .status.problem;
      if (!problem.empty()) problems.push_back(at + problem);
    }
    if (!listeners_[i].status.problem.empty())
      problems.push_back(at + listeners_[i].status.problem);
  }
  return problems;
}

TlsFiles::Outcome TlsFiles::Refresh(Look look) {
  Outcome outcome;
  List(look, outcome);
  ReadPairs(look, outcome);
  ReadTrust(look, outcome);
  ReadUsers(look, outcome);
  ReadRoutes(look, outcome);
  ReadTicketKeys(look, outcome);
  ReadBackends(look, outcome);
  if (outcome.changed || look == Look::kAll) MakeContexts(look, outcome);
  return outcome;
}

// Due tells whether the part is to be read, and remembers what is seen of its files.
bool TlsFiles::Due(Part& part, std::vector<FileStamp> now, Look look) {
  const bool in_doubt = !part.settled || (!part.status.problem.empty() && !part.told);
  if (look == Look::kChanged && !in_doubt && now == part.seen) return false;
  const int64_t recent = (Clock::now().time_since_epoch() - kClockTick).count();
  part.settled = std::all_of(now.begin(), now.end(), [recent](const FileStamp& stamp) {
    return stamp.modified_ns < recent && stamp.changed_ns < recent;
  });
  part.seen = std::move(now);
  return true;
}

// Settle notes that the part was read, with or without a problem, and whether that made it new. It
// returns whether there is something to tell.
bool TlsFiles::Settle(Part& part, std::string problem, bool is_new, Look look, Outcome& outcome) {
  Status& status = part.status;
  if (problem.empty()) {
    const bool recovered = !status.problem.empty() && part.told;
    status.problem.clear();
    part.told = false;
    status.last_success = Clock::now();
    if (!is_new && !recovered && look == Look::kChanged) return false;
    ++status.taken;
    if (is_new) outcome.changed = true;
    if (!is_new && !recovered) return false;
  } else {
    const bool again = problem == status.problem;
    if (look == Look::kChanged && again && part.told) return false;
    status.problem = problem;
    part.told = look == Look::kAll || again;
    if (!part.told) {
      outcome.again = true;
      return false;
    }
    ++status.failed;
  }
  outcome.news.push_back({status.part, std::move(problem), nullptr});
  return true;
}

// List finds out which pairs there are.
void TlsFiles::List(Look look, Outcome& outcome) {
  std::set<std::string> wanted;
  for (size_t i = 0; i < sources_.size(); ++i) {
    const config::Certificate& certificate = config_.certificates[i];
    Source& source = sources_[i];
    std::vector<tls::CertificateFiles> files;
    if (certificate.directory) {
      auto found = tls::FindCertificateFiles(*certificate.directory);
      Settle(source.directory, found ? std::string() : found.error().text, false, look, outcome);
      if (found) files = std::move(*found);
      // What is gone in half, or with the whole directory, is rather about to be replaced.
      for (const std::string& chain : source.pairs) {
        const tls::CertificateFiles& old = pairs_.at(chain).files;
        if (!found || Exists(old.chain) || Exists(old.key)) files.push_back(old);
      }
    } else {
      files.push_back({*certificate.chain, *certificate.key});
    }
    std::stable_sort(files.begin(), files.end(), [](const auto& a, const auto& b) {
      return a.chain.native() < b.chain.native();
    });
    source.pairs.clear();
    for (const tls::CertificateFiles& pair : files) {
      std::string chain = pair.chain.string();
      if (!source.pairs.empty() && source.pairs.back() == chain) continue;
      wanted.insert(chain);
      Pair& known = pairs_[chain];
      if (known.files.chain.empty()) {
        known.files = pair;
        known.status.part = chain;
        known.staple.status.part = tls::OcspFile(chain).string();
      }
      source.pairs.push_back(std::move(chain));
    }
  }
  const size_t gone =
      std::erase_if(pairs_, [&](const auto& entry) { return !wanted.contains(entry.first); });
  if (gone > 0) outcome.changed = true;
}

void TlsFiles::ReadPairs(Look look, Outcome& outcome) {
  std::vector<Pair*> due;
  for (auto& [chain, pair] : pairs_) {
    if (Due(pair,
            {StampOf(pair.files.chain), StampOf(pair.files.key), StampOf(pair.staple.status.part)},
            look)) {
      due.push_back(&pair);
    }
  }
  if (!due.empty()) LoadPairs(due, look, outcome);
  for (auto& [chain, pair] : pairs_) {
    if (pair.certificate) CheckStaple(pair, look, outcome);
  }
}

void TlsFiles::LoadPairs(const std::vector<Pair*>& due, Look look, Outcome& outcome) {
  tls::CertificateLoader loader;
  for (const auto& [chain, pair] : pairs_) {
    if (pair.certificate) loader.Know(*pair.certificate);
  }
  for (Pair* pair : due) {
    auto loaded = loader.Load(pair->files);
    if (loaded) {
      const bool is_new = !pair->certificate || !pair->certificate->SameAs(**loaded);
      if (is_new) pair->certificate = std::move(*loaded);
      if (Settle(*pair, {}, is_new, look, outcome)) {
        outcome.news.back().certificate = pair->certificate;
      }
      continue;
    }
    std::string problem;
    for (const tls::Error& error : loaded.error()) {
      problem += (problem.empty() ? "" : "; ") + error.text;
    }
    Settle(*pair, std::move(problem), false, look, outcome);
  }
}

// CheckStaple tells of an OCSP response that is not good, or not any more.
void TlsFiles::CheckStaple(Pair& pair, Look look, Outcome& outcome) {
  const tls::CertificateInfo& info = pair.certificate->info();
  std::string problem = info.staple_problem;
  if (info.stapled_until && *info.stapled_until < Clock::now()) {
    problem = pair.staple.status.part + " has expired";
  }
  const bool concerned = info.stapled_until || !problem.empty();
  if (!concerned && pair.staple.status.problem.empty()) return;
  Settle(pair.staple, std::move(problem), false, look, outcome);
}

void TlsFiles::ReadTrust(Look look, Outcome& outcome) {
  for (const config::Listener& listener : config_.listeners) {
    if (!listener.client_ca_file) continue;
    trusts_[{*listener.client_ca_file, listener.client_crl_file.value_or("")}].status.part =
        listener.client_ca_file->string();
  }
  for (auto& [files, trust] : trusts_) {
    const auto& [ca, crl] = files;
    if (!Due(trust, {StampOf(ca), StampOf(crl)}, look)) continue;
    auto made =
        tls::ClientVerifier::Make(ca, crl.empty() ? std::nullopt : std::optional<fs::path>(crl));
    const bool is_new = made && !(trust.verifier && trust.verifier->SameAs(**made));
    if (is_new) trust.verifier = std::move(*made);
    Settle(trust, made ? std::string() : made.error().text, is_new, look, outcome);
  }
}

// ReadTable reads one file that becomes a table, with `load`; `table` is what there was.
template <typename T, typename Loader>
void TlsFiles::ReadTable(Table<T>& part, const fs::path& file, Loader load, Look look,
                         Outcome& outcome) {
  if (!Due(part, {StampOf(file)}, look)) return;
  auto loaded = load(file);
  std::string problem;
  bool is_new = false;
  if (loaded) {
    is_new = !part.table || !part.table->SameAs(**loaded);
    part.table = std::move(*loaded);
    part.errors.clear();
  } else {
    part.errors = std::move(loaded.error());
    problem = Joined(part.errors);
  }
  Settle(part, std::move(problem), is_new, look, outcome);
}

void TlsFiles::ReadUsers(Look look, Outcome& outcome) {
  for (const config::Listener& listener : config_.listeners) {
    if (!listener.client_certificate_map) continue;
    users_[*listener.client_certificate_map].status.part =
        listener.client_certificate_map->string();
  }
  for (auto& [file, users] : users_) {
    ReadTable(users, file, auth::CertificateMap::Load, look, outcome);
  }
}

void TlsFiles::ReadRoutes(Look look, Outcome& outcome) {
  std::vector<std::string> pools;
  for (const config::Pool& pool : config_.pools) pools.push_back(pool.name);
  for (const config::Route& route : config_.routes) {
    if (route.users_file) moved_[*route.users_file].status.part = route.users_file->string();
  }
  for (auto& [file, moved] : moved_) {
    ReadTable(
        moved, file, [&](const fs::path& path) { return backends::UserRoutes::Load(path, pools); },
        look, outcome);
  }
}

// ReadTicketKeys renews the keys where they are: all contexts share them.
void TlsFiles::ReadTicketKeys(Look look, Outcome& outcome) {
  const auto lifetime =
      std::chrono::duration_cast<std::chrono::seconds>(config_.tls.ticket_lifetime);
  if (!config_.tls.ticket_key_file) {
    if (!ticket_keys_) ticket_keys_ = tls::TicketKeys::Random(lifetime);
    return;
  }
  const fs::path& file = *config_.tls.ticket_key_file;
  tickets_.status.part = file.string();
  if (!Due(tickets_, {StampOf(file)}, look)) return;
  std::string problem;
  bool is_new = false;
  if (!ticket_keys_) {
    if (auto loaded = tls::TicketKeys::Load(file, lifetime)) {
      ticket_keys_ = std::move(*loaded);
      is_new = true;
    } else {
      problem = loaded.error().text;
    }
  } else if (const auto reloaded = ticket_keys_->Reload()) {
    is_new = *reloaded;
  } else {
    problem = reloaded.error().text;
  }
  Settle(tickets_, std::move(problem), is_new, look, outcome);
}

std::vector<fs::path> TlsFiles::BackendFiles() const {
  std::vector<fs::path> files;
  for (const config::Pool& pool : config_.pools) {
    for (const auto& file : {pool.ca_file, pool.client_certificate, pool.client_key}) {
      if (file) files.push_back(*file);
    }
  }
  return files;
}

void TlsFiles::ReadBackends(Look look, Outcome& outcome) {
  if (pools_ == nullptr) return;
  std::vector<FileStamp> stamps;
  for (const fs::path& file : BackendFiles()) stamps.push_back(StampOf(file));
  if (!Due(backends_, std::move(stamps), look)) return;
  const backends::BackendContexts& before = backends_.contexts;
  auto made =
      backends::MakeBackendContexts(*pools_, key_log_, file_, before.empty() ? nullptr : &before);
  std::string problem;
  bool is_new = false;
  backends_.errors.clear();
  if (made) {
    is_new = *made != before;
    backends_.contexts = std::move(*made);
  } else {
    backends_.errors = std::move(made.error());
    problem = Joined(backends_.errors);
  }
  Settle(backends_, std::move(problem), is_new, look, outcome);
}

std::shared_ptr<const auth::CertificateMap> TlsFiles::certificate_map(size_t listener) const {
  const auto& file = config_.listeners[listener].client_certificate_map;
  return file ? users_.at(*file).table : nullptr;
}

std::shared_ptr<const backends::UserRoutes> TlsFiles::user_routes(size_t route) const {
  const auto& file = config_.routes[route].users_file;
  return file ? moved_.at(*file).table : nullptr;
}

// MakeContexts gives each listener what is good now. One that cannot be made of it stays as it is.
void TlsFiles::MakeContexts(Look look, Outcome& outcome) {
  std::set<const tls::Certificate*> once;
  all_.clear();
  const auto add = [&](const Source& source, tls::CertificateStore::Certificates& to) {
    for (const std::string& chain : source.pairs) {
      const auto& certificate = pairs_.at(chain).certificate;
      if (certificate && once.insert(certificate.get()).second) to.push_back(certificate);
    }
  };
  for (const Source& source : sources_) add(source, all_);
  if (all_.empty()) return;

  std::map<std::vector<std::string>, std::shared_ptr<const tls::CertificateStore>> sets;
  sets[{}] = tls::CertificateStore::Make(all_);
  std::vector<ListenerFiles> of_listeners;
  for (const config::Listener& listener : config_.listeners) {
    std::vector<std::string> names;
    for (const config::PlacedName& name : listener.certificates) names.push_back(name.name);
    auto& set = sets[names];
    if (!set) {
      tls::CertificateStore::Certificates chosen;
      once.clear();
      for (const std::string& name : names) {
        for (size_t i = 0; i < sources_.size(); ++i) {
          if (config_.certificates[i].name == name) add(sources_[i], chosen);
        }
      }
      if (chosen.empty()) return;
      set = tls::CertificateStore::Make(std::move(chosen));
    }
    std::shared_ptr<const tls::ClientVerifier> verifier;
    if (listener.client_ca_file) {
      verifier =
          trusts_.at({*listener.client_ca_file, listener.client_crl_file.value_or("")}).verifier;
    }
    of_listeners.push_back({set, std::move(verifier)});
  }

  MadeContexts made =
      MakeListenerContexts(config_, of_listeners, ticket_keys_, key_log_, contexts_);
  for (size_t i = 0; i < listeners_.size(); ++i) {
    Part& part = listeners_[i];
    if (look == Look::kChanged && part.status.problem == made.problems[i]) continue;
    Settle(part, std::move(made.problems[i]), false, Look::kAll, outcome);
  }
  contexts_ = std::move(made.contexts);
}

std::vector<TlsFiles::Status> TlsFiles::statuses() const {
  std::vector<Status> statuses;
  for (const auto& [chain, pair] : pairs_) {
    statuses.push_back(pair.status);
    if (pair.staple.status.last_success != Time() || !pair.staple.status.problem.empty()) {
      statuses.push_back(pair.staple.status);
    }
  }
  for (const Source& source : sources_) {
    if (!source.directory.status.part.empty()) statuses.push_back(source.directory.status);
  }
  std::set<std::string> once;  // CAs may stand beside several CRLs
  for (const auto& [files, trust] : trusts_) {
    if (once.insert(trust.status.part).second) statuses.push_back(trust.status);
  }
  for (const auto& [file, users] : users_) statuses.push_back(users.status);
  for (const auto& [file, moved] : moved_) statuses.push_back(moved.status);
  if (!tickets_.status.part.empty()) statuses.push_back(tickets_.status);
  if (!BackendFiles().empty()) statuses.push_back(backends_.status);
  return statuses;
}

TlsFiles::Series TlsFiles::series() const {
  std::map<std::string, const std::string*> folded;  // a chain or staple to its directory
  for (const Source& source : sources_) {
    const std::string& directory = source.directory.status.part;
    if (directory.empty() || source.pairs.size() <= kMostSeries) continue;
    for (const std::string& chain : source.pairs) {
      folded[chain] = &directory;
      folded[pairs_.at(chain).staple.status.part] = &directory;
    }
  }
  const auto shown = [&](const std::string& part) {
    const auto found = folded.find(part);
    return found == folded.end() ? part : *found->second;
  };
  std::map<std::string, Expiry> expiries;
  for (const auto& certificate : all_) {
    const tls::CertificateInfo& info = certificate->info();
    const std::string part = shown(info.chain_file.string());
    const Expiry expiry{part, info.names.empty() ? "" : info.names.front(), info.not_before,
                        info.not_after};
    const auto [known, fresh] = expiries.emplace(part, expiry);
    if (!fresh && expiry.not_after < known->second.not_after) known->second = expiry;
  }
  std::map<std::string, Status> statuses_by_part;
  for (Status& status : statuses()) {
    const std::string part = shown(status.part);
    const auto [known, fresh] = statuses_by_part.emplace(part, status);
    if (fresh) {
      known->second.part = part;
      continue;
    }
    known->second.taken += status.taken;
    known->second.failed += status.failed;
    known->second.last_success = std::min(known->second.last_success, status.last_success);
  }
  Series series;
  for (auto& [part, expiry] : expiries) series.expiries.push_back(std::move(expiry));
  for (auto& [part, status] : statuses_by_part) series.statuses.push_back(std::move(status));
  return series;
}

std::set<fs::path> TlsFiles::NamedFiles() const {
  std::set<fs::path> files;
  for (const config::Certificate& certificate : config_.certificates) {
    if (!certificate.directory) files.insert({*certificate.chain, *certificate.key});
  }
  for (const auto& [of_listener, trust] : trusts_) {
    files.insert(of_listener.first);
    if (!of_listener.second.empty()) files.insert(of_listener.second);
  }
  for (const auto& [file, users] : users_) files.insert(file);
  for (const auto& [file, moved] : moved_) files.insert(file);
  if (config_.tls.ticket_key_file) files.insert(*config_.tls.ticket_key_file);
  for (fs::path& file : BackendFiles()) files.insert(std::move(file));
  return files;
}

std::vector<fs::path> TlsFiles::Folders() const {
  std::set<fs::path> folders;
  for (const config::Certificate& certificate : config_.certificates) {
    if (!certificate.directory) continue;
    for (fs::path& folder : tls::CertificateFolders(*certificate.directory)) {
      folders.insert(std::move(folder));
    }
  }
  for (const fs::path& file : NamedFiles()) {
    folders.insert(file.has_parent_path() ? file.parent_path() : fs::path("."));
  }
  return {folders.begin(), folders.end()};
}

}  // namespace gatepost
