// SPDX-License-Identifier: Apache-2.0
#include "gateway/auth/passwords.h"

#include <crypt.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <utility>

#include "protocols/buffer.h"

namespace gatepost::auth {
namespace {

// Verify computes crypt(password) with the setting in `hash` and compares in constant time.
bool Verify(const sasl::Secret& password, const std::string& hash) {
  auto data = std::make_unique<crypt_data>();
  const std::string text(password.Reveal());  // crypt_r wants a terminated string
  const char* computed = crypt_r(text.c_str(), hash.c_str(), data.get());
  bool equal = computed != nullptr && computed[0] != '*' && std::strlen(computed) == hash.size();
  unsigned difference = 0;
  for (size_t i = 0; equal && i < hash.size(); ++i) {
    difference |= static_cast<unsigned char>(computed[i]) ^ static_cast<unsigned char>(hash[i]);
  }
  equal = equal && difference == 0;
  protocols::Wipe(const_cast<char*>(text.data()), text.size());
  protocols::Wipe(data.get(), sizeof(crypt_data));
  return equal;
}

// MayMatch says whether crypt(3) can give `hash` for any password: what a line that was cut off has
// is shorter.
bool MayMatch(std::string_view hash) {
  struct Form {
    std::string_view prefix;
    size_t size;  // of what stands behind the last "$"
  };
  static constexpr Form kForms[] = {{"$y$", 43}, {"$gy$", 43}, {"$7$", 43},  {"$6$", 86},
                                    {"$5$", 43}, {"$2b$", 53}, {"$2a$", 53}, {"$2y$", 53}};
  for (const Form& form : kForms) {
    if (!hash.starts_with(form.prefix)) continue;
    const std::string_view last = hash.substr(hash.rfind('$') + 1);
    return last.size() == form.size && std::all_of(last.begin(), last.end(), [](char c) {
             return (c >= '.' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
           });
  }
  return true;
}

// ParseHostPort reads "host:port" or "[v6]:port".
std::optional<config::Member> ParseHostPort(std::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return std::nullopt;
  config::Member member;
  std::string_view host = text.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  member.host = host;
  const std::string_view port = text.substr(colon + 1);
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), member.port);
  if (error != std::errc() || end != port.data() + port.size() || member.port == 0) {
    return std::nullopt;
  }
  return member;
}

// ParseOptions reads the third field; returns what is wrong, or an empty string.
std::string ParseOptions(std::string_view text, const std::vector<std::string>& pools,
                         PasswordFile::Entry& entry) {
  while (!text.empty()) {
    if (text.front() == ' ') {
      text.remove_prefix(1);
      continue;
    }
    const size_t equals = text.find('=');
    const std::string_view key = text.substr(0, equals);
    if (equals == std::string_view::npos) {
      return "expected key=value after the hash, found \"" + std::string(key) +
             "\"; allowed are pool, backend, login, password";
    }
    text.remove_prefix(equals + 1);
    const size_t end = key == "password" ? text.size() : std::min(text.find(' '), text.size());
    const std::string_view value = text.substr(0, end);
    text.remove_prefix(end);
    if (value.empty()) return std::string(key) + " is empty";
    if (key == "pool") {
      if (std::find(pools.begin(), pools.end(), value) == pools.end()) {
        return "there is no pool \"" + std::string(value) + "\"";
      }
      entry.pool = value;
    } else if (key == "backend") {
      entry.backend = ParseHostPort(value);
      if (!entry.backend) return "backend must be HOST:PORT, for example store2.internal:143";
    } else if (key == "login") {
      entry.login = value;
    } else if (key == "password") {
      entry.password = sasl::Secret(value);
    } else {
      return "unknown key \"" + std::string(key) + "\"; allowed are pool, backend, login, password";
    }
  }
  if (!entry.login.empty() && entry.password.empty()) {
    return "login needs password: the client's own password may belong to another account";
  }
  return {};
}

// Accept fills in where the user of `entry` lives, and its account there where that is another.
void Accept(const PasswordFile::Entry& entry, const std::string& user, Verdict& verdict) {
  verdict.accepted = true;
  verdict.pool = entry.pool;
  verdict.backend = entry.backend;
  if (entry.password.empty()) return;
  sasl::Credentials credentials;
  credentials.authentication_identity = entry.login.empty() ? user : entry.login;
  credentials.password = entry.password.Clone();
  verdict.backend_credentials = std::move(credentials);
}

}  // namespace

