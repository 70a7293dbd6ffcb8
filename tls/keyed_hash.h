// A keyed hash (SipHash-2-4): what a table is indexed by whose keys come from strangers.
//
// Whoever does not know the key, which is random and of one object by default, can't make two
// inputs meet, nor tell anything of an input from its hash. 64 bits are for tables, not for
// signatures.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace gatepost::tls {

class KeyedHash {
 public:
  KeyedHash();
  // The key comes from `secret`: whoever has that has the same hashes.
  explicit KeyedHash(std::string_view secret);

  // Of returns the hash of `bytes`; with another `tweak` it is another function.
  [[nodiscard]] uint64_t Of(std::string_view bytes, uint64_t tweak = 0) const;

 private:
  std::array<uint64_t, 2> key_{};
};

}  // namespace gatepost::tls
