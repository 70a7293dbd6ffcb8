// The command line: serve, check, hash-password, version, and what asks the running gateway.
// SPDX-License-Identifier: Apache-2.0
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <termios.h>
#include <unistd.h>
#include <uv.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "config/diagnostics.h"
#include "config/loader.h"
#include "config/values.h"
#include "gateway/auth/passwords.h"
#include "gateway/backends/member.h"
#include "gateway/control/client.h"
#include "gateway/prepare.h"
#include "gateway/privileges.h"
#include "gateway/rehearsal.h"
#include "gateway/server.h"
#include "protocols/buffer.h"
#include "tls/context.h"

namespace {

using namespace gatepost;

constexpr int kExitConfiguration = 2;
constexpr std::string_view kDefaultFile = "/etc/gatepost/gatepost.toml";
constexpr uint16_t kTls12 = 0x0303;

// Load reads the configuration and everything that it names, and prints what is wrong.
tl::expected<Prepared, int> Load(const std::string& file,
                                 std::shared_ptr<const tls::KeyLog> key_log = nullptr) {
  auto prepared = Prepare(file, std::move(key_log));
  if (!prepared) {
    for (const std::string& error : prepared.error()) fmt::print(stderr, "{}\n", error);
    return tl::unexpected(kExitConfiguration);
  }
  return std::move(*prepared);
}

int Serve(const std::string& file, const std::string& key_log_file,
          std::vector<std::string> arguments) {
  ForbidCoreDumps();  // before keys and passwords are read
  std::shared_ptr<const tls::KeyLog> key_log;
  if (!key_log_file.empty()) {
    auto opened = tls::KeyLog::Open(key_log_file);
    if (!opened) {
      fmt::print(stderr, "gatepost: --tls-keylog: {}\n", opened.error().text);
      return kExitConfiguration;
    }
    key_log = std::move(*opened);
  }
  auto prepared = Load(file, std::move(key_log));
  if (!prepared) return prepared.error();
  return Server(std::move(*prepared), std::move(arguments)).Run();
}

void PrintCrl(const tls::ClientVerifier::Crl& crl) {
  using Clock = std::chrono::system_clock;
  if (crl.next_update == Clock::time_point::max()) {
    fmt::print("      revocation list of {}, without an end\n", crl.issuer);
    return;
  }
  fmt::print("      revocation list of {}, {} {:%Y-%m-%d %H:%M} UTC\n", crl.issuer,
             crl.next_update < Clock::now()
                 ? "EXPIRED, so that every certificate of that issuer is refused, since"
                 : "good until",
             fmt::gmtime(Clock::to_time_t(crl.next_update)));
}

void PrintCertificateUsers(const config::Listener& settings, const auth::CertificateUsers& users) {
  switch (settings.client_certificate_user) {
    case config::CertificateUser::kNone:
      return;
    case config::CertificateUser::kEmail:
      return fmt::print("      log in as their e-mail address (EXTERNAL)\n");
    case config::CertificateUser::kCommonName:
      return fmt::print("      log in as their common name (EXTERNAL)\n");
    case config::CertificateUser::kMap:
      return fmt::print("      log in (EXTERNAL) as {} lines in {} say\n", users.map()->size(),
                        settings.client_certificate_map->string());
  }
}

void PrintTickets(const tls::TicketKeys& tickets) {
  const auto hours = std::chrono::duration<double, std::ratio<3600>>(tickets.lifetime()).count();
  if (tickets.file()) {
    fmt::print("\nSession tickets: good for {:.3g} hours, {} key{} from {}\n", hours,
               tickets.size(), tickets.size() == 1 ? "" : "s", tickets.file()->string());
  } else {
    fmt::print("\nSession tickets: good for {:.3g} hours, keys of this process alone\n", hours);
  }
}

void PrintCertificates(const TlsFiles& files) {
  fmt::print("\nCertificates\n");
  const auto now = std::chrono::system_clock::now();
  for (const auto& certificate : files.certificates()) {
    const tls::CertificateInfo& info = certificate->info();
    const auto days =
        std::chrono::duration_cast<std::chrono::hours>(info.not_after - now).count() / 24;
    fmt::print("  {}\n    {}, {} days left (until {:%Y-%m-%d}), issued by {}\n    for {}\n",
               info.chain_file.string(), info.key_text, days,
               fmt::gmtime(std::chrono::system_clock::to_time_t(info.not_after)), info.issuer,
               fmt::join(info.names, ", "));
    if (info.stapled_until == std::chrono::system_clock::time_point::max()) {
      fmt::print("    OCSP response stapled, without an end\n");
    } else if (info.stapled_until) {
      fmt::print("    OCSP response stapled until {:%Y-%m-%d %H:%M} UTC\n",
                 fmt::gmtime(std::chrono::system_clock::to_time_t(*info.stapled_until)));
    }
  }
  for (const TlsFiles::Status& status : files.statuses()) {
    if (status.problem.empty()) continue;
    fmt::print("  {}\n    NOT USED: {}\n", status.part, status.problem);
  }
}

void PrintAuthority(const auth::AuthorityRuntime& authority) {
  const config::Authority& settings = authority.settings;
  std::string clients;
  for (const config::PlacedName& listener : settings.listeners) {
    clients += (clients.empty() ? "; listeners " : ", ") + listener.name;
  }
  if (!settings.domains.empty()) {
    clients += fmt::format("; domains {}", fmt::join(settings.domains, ", "));
  }
  std::string what;
  switch (settings.kind) {
    case config::AuthorityKind::kBackend:
      what = "the backend itself";
      break;
    case config::AuthorityKind::kPasswords:
      what = fmt::format("{} users in {}", authority.passwords->size(), settings.file.string());
      break;
    case config::AuthorityKind::kHttp:
      for (const config::HttpUrl& url : settings.urls) {
        what += (what.empty() ? "" : ", else ") + config::Text(url);
      }
      break;
    case config::AuthorityKind::kLogin:
      what = fmt::format("a login at pool {} ({})", settings.pool, config::Name(settings.protocol));
      break;
    case config::AuthorityKind::kDovecot:
      what = "Dovecot's auth process at " + config::Text(settings.socket);
      break;
  }
  fmt::print("  {:<12} {}{}\n", settings.name, what, clients);
}

int Check(const std::string& file) {
  const auto prepared = Load(file);
  if (!prepared) {
    fmt::print(stderr, "{}: not usable, see above\n", file);
    return prepared.error();
  }
  const Rehearsal rehearsal = Rehearse(*prepared);
  for (const std::string& warning : rehearsal.warnings) {
    fmt::print(stderr, "warning: {}\n", warning);
  }
  if (!rehearsal.errors.empty()) {
    for (const std::string& error : rehearsal.errors) fmt::print(stderr, "{}\n", error);
    fmt::print(stderr, "{}: not usable, see above\n", file);
    return kExitConfiguration;
  }
  fmt::print("{}: good\n\nListeners\n", file);
  for (const auto& listener : prepared->runtime->listeners) {
    const config::Listener& settings = listener->settings;
    std::string addresses;
    for (const config::SocketAddress& address : settings.addresses) {
      if (!addresses.empty()) addresses += ", ";
      addresses += net::Address::Parse(address.host, address.port)->Text();
    }
    const bool implicit = settings.tls == config::ListenerTls::kImplicit;
    const bool cleartext = settings.cleartext_login == config::CleartextLogin::kAllow;
    fmt::print("  {:<12} {:<5} {:<22} {:<9} {:<21} pool {}\n", settings.name,
               protocols::Name(listener->protocol), addresses, implicit ? "TLS" : "STARTTLS",
               implicit ? "" : (cleartext ? "cleartext login: yes" : "cleartext login: no"),
               settings.pool);
    if (settings.relay == config::Relay::kLocalDomains) {
      fmt::print("    without a login: mail for {}, to pool {}{}\n",
                 fmt::join(settings.local_domains, ", "), *settings.inbound_pool,
                 settings.inbound_authority
                     ? ", each recipient as authority " + *settings.inbound_authority + " says"
                     : std::string());
    } else if (settings.protocol == config::Protocol::kSmtp) {
      fmt::print("    without a login: nothing\n");
    }
    const tls::ServerContext& context = *prepared->tls_files->contexts()[listener->index];
    const tls::Offer& offer = context.offer();
    std::string groups;
    for (const char c : offer.groups) groups += c == ':' ? std::string(", ") : std::string(1, c);
    fmt::print("    TLS {}{}, groups {}{}\n", tls::VersionText(offer.minimum_version),
               offer.minimum_version == offer.maximum_version ? "" : " and up", groups,
               offer.minimum_version < kTls12 ? ", below TLS 1.2: for old devices alone" : "");
    const auto& shown = context.certificates()->certificates();
    fmt::print("    {} certificate{}, by default {}{}\n", shown.size(),
               shown.size() == 1 ? "" : "s", shown.front()->info().chain_file.string(),
               settings.strict_sni ? "; a client that asks for another name is refused" : "");
    if (const auto& verifier = context.client_verifier()) {
      fmt::print("    client certificates: {}, of {}\n",
                 settings.client_certificates == config::ClientCertificates::kRequire ? "required"
                                                                                      : "requested",
                 settings.client_ca_file->string());
      for (const tls::ClientVerifier::Crl& crl : verifier->crls()) PrintCrl(crl);
      if (listener->certificate_users)
        PrintCertificateUsers(settings, *listener->certificate_users);
    }
  }
  PrintTickets(prepared->tls_files->ticket_keys());
  PrintCertificates(*prepared->tls_files);
  fmt::print("\nPools\n");
  for (const config::Pool& pool : prepared->runtime->config.pools) {
    std::string members;
    for (const config::PoolMember& member : pool.members) {
      members += members.empty() ? "" : ", ";
      if (member.kind == config::MemberKind::kSrv) {
        members += "srv:" + member.address.host;
        continue;
      }
      if (member.kind == config::MemberKind::kDns) members += "dns:";
      members += backends::MemberName(member.address);
    }
    fmt::print("  {:<12} {}{}\n", pool.name, members,
               pool.tls == config::BackendTls::kNone ? " (cleartext)"
               : pool.verify                         ? " (TLS, verified)"
               : !pool.pins.empty()                  ? " (TLS, by the key alone)"
                                                     : " (TLS, NOT verified)");
    if (pool.master_user) {
      fmt::print("    {} log in as {} on their behalf{}\n",
                 pool.login == config::BackendLogin::kMaster ? "clients"
                                                             : "clients with a certificate alone",
                 *pool.master_user,
                 PasswordExposed(pool.master_password_file)
                     ? "; EVERY USER OF THIS MACHINE CAN READ ITS PASSWORD"
                     : "");
    }
    if (pool.account) {
      fmt::print("    everybody logs in as {}{}\n", *pool.account,
                 PasswordExposed(pool.account_password_file)
                     ? "; EVERY USER OF THIS MACHINE CAN READ ITS PASSWORD"
                     : "");
    }
    if (pool.tls == config::BackendTls::kNone) continue;
    const uint16_t minimum = backends::MinimumVersion(pool);
    fmt::print("    TLS {}{}{}{}\n", tls::VersionText(minimum), minimum > kTls12 ? "" : " and up",
               pool.pins.empty() ? ""
                                 : fmt::format(", {} key{} allowed", pool.pins.size(),
                                               pool.pins.size() == 1 ? "" : "s"),
               minimum < kTls12 ? ", below TLS 1.2: for old backends alone" : "");
    if (pool.client_certificate) {
      fmt::print("    our certificate: {}\n", pool.client_certificate->string());
    }
  }
  const auto& routes = prepared->runtime->config.routes;
  if (!routes.empty()) fmt::print("\nRoutes\n");
  for (size_t i = 0; i < routes.size(); ++i) {
    if (const auto users = prepared->tls_files->user_routes(i)) {
      fmt::print("  {:<5} {} users in {}\n", config::Name(routes[i].protocol), users->size(),
                 routes[i].users_file->string());
    } else {
      fmt::print("  {:<5} users of {} go to pool {}\n", config::Name(routes[i].protocol),
                 fmt::join(routes[i].domains, ", "), routes[i].pool);
    }
  }
  fmt::print("\nAuthorities, of which the first that is for a client decides\n");
  for (const auto& authority : prepared->runtime->authorities) PrintAuthority(*authority);
  return 0;
}

// ReadPassword asks on the terminal without echo, or takes the first line of standard input.
sasl::Secret ReadPassword() {
  const bool terminal = isatty(STDIN_FILENO) == 1;
  termios saved{};
  if (terminal) {
    fmt::print(stderr, "Password: ");
    tcgetattr(STDIN_FILENO, &saved);
    termios silent = saved;
    silent.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
  }
  std::string line;
  std::getline(std::cin, line);
  if (terminal) {
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &saved);
    fmt::print(stderr, "\n");
  }
  if (line.ends_with('\r')) line.pop_back();
  sasl::Secret password(line);
  protocols::Wipe(line.data(), line.size());
  return password;
}

