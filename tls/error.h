// What went wrong in tls/, for people: at the loading of files and the making of contexts.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace gatepost::tls {

// Error says it in words that name the file and the check. Never holds key material; printable
// characters only, so that it may go into a log as it is.
struct Error {
  std::string text;
};

}  // namespace gatepost::tls
