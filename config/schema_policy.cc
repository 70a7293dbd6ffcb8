// The keys of [policy], and what must hold between them.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "config/checks.h"
#include "config/schema_tables.h"

namespace gatepost::config {

Table<Policy> PolicyTable() {
  return {
      "[policy]",
      {
          ListField("urls", &Policy::urls, ParseHttpUrl, "http or https URLs",
                    "[\"https://policy.internal:8084/\"]",
                    "Where the service is asked; the others when the first does not work.")
              .Required(),
          PathField("nonce_file", &Policy::nonce_file, "\"/etc/gatepost/policy-nonce\"",
                    "Its first line is the secret that is hashed with each password, the same for "
                    "all that ask the service (Dovecot's auth_policy_hash_nonce).")
              .Required(),
          PathField("header_file", &Policy::header_file, "\"/etc/gatepost/policy-header\"",
                    "Its first line is a header field that each request has, such as "
                    "\"Authorization: Basic ...\".")
              .Default("none"),
          PathField("ca_file", &Policy::ca_file, "\"/etc/gatepost/policy-ca.pem\"",
                    "Certificates (PEM) that the certificate of an https URL must descend from.")
              .Default("the system's certificates"),
          IntegerField("hash_bits", &Policy::hash_bits, 1, 256, "12",
                       "So much of a password's hash is sent."),
          DurationField("timeout", &Policy::timeout, milliseconds(100), seconds(30), "\"2s\"",
                        "Longest wait for the answer of one URL, with the connecting."),
          DurationField("max_delay", &Policy::max_delay, milliseconds(0), std::chrono::minutes(1),
                        "\"15s\"", "Longest delay of a login, whatever the service asks for."),
          IntegerField("max_concurrent", &Policy::max_concurrent, 1, 1000, "32",
                       "Questions, and as many reports, of each worker at a time; more wait."),
          BooleanField("report", &Policy::report, "true",
                       "Tell the service what became of each login."),
          BooleanField("reject_on_failure", &Policy::reject_on_failure, "true",
                       "While the service is out of order, refuse logins with a temporary error "
                       "instead of letting them go on."),
          BooleanField("log_only", &Policy::log_only, "true",
                       "Log what the service decides, and go on all the same."),
      }};
}

void CheckPolicy(const Policy& policy, Findings& findings) {
  if (!findings.Has("policy.ca_file") || !findings.Sound("policy.urls")) return;
  if (std::any_of(policy.urls.begin(), policy.urls.end(),
                  [](const HttpUrl& url) { return url.https; })) {
    return;
  }
  findings.Add(findings.PlaceOf("policy.ca_file"), "policy.ca_file",
               "has no effect without an https URL; remove it, or use one, for example: urls = "
               "[\"https://policy.internal:8084/\"]");
}

}  // namespace gatepost::config
