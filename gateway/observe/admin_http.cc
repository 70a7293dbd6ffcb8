// SPDX-License-Identifier: Apache-2.0
#include "gateway/observe/admin_http.h"

#include <civetweb.h>
#include <fmt/format.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <string_view>
#include <thread>
#include <utility>

#include "gateway/net/address.h"
#include "gateway/observe/status_page.h"

namespace gatepost::observe {
namespace {

// Browsers open connections ahead of need and keep them silent: they must not keep a scrape
// waiting.
constexpr const char* kThreads = "6";

int Reply(mg_connection* connection, int status, const char* phrase, const char* type,
          std::string_view body, const std::string& headers = {}) {
  mg_printf(connection,
            "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
            "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n%s\r\n",
            status, phrase, type, body.size(), headers.c_str());
  const bool head = std::string_view(mg_get_request_info(connection)->request_method) == "HEAD";
  if (!head) mg_write(connection, body.data(), body.size());
  return status;
}

// Nonce returns what no page can guess; empty: the system gave no randomness.
std::string Nonce() {
  std::array<unsigned char, 16> random{};
  if (getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size())) return {};
  return fmt::format("{:02x}", fmt::join(random, ""));
}

}  // namespace

struct AdminHttp::Server {
  explicit Server(Sources given) : sources(std::move(given)) {}

  const Sources sources;
  net::Address address;
  mg_context* context = nullptr;

  static int ServeMetrics(mg_connection* connection, void* data) {
    const auto& self = *static_cast<Server*>(data);
    return Reply(connection, 200, "OK", "text/plain; version=0.0.4; charset=utf-8",
                 self.sources.metrics.Render());
  }
  static int ServeCheck(mg_connection* connection, const std::function<std::string()>& check) {
    const std::string problem = check();
    if (problem.empty()) return Reply(connection, 200, "OK", "text/plain", "ok\n");
    return Reply(connection, 503, "Service Unavailable", "text/plain", problem + "\n");
  }
  static int ServeHealth(mg_connection* connection, void* data) {
    return ServeCheck(connection, static_cast<Server*>(data)->sources.healthy);
  }
  static int ServeReady(mg_connection* connection, void* data) {
    return ServeCheck(connection, static_cast<Server*>(data)->sources.ready);
  }

  // Refused says what is wrong with a request for what people look at, and answers it; 0: nothing.
  [[nodiscard]] int Refused(mg_connection* connection) const {
    const std::string_view method = mg_get_request_info(connection)->request_method;
    if (method != "GET" && method != "HEAD") {
      return Reply(connection, 405, "Method Not Allowed", "text/plain", "only GET and HEAD\n",
                   "Allow: GET, HEAD\r\n");
    }
    const char* host = mg_get_header(connection, "Host");
    if (MayAsk(host == nullptr ? "" : host, sources.hostname)) return 0;
    return Reply(connection, 403, "Forbidden", "text/plain",
                 "Ask by address, as localhost or by the gateway's hostname.\n");
  }
  static int ServeStatus(mg_connection* connection, void* data) {
    const auto& self = *static_cast<Server*>(data);
    if (const int refused = self.Refused(connection); refused != 0) return refused;
    return Reply(connection, 200, "OK", "application/json", self.sources.status(),
                 "Cross-Origin-Resource-Policy: same-origin\r\n");
  }
  static int ServePage(mg_connection* connection, void* data) {
    if (const int refused = static_cast<Server*>(data)->Refused(connection); refused != 0) {
      return refused;
    }
    const std::string nonce = Nonce();
    if (nonce.empty()) {
      return Reply(connection, 503, "Service Unavailable", "text/plain", "no randomness\n");
    }
    return Reply(connection, 200, "OK", "text/html; charset=utf-8", StatusPage(nonce),
                 fmt::format("Content-Security-Policy: default-src 'none'; script-src 'nonce-{0}'; "
                             "style-src 'nonce-{0}'; img-src data:; connect-src 'self'; "
                             "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
                             "require-trusted-types-for 'script'\r\n"
                             "Cross-Origin-Opener-Policy: same-origin\r\n"
                             "Cross-Origin-Resource-Policy: same-origin\r\n"
                             "Referrer-Policy: no-referrer\r\nX-Frame-Options: DENY\r\n",
                             nonce));
  }
};

tl::expected<std::unique_ptr<AdminHttp>, std::string> AdminHttp::Start(
    const config::SocketAddress& address, Sources sources) {
  std::unique_ptr<AdminHttp> admin(new AdminHttp);
  admin->server_ = std::make_unique<Server>(std::move(sources));
  Server& server = *admin->server_;
  server.address = net::Address::Parse(address.host, address.port).value_or(net::Address());
  const std::string where = server.address.Text();
  const char* options[] = {"listening_ports",
                           where.c_str(),
                           "num_threads",
                           kThreads,
                           "request_timeout_ms",
                           "5000",
                           "enable_directory_listing",
                           "no",
                           nullptr};
  mg_callbacks callbacks{};
  callbacks.log_message = [](const mg_connection*, const char*) { return 1; };
  mg_init_library(0);
  server.context = mg_start(&callbacks, &server, options);
  if (server.context == nullptr) {
    return tl::unexpected("admin.address: can't listen on " + where +
                          " (in use, or not an address of this machine)");
  }
  mg_set_request_handler(server.context, "/metrics$", &Server::ServeMetrics, &server);
  mg_set_request_handler(server.context, "/healthz$", &Server::ServeHealth, &server);
  mg_set_request_handler(server.context, "/readyz$", &Server::ServeReady, &server);
  mg_set_request_handler(server.context, "/api/status$", &Server::ServeStatus, &server);
  mg_set_request_handler(server.context, "/$", &Server::ServePage, &server);
  return admin;
}

AdminHttp::~AdminHttp() {
  if (!server_ || server_->context == nullptr) return;
  // civetweb looks at its stop flag only after a connection or two seconds: connect until it did.
  std::atomic<bool> stopped{false};
  std::thread stopper([&] {
    mg_stop(server_->context);
    stopped.store(true);
  });
  while (!stopped.load()) {
    const int wake = socket(server_->address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (wake >= 0) {
      (void)connect(wake, server_->address.get(), server_->address.length());
      close(wake);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  stopper.join();
  mg_exit_library();
}

}  // namespace gatepost::observe