tl::expected<std::shared_ptr<const PasswordFile>, std::vector<std::string>> PasswordFile::Load(
    const std::filesystem::path& file, const std::vector<std::string>& pools) {
  std::vector<std::string> errors;
  std::ifstream input(file);
  if (!input) {
    return tl::unexpected(
        std::vector<std::string>{file.string() + ": can't be read: " + std::strerror(errno)});
  }
  auto loaded = std::make_shared<PasswordFile>();
  std::string line;
  for (size_t number = 1; std::getline(input, line); ++number) {
    if (line.ends_with('\r')) line.pop_back();
    const std::string_view text = line;
    if (text.empty() || text.starts_with('#')) continue;
    const auto wrong = [&](const std::string& what) {
      errors.push_back(file.string() + ":" + std::to_string(number) + ": " + what);
    };
    const size_t colon = text.find(':');
    if (colon == std::string_view::npos || colon == 0) {
      wrong("expected user:hash; make an entry with: gatepost hash-password USER");
      continue;
    }
    const std::string user(text.substr(0, colon));
    const std::string_view rest = text.substr(colon + 1);
    const size_t second = std::min(rest.find(':'), rest.size());
    Entry entry;
    entry.hash = rest.substr(0, second);
    const int kind = crypt_checksalt(entry.hash.c_str());
    if (kind != CRYPT_SALT_OK && kind != CRYPT_SALT_TOO_CHEAP) {
      wrong("the password hash of \"" + user +
            "\" is not one that crypt(3) knows here or is too weak; use yescrypt ($y$), bcrypt "
            "($2b$) or SHA-512 ($6$), for example from: gatepost hash-password");
      continue;
    }
    if (!MayMatch(entry.hash)) {
      wrong("the password hash of \"" + user +
            "\" is one that no password has: it is cut off, or something stands behind it; make a "
            "new one with: gatepost hash-password");
      continue;
    }
    if (second < rest.size()) {
      const std::string problem = ParseOptions(rest.substr(second + 1), pools, entry);
      if (!problem.empty()) {
        wrong(problem);
        continue;
      }
    }
    if (loaded->decoy_.empty()) loaded->decoy_ = entry.hash;
    if (!loaded->entries_.emplace(user, std::move(entry)).second) {
      wrong("user \"" + user + "\" stands here a second time");
    }
  }
  protocols::Wipe(line.data(), line.capacity());
  if (!errors.empty()) return tl::unexpected(std::move(errors));
  if (loaded->decoy_.empty()) loaded->decoy_ = HashPassword(sasl::Secret("decoy"));
  return loaded;
}

const PasswordFile::Entry* PasswordFile::Find(const std::string& user) const {
  const auto found = entries_.find(user);
  return found == entries_.end() ? nullptr : &found->second;
}

struct PasswordAuthority::Job {
  uv_work_t work{};
  PasswordAuthority* owner = nullptr;  // null once the worker is gone
  std::shared_ptr<const PasswordFile> file;
  SessionId id;
  std::string user;
  std::string authorization_identity;
  sasl::Secret password;
  bool matches = false;
};

PasswordAuthority::PasswordAuthority(uv_loop_t* loop, std::shared_ptr<const PasswordFile> file,
                                     Answers& answers)
    : loop_(loop), file_(std::move(file)), answers_(answers) {}

PasswordAuthority::~PasswordAuthority() {
  for (Job* job : running_) {
    job->owner = nullptr;
    uv_cancel(reinterpret_cast<uv_req_t*>(&job->work));  // unless it has begun
  }
}