// HashPassword prints a hash, or with `user` (null: none) a line of a password file.
int HashPassword(const std::string* user) {
  if (user != nullptr) {
    if (const std::string wrong = auth::WrongInPasswordFile(*user); !wrong.empty()) {
      fmt::print(stderr, "gatepost: {} cannot be a user of a password file: {}\n",
                 config::Quote(*user), wrong);
      return kExitConfiguration;
    }
  }
  const sasl::Secret password = ReadPassword();
  if (password.empty()) {
    fmt::print(stderr, "gatepost: the password is empty\n");
    return 1;
  }
  const std::string hash = auth::HashPassword(password);
  if (hash.empty()) {
    fmt::print(stderr, "gatepost: the system gave no randomness for a salt\n");
    return 1;
  }
  fmt::print("{}{}\n", user == nullptr ? "" : *user + ":", hash);
  return 0;
}

int Version() {
  fmt::print("gatepost {}\n{}\nlibuv {}\ncompiler {}\n", GATEPOST_VERSION, tls::LibraryVersion(),
             uv_version_string(), __VERSION__);
  return 0;
}

// ---- the running gateway
// ---------------------------------------------------------------------------------------

// What a command that asks the running gateway is told.
struct Asked {
  std::string file = std::string(kDefaultFile);
  std::string socket;
  std::string target;
  control::Request request;
  bool wait = false;
};

