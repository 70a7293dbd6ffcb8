// SPDX-License-Identifier: Apache-2.0
#include "gateway/observe/admin_http.h"

#include <civetweb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <string_view>
#include <thread>
#include <utility>

#include "gateway/net/address.h"

namespace gatepost::observe {
namespace {

int Reply(mg_connection* connection, int status, const char* phrase, const char* type,
          std::string_view body) {
  mg_printf(connection,
            "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
            "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\r\n",
            status, phrase, type, body.size());
  const bool head = std::string_view(mg_get_request_info(connection)->request_method) == "HEAD";
  if (!head) mg_write(connection, body.data(), body.size());
  return status;
}

}  // namespace

struct AdminHttp::Server {
  const Metrics* metrics = nullptr;
  Check healthy;
  Check ready;
  net::Address address;
  mg_context* context = nullptr;

  static int ServeMetrics(mg_connection* connection, void* data) {
    const auto& self = *static_cast<Server*>(data);
    return Reply(connection, 200, "OK", "text/plain; version=0.0.4; charset=utf-8",
                 self.metrics->Render());
  }
  static int ServeCheck(mg_connection* connection, const Check& check) {
    const std::string problem = check();
    if (problem.empty()) return Reply(connection, 200, "OK", "text/plain", "ok\n");
    return Reply(connection, 503, "Service Unavailable", "text/plain", problem + "\n");
  }
  static int ServeHealth(mg_connection* connection, void* data) {
    return ServeCheck(connection, static_cast<Server*>(data)->healthy);
  }
  static int ServeReady(mg_connection* connection, void* data) {
    return ServeCheck(connection, static_cast<Server*>(data)->ready);
  }
};

tl::expected<std::unique_ptr<AdminHttp>, std::string> AdminHttp::Start(
    const config::SocketAddress& address, const Metrics& metrics, Check healthy, Check ready) {
  std::unique_ptr<AdminHttp> admin(new AdminHttp);
  admin->server_ = std::make_unique<Server>();
  Server& server = *admin->server_;
  server.metrics = &metrics;
  server.healthy = std::move(healthy);
  server.ready = std::move(ready);
  server.address = net::Address::Parse(address.host, address.port).value_or(net::Address());
  const std::string where = server.address.Text();
  const char* options[] = {
      "listening_ports",          where.c_str(), "num_threads", "2", "request_timeout_ms", "5000",
      "enable_directory_listing", "no",          nullptr};
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