std::optional<Verdict> PasswordAuthority::Check(const Request& request) {
  const sasl::Credentials& credentials = request.credentials;
  if (credentials.mechanism == sasl::Mechanism::kExternal) {
    return CheckExternal(credentials.authentication_identity);
  }
  if (waiting_.size() >= kWaiting) {
    Verdict verdict;
    verdict.reason = protocols::LoginFailure::kUnavailable;
    verdict.detail = "too many password checks at a time";
    return verdict;
  }
  auto job = std::make_unique<Job>();
  job->owner = this;
  job->file = file_;
  job->id = request.id;
  job->user = credentials.authentication_identity;
  job->authorization_identity = credentials.authorization_identity;
  job->password = credentials.password.Clone();
  waiting_.push_back(std::move(job));
  StartJobs();
  return std::nullopt;
}

void PasswordAuthority::Cancel(SessionId id) {
  std::erase_if(waiting_, [id](const auto& job) { return job->id == id; });
}

std::optional<Verdict> PasswordAuthority::CheckExternal(const std::string& user) const {
  Verdict verdict;
  if (const PasswordFile::Entry* entry = file_->Find(user)) {
    Accept(*entry, user, verdict);
  } else {
    verdict.reason = protocols::LoginFailure::kAuthorizationDenied;
    verdict.detail = "the certificate's user is not in the password file";
  }
  return verdict;
}

void PasswordAuthority::StartJobs() {
  while (!waiting_.empty() && running_.size() < kConcurrent) {
    std::unique_ptr<Job> job = std::move(waiting_.front());
    waiting_.pop_front();
    job->work.data = job.get();
    const int status = uv_queue_work(
        loop_, &job->work,
        [](uv_work_t* work) {
          auto& self = *static_cast<Job*>(work->data);
          const PasswordFile::Entry* entry = self.file->Find(self.user);
          const bool matches =
              Verify(self.password, entry != nullptr ? entry->hash : self.file->decoy());
          self.matches = matches && entry != nullptr;
        },
        [](uv_work_t* work, int) {
          std::unique_ptr<Job> done(static_cast<Job*>(work->data));
          PasswordAuthority* owner = done->owner;
          if (owner != nullptr) owner->Finish(std::move(done));
        });
    if (status != 0) return;
    running_.push_back(job.release());
  }
}

void PasswordAuthority::Finish(std::unique_ptr<Job> job) {
  std::erase(running_, job.get());
  StartJobs();
  Verdict verdict;
  if (job->matches && !job->authorization_identity.empty() &&
      job->authorization_identity != job->user) {
    // The password file knows of nobody who may act for somebody else (RFC 4422 §3.4.1).
    verdict.reason = protocols::LoginFailure::kAuthorizationDenied;
  } else if (job->matches) {
    Accept(*job->file->Find(job->user), job->user, verdict);
  }
  answers_.OnVerdict(job->id, std::move(verdict));
}

std::string WrongInPasswordFile(std::string_view user) {
  if (user.empty()) return "it is empty";
  if (user.starts_with('#')) return "\"#\" at the beginning makes a comment of the line";
  if (user.find(':') != std::string_view::npos) return "\":\" ends the name in the file";
  const bool control = std::any_of(user.begin(), user.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7F;
  });
  return control ? "it has a control character" : "";
}

std::string HashPassword(const sasl::Secret& password) {
  crypt_data data{};
  std::string setting(CRYPT_GENSALT_OUTPUT_SIZE, '\0');
  if (crypt_gensalt_rn("$y$", 0, nullptr, 0, setting.data(), static_cast<int>(setting.size())) ==
      nullptr) {
    return {};
  }
  const std::string text(password.Reveal());
  const char* computed = crypt_r(text.c_str(), setting.c_str(), &data);
  std::string hash = computed != nullptr && computed[0] != '*' ? computed : "";
  protocols::Wipe(const_cast<char*>(text.data()), text.size());
  protocols::Wipe(&data, sizeof(data));
  return hash;
}

}  // namespace gatepost::auth
