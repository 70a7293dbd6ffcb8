// The files behind the listeners' TLS: certificates and keys, CAs and CRLs for client certificates,
// whose those are, and session ticket keys; and those that say where users live.
//
// Read whole at start; later Refresh looks at all of them, reads what has changed, and takes each
// part (a pair, CAs with their CRLs) only where it is good: else that part stays as it was. One
// thread at a time; what it hands out is immutable. It reads files, so never on a worker's loop.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tl/expected.hpp>
#include <utility>
#include <vector>

#include "config/schema.h"
#include "gateway/auth/certificate_users.h"
#include "gateway/backends/backend_tls.h"
#include "gateway/backends/routes.h"
#include "gateway/listener_tls.h"
#include "tls/certificate_store.h"
#include "tls/client_verifier.h"
#include "tls/key_log.h"
#include "tls/ticket_keys.h"

namespace gatepost {

// What a file's metadata say of its content: equal before and after, the file has not changed.
struct FileStamp {
  uint64_t device = 0;
  uint64_t inode = 0;
  int64_t size = -1;  // -1: there is no such file
  int64_t modified_ns = 0;
  int64_t changed_ns = 0;
  bool readable = false;  // by this process, as the user that it is now
  bool operator==(const FileStamp&) const = default;
};

// StampOf returns that of a file without one where there is none.
[[nodiscard]] FileStamp StampOf(const std::filesystem::path& file);

class TlsFiles {
 public:
  using Time = std::chrono::system_clock::time_point;

  // How one part fares.
  struct Status {
    std::string part;
    uint64_t taken = 0;   // reloads since the start
    uint64_t failed = 0;  // causes for which one did not come about
    Time last_success;    // of loading
    std::string problem;  // what is wrong now; empty: nothing
  };

  // What the metrics say. A directory with more than kMostSeries pairs is one certificate there,
  // named like the directory: the one that ends first, all reloads together, the oldest success.
  static constexpr size_t kMostSeries = 100;
  struct Expiry {
    std::string certificate;
    std::string name;  // its first
    Time not_before;
    Time not_after;
  };
  struct Series {
    std::vector<Expiry> expiries;
    std::vector<Status> statuses;
  };

  // Past is what a reload carries over: keys that no file has, and counts of reloads.
  struct Past {
    std::shared_ptr<tls::TicketKeys> ticket_keys;
    std::shared_ptr<const Series> series;
  };

  // Load reads all files of `config`, which must outlive this; `file` is its name, for messages. On
  // failure every problem, as "FILE:LINE:COLUMN: what". The contexts write their secrets into
  // `key_log`, where it is not null. A pair found in a directory that cannot be
  // used is no failure, as long as another one can: see statuses().
  // `pools` must outlive this; null, they are left out. `past` is what there was before a reload.
  [[nodiscard]] static tl::expected<std::unique_ptr<TlsFiles>, std::vector<std::string>> Load(
      const config::Config& config, const backends::Directory* pools,
      std::shared_ptr<const tls::KeyLog> key_log, const std::string& file,
      const Past* past = nullptr);

  // One a listener, in the order of the configuration.
  [[nodiscard]] const ListenerContexts& contexts() const { return contexts_; }
  [[nodiscard]] const backends::BackendContexts& backend_contexts() const {
    return backends_.contexts;
  }
  // Whose the client certificates of a listener are; null where no file says.
  [[nodiscard]] std::shared_ptr<const auth::CertificateMap> certificate_map(size_t listener) const;
  // Where the users of a route go; null where no file says.
  [[nodiscard]] std::shared_ptr<const backends::UserRoutes> user_routes(size_t route) const;
  [[nodiscard]] const tls::TicketKeys& ticket_keys() const { return *ticket_keys_; }
  // The same for who changes keys that no file has (TicketKeys::RotateIfDue), on any one thread.
  [[nodiscard]] std::shared_ptr<tls::TicketKeys> ticket_keys_to_rotate() const {
    return ticket_keys_;
  }
  // Every certificate in use, in the order of the configuration; each once.
  [[nodiscard]] const tls::CertificateStore::Certificates& certificates() const { return all_; }