// FindSocket returns --socket, or what the configuration says.
tl::expected<std::filesystem::path, int> FindSocket(const Asked& asked) {
  if (!asked.socket.empty()) return asked.socket;
  std::ifstream stream(asked.file, std::ios::binary);
  if (!stream) {
    fmt::print(stderr, "{}: cannot be read: {}; or name the socket with --socket\n", asked.file,
               std::strerror(errno));
    return tl::unexpected(kExitConfiguration);
  }
  const std::string text{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
  const auto admin = config::ParseAdmin(text, asked.file);
  if (!admin) {
    for (const config::Diagnostic& diagnostic : admin.error()) {
      fmt::print(stderr, "{}\n", diagnostic.Text());
    }
    return tl::unexpected(kExitConfiguration);
  }
  if (!admin->socket) {
    fmt::print(stderr,
               "{}: there is no admin.socket to ask, for example: [admin] with "
               "socket = \"/run/gatepost/control.sock\"\n",
               asked.file);
    return tl::unexpected(kExitConfiguration);
  }
  return *admin->socket;
}

// KeyOf says what a target without an option is: the form tells a session and a backend.
std::string KeyOf(std::string_view target) {
  const auto is_id = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  constexpr size_t kIdSize = 20;
  if (target.size() == kIdSize && std::all_of(target.begin(), target.end(), is_id)) {
    return "session";
  }
  const size_t colon = target.rfind(':');
  const bool has_port = colon != std::string_view::npos && colon > 0 && colon + 1 < target.size() &&
                        target.find_first_not_of("0123456789", colon + 1) == std::string_view::npos;
  return has_port ? "backend" : "user";
}

// WrongKick says what is wrong with whom a kick is to end; empty: nothing. Whom nothing is said of,
// or two things of the same kind, is nobody that can have been meant.
std::string WrongKick(const Asked& asked) {
  const auto& keys = asked.request.keys;
  if (asked.target.empty()) {
    return keys.at("user").empty() && keys.at("backend").empty()
               ? "whom? name a user, a session or a backend's HOST:PORT"
               : "";
  }
  const std::string key = KeyOf(asked.target);
  const auto option = keys.find(key);
  return option == keys.end() || option->second.empty()
             ? ""
             : fmt::format("the target {} is a {}, and so is that of --{}; name one of both",
                           config::Quote(asked.target), key, key);
}

int Ask(Asked& asked) {
  if (asked.request.command == "kick") {
    if (const std::string wrong = WrongKick(asked); !wrong.empty()) {
      fmt::print(stderr, "gatepost: kick: {}\n", wrong);
      return kExitConfiguration;
    }
  }
  const auto socket = FindSocket(asked);
  if (!socket) return socket.error();
  asked.request.socket = *socket;
  if (!asked.target.empty()) asked.request.keys[KeyOf(asked.target)] = asked.target;
  const int status = control::Run(asked.request);
  if (status == control::kGood && asked.wait) control::AwaitEnd(*socket);
  return status;
}

// UnknownCommand returns what stands on the command line in the place of a sub-command, and is
// none; empty: nothing does.
std::string UnknownCommand(const CLI::App& app) {
  const std::vector<std::string> words = app.remaining();
  const auto word = std::find_if(words.begin(), words.end(),
                                 [](const std::string& own) { return !own.starts_with('-'); });
  if (!app.get_subcommands().empty() || word == words.end()) return {};
  std::vector<std::string> commands;
  for (const CLI::App* command : app.get_subcommands({})) commands.push_back(command->get_name());
  const std::string_view nearest =
      config::Nearest(*word, std::vector<std::string_view>(commands.begin(), commands.end()));
  return fmt::format("there is no subcommand {}{}", config::Quote(*word),
                     nearest.empty() ? "" : fmt::format("; did you mean {}?", nearest));
}

// AddControl adds the commands that ask the running gateway.
void AddControl(CLI::App& app, Asked& asked, int& status) {
  const auto add = [&](const std::string& name, const std::string& what) {
    CLI::App* command = app.add_subcommand(name, what);
    command->add_option("-c,--config", asked.file, "The configuration, which names the socket")
        ->capture_default_str();
    command->add_option("--socket", asked.socket, "The control socket, instead of that");
    command->add_flag("--json", asked.request.json, "Print JSON, for scripts");
    command->callback([&asked, &status, name] {
      asked.request.command = name;
      status = Ask(asked);
    });
    return command;
  };
  auto& keys = asked.request.keys;
  const CLI::Validator not_empty(
      [](const std::string& text) { return text.empty() ? "is empty" : ""; }, "");
  const auto add_filters = [&](CLI::App* command, const std::string& verb) {
    command->add_option("--user", keys["user"], verb + " those of this user alone")
        ->check(not_empty);
    command->add_option("--protocol", keys["protocol"], verb + " those of this protocol alone")
        ->check(CLI::IsMember({"imap", "pop3", "smtp"}));
    command
        ->add_option("--backend", keys["backend"],
                     verb + " those at this pool or member (HOST:PORT) alone")
        ->check(not_empty);
  };
  add("status", "Show how the running gateway fares");
  CLI::App* sessions = add("sessions", "List the sessions, the oldest first");
  add_filters(sessions, "List");
  sessions->add_option("--limit", asked.request.limit,
                       "List at most so many; 0: only say how many there are");
  add("backends", "Show the members of all pools, their health and load");
  add("certificates", "Show the certificates in use and when they end");
  CLI::App* kick = add("kick", "End sessions politely");
  kick->add_option("target", asked.target,
                   "Whose: a user, a session's id, or a backend's HOST:PORT; or say it with --user "
                   "or --backend. All that is said must be true of a session")
      ->check(not_empty);
  add_filters(kick, "End");
  CLI::App* drain = add("drain", "Have the gateway end politely, as SIGTERM does");
  drain->add_flag("--wait", asked.wait, "Return when it has ended");
  add("reload",
      "Have the gateway read its configuration anew, as SIGHUP does, and say what came of it");
  add("upgrade", "Have the program started anew in the gateway's place, as SIGUSR2 does");
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{
      "Gatepost: a TLS-terminating gateway in front of IMAP, POP3 and SMTP servers.\n"
      "Exit codes: 0 good, 1 a failure at run time, or the running gateway refused, 2 a wrong "
      "configuration or command line, 3 no running gateway could be reached."};
  app.require_subcommand(1);
  app.set_version_flag("--version", GATEPOST_VERSION);

  std::string file{kDefaultFile};
  std::string user;
  std::string key_log_file;
  int status = 0;

  CLI::App* serve = app.add_subcommand("serve", "Run the gateway in the foreground");
  serve->add_option("-c,--config", file, "The configuration file")->capture_default_str();
  serve->add_option(
      "--tls-keylog", key_log_file,
      "DANGER, for debugging alone: append the secrets of all TLS connections to this "
      "file, in the format that Wireshark reads");
  serve->callback([&] {
    // The program's own path, of which a package's update puts another file in place.
    std::error_code error;
    std::vector<std::string> arguments(argv, argv + argc);
    const auto program = std::filesystem::read_symlink("/proc/self/exe", error);
    if (!error) arguments.front() = program.string();
    status = Serve(file, key_log_file, std::move(arguments));
  });

  CLI::App* check =
      app.add_subcommand("check", "Validate a configuration and everything that it names");
  CLI::Option* positional =
      check->add_option("file", file, "The configuration file")->capture_default_str();
  check->add_option("-c,--config", file, "The same")->excludes(positional);
  check->callback([&] { status = Check(file); });

  CLI::App* hash = app.add_subcommand(
      "hash-password", "Read a password (hidden, or from standard input) and print its hash");
  const CLI::Option* line =
      hash->add_option("user", user, "Print a whole line for this user of the password file");
  hash->callback([&] { status = HashPassword(line->count() > 0 ? &user : nullptr); });

  CLI::App* version =
      app.add_subcommand("version", "Print the versions of Gatepost and what it is built with");
  version->callback([&] { status = Version(); });

  Asked asked;
  AddControl(app, asked, status);

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (const std::string unknown = UnknownCommand(app); !unknown.empty()) {
      fmt::print(stderr, "gatepost: {}\nRun with --help for more information.\n", unknown);
      return kExitConfiguration;
    }
    return app.exit(error) == 0 ? 0 : kExitConfiguration;
  } catch (const std::exception& error) {
    fmt::print(stderr, "gatepost: {}\n", error.what());
    return 1;
  }
  return status;
}
