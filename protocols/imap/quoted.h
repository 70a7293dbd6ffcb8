// Quoted strings, as IMAP has them.
//
// RFC 9051 §9 ("quoted"); RFC 2971 §3.3 (the list of ID).
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "protocols/buffer.h"
#include "protocols/introduction.h"

namespace gatepost::imap {

// AppendQuoted writes `text`, which must be such as may be quoted, between double quotes.
void AppendQuoted(std::string_view text, protocols::Buffer& output);

// AppendIdPairs writes "name" "value" "name" …, without the parentheses.
void AppendIdPairs(const protocols::IdPairs& pairs, protocols::Buffer& output);

}  // namespace gatepost::imap
