// SPDX-License-Identifier: Apache-2.0
#include "gateway/control/documents.h"

#include <cmath>
#include <nlohmann/json.hpp>

namespace gatepost::control {
namespace {

using nlohmann::json;

constexpr int64_t kDayS = 86'400;

json ToJson(const ProtocolStatus& protocol) {
  return {{"protocol", protocol.protocol},
          {"connections", protocol.connections},
          {"sessions", protocol.sessions},
          {"logins_ok", protocol.logins_ok},
          {"logins_failed", protocol.logins_failed},
          {"logins_deferred", protocol.logins_deferred},
          {"logins_limited", protocol.logins_limited},
          {"bytes_in", protocol.bytes_in},
          {"bytes_out", protocol.bytes_out}};
}

json ToJson(const ListenerStatus& listener) {
  return {{"name", listener.name},           {"protocol", listener.protocol},
          {"addresses", listener.addresses}, {"tls", listener.tls},
          {"pool", listener.pool},           {"connections", listener.connections},
          {"accepted", listener.accepted},   {"handshakes_failed", listener.handshakes_failed}};
}

json ToJson(const MemberStatus& member) {
  json document = {{"pool", member.pool},
                   {"protocol", member.protocol},
                   {"member", member.member},
                   {"state", member.state},
                   {"problem", member.problem},
                   {"weight", member.weight},
                   {"priority", member.priority},
                   {"share", member.share},
                   {"sessions", member.sessions},
                   {"logins", member.logins},
                   {"transitions", member.transitions}};
  if (member.login_ms) document["login_ms"] = std::round(*member.login_ms * 10) / 10;
  return document;
}

json ToJson(const observe::FailedLogin& login, bool names) {
  json document = {{"time", login.time},
                   {"protocol", login.protocol},
                   {"listener", login.listener},
                   {"mechanism", login.mechanism},
                   {"reason", login.reason}};
  if (names) {
    document["client"] = login.client;
    document["user"] = login.user;
  }
  return document;
}

json ToJson(const CertificateStatus& certificate, int64_t now) {
  json document = {{"certificate", certificate.certificate},
                   {"name", certificate.name},
                   {"problem", certificate.problem}};
  if (certificate.not_after != 0) {
    document["not_after"] = certificate.not_after;
    document["days_left"] = (certificate.not_after - now) / kDayS;
  }
  return document;
}

json ToJson(const session::SessionInfo& session) {
  return {{"id", session.id},
          {"protocol", session.protocol},
          {"listener", session.listener},
          {"client", session.client},
          {"user", session.user},
          {"pool", session.pool},
          {"backend", session.backend},
          {"tls", session.tls},
          {"mechanism", session.mechanism},
          {"state", session.state},
          {"age_ms", session.age_ms},
          {"idle_ms", session.idle_ms},
          {"bytes_in", session.bytes_in},
          {"bytes_out", session.bytes_out},
          {"messages", session.messages}};
}

template <typename List, typename Function>
json Array(const List& list, Function function) {
  json array = json::array();
  for (const auto& entry : list) array.push_back(function(entry));
  return array;
}

}  // namespace

json ToJson(const Status& status, bool names) {
  const auto plain = [](const auto& entry) { return ToJson(entry); };
  json versions = json::object();
  for (const VersionCount& count : status.tls_versions) {
    versions[std::string(count.version)] = count.sessions;
  }
  return {{"version", status.version},
          {"tls_library", status.tls_library},
          {"hostname", status.hostname},
          {"pid", status.pid},
          {"started", status.started},
          {"time", status.time},
          {"state", status.state},
          {"problem", status.problem},
          {"generation", status.generation},
          {"generations", status.generations},
          {"workers", status.workers},
          {"drain_remaining_s", status.drain_remaining_s},
          {"connections", status.connections},
          {"connection_limit", status.connection_limit},
          {"protocols", Array(status.protocols, plain)},
          {"listeners", Array(status.listeners, plain)},
          {"tls_versions", versions},
          {"backends", BackendsJson(status)["backends"]},
          {"certificates", CertificatesJson(status)["certificates"]},
          {"failed_logins", Array(status.failed_logins,
                                  [names](const auto& entry) { return ToJson(entry, names); })}};
}

std::string StatusDocument(const Gateway& gateway, bool names) {
  return Serialize(ToJson(gateway.GetStatus(), names));
}

json ToJson(const SessionList& list) {
  return {{"matched", list.matched},
          {"sessions", Array(list.sessions, [](const auto& entry) { return ToJson(entry); })}};
}

json BackendsJson(const Status& status) {
  return {{"backends", Array(status.backends, [](const auto& entry) { return ToJson(entry); })}};
}

json CertificatesJson(const Status& status) {
  return {{"certificates", Array(status.certificates,
                                 [&](const auto& entry) { return ToJson(entry, status.time); })}};
}

std::string Serialize(const json& document) {
  return document.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace gatepost::control