  enum class Look : uint8_t {
    kChanged,  // reads what has changed; a new problem is told only when it is seen a second time,
               // since a pair is two files that are not written at once
    kAll,      // reads everything, and tells every problem
  };
  // What became of one part.
  struct News {
    std::string part;     // the pair's chain, a directory, a CA file, or a listener
    std::string problem;  // empty: taken
    std::shared_ptr<const tls::Certificate> certificate;  // what is new, where it is one
  };
  struct Outcome {
    std::vector<News> news;
    bool changed = false;  // something that can be asked for is new
    bool again = false;    // there is a problem that was seen for the first time: look soon
  };
  [[nodiscard]] Outcome Refresh(Look look);

  [[nodiscard]] std::vector<Status> statuses() const;

  [[nodiscard]] Series series() const;

  // NamedFiles returns those that the configuration names one by one, not what is in directories.
  [[nodiscard]] std::set<std::filesystem::path> NamedFiles() const;
  // Folders returns those in which a change of the files shows.
  [[nodiscard]] std::vector<std::filesystem::path> Folders() const;

 private:
  // Part is what is taken whole or not at all.
  struct Part {
    std::vector<FileStamp> seen;  // when it was last read
    bool settled = false;         // nothing can have been written unseen by `seen`
    bool told = false;            // `problem` was
    Status status;
  };
  struct Pair : Part {
    tls::CertificateFiles files;
    std::shared_ptr<const tls::Certificate> certificate;  // null: none was good yet
    Part staple;                                          // the OCSP response; read with the pair
  };
  struct Source {
    Part directory;
    std::vector<std::string> pairs;  // keys of pairs_
  };
  struct Trust : Part {
    std::shared_ptr<const tls::ClientVerifier> verifier;
  };
  struct Backends : Part {  // all pools together
    backends::BackendContexts contexts;
    std::vector<std::string> errors;
  };
  template <typename T>
  struct Table : Part {  // what a file of lines says
    std::shared_ptr<const T> table;
    std::vector<std::string> errors;
  };
  using TrustFiles = std::pair<std::filesystem::path, std::filesystem::path>;  // CA, CRL or empty

  TlsFiles(const config::Config& config, const backends::Directory* pools,
           std::shared_ptr<const tls::KeyLog> key_log, std::string file)
      : config_(config), pools_(pools), key_log_(std::move(key_log)), file_(std::move(file)) {}

  void List(Look look, Outcome& outcome);
  void ReadPairs(Look look, Outcome& outcome);
  void LoadPairs(const std::vector<Pair*>& due, Look look, Outcome& outcome);
  static void CheckStaple(Pair& pair, Look look, Outcome& outcome);
  void ReadTrust(Look look, Outcome& outcome);
  template <typename T, typename Loader>
  void ReadTable(Table<T>& part, const std::filesystem::path& file, Loader load, Look look,
                 Outcome& outcome);
  void ReadUsers(Look look, Outcome& outcome);
  void ReadRoutes(Look look, Outcome& outcome);
  void ReadTicketKeys(Look look, Outcome& outcome);
  void ReadBackends(Look look, Outcome& outcome);
  [[nodiscard]] std::vector<std::filesystem::path> BackendFiles() const;
  void MakeContexts(Look look, Outcome& outcome);
  [[nodiscard]] std::vector<std::string> StartProblems() const;
  static bool Due(Part& part, std::vector<FileStamp> now, Look look);
  static bool Settle(Part& part, std::string problem, bool is_new, Look look, Outcome& outcome);

  const config::Config& config_;
  const backends::Directory* const pools_;
  const std::shared_ptr<const tls::KeyLog> key_log_;
  const std::string file_;
  std::vector<Source> sources_;        // by certificate of the configuration
  std::map<std::string, Pair> pairs_;  // by the chain's path
  std::map<TrustFiles, Trust> trusts_;
  std::map<std::filesystem::path, Table<auth::CertificateMap>> users_;
  std::map<std::filesystem::path, Table<backends::UserRoutes>> moved_;
  Backends backends_;
  Part tickets_;  // of a file, where there is one
  std::shared_ptr<tls::TicketKeys> ticket_keys_;
  std::vector<Part> listeners_;
  ListenerContexts contexts_;
  tls::CertificateStore::Certificates all_;
};

}  // namespace gatepost
