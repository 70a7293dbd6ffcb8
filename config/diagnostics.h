// How an error in a configuration is worded: quoting, likeness of words, and the collection.
//
// Knows nothing of TOML or of what the keys mean.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "config/loader.h"
#include "config/schema.h"

namespace gatepost::config {

// Quote returns `text` in double quotes with control characters and bytes that are not ASCII
// escaped, shortened to what fits a line, and without the user and password of a URL: it may go to
// a terminal and to the log.
[[nodiscard]] std::string Quote(std::string_view text);

// Nearest returns the word most like `text`, or an empty view when none is near enough to be what
// was meant. Case does not count.
[[nodiscard]] std::string_view Nearest(std::string_view text,
                                       std::span<const std::string_view> words);

// Findings collects what is wrong with one file, and remembers where each key stands, so that a
// check between two keys can point to one of them and knows whether its value can be trusted.
class Findings {
 public:
  explicit Findings(std::string file) : file_(std::move(file)) {}

  void Add(Place place, std::string key, std::string message);

  // Saw records that the file has the key `path`, and where its value stands.
  void Saw(const std::string& path, Place place) { places_[path] = place; }

  [[nodiscard]] bool Has(const std::string& path) const { return places_.contains(path); }
  // PlaceOf returns the place of a key's value; for a key that is not in the file that of the
  // nearest enclosing table or array.
  [[nodiscard]] Place PlaceOf(std::string_view path) const;
  // Sound tells that nothing was found wrong with the key or anything inside it.
  [[nodiscard]] bool Sound(std::string_view path) const;

  [[nodiscard]] bool empty() const { return diagnostics_.empty(); }
  // Take returns everything in the order of the file.
  [[nodiscard]] Diagnostics Take();

 private:
  std::string file_;
  std::map<std::string, Place, std::less<>> places_;
  Diagnostics diagnostics_;
};

}  // namespace gatepost::config
