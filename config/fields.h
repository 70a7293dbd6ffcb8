// One configuration key: its words for people, and how its value gets from TOML into a struct.
//
// A Field is stated once, in schema_tables.cc; parsing, error texts and config/reference.md all
// come from it, and its default from the struct itself. Included by .cc files of config/ only.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <toml++/toml.h>

#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/diagnostics.h"
#include "config/schema.h"
#include "config/values.h"

namespace gatepost::config {

// What people read about a key: the columns of config/reference.md.
struct KeyText {
  std::string_view name;
  std::string type;
  std::string fallback;      // the default: a TOML value, or words
  std::string allowed;       // completes "use …"
  std::string_view meaning;  // one sentence
  std::string_view example;  // a TOML value
  bool required = false;

  [[nodiscard]] std::string Advice() const {
    return "use " + allowed + ", for example: " + std::string(name) + " = " + std::string(example);
  }
};

[[nodiscard]] Place PlaceOf(const toml::source_region& source);
// TypeName returns "a string", "an integer"…
[[nodiscard]] std::string_view TypeName(const toml::node& node);

// Value is one TOML value under the key it was found at. The readers report a wrong type and
// return nullopt. It borrows everything; it lives during the reading of one field.
class Value {
 public:
  Value(const toml::node& node, std::string path, const KeyText& key,
        const std::filesystem::path& folder, Findings& findings)
      : node_(node), path_(std::move(path)), key_(key), folder_(folder), findings_(findings) {}

  [[nodiscard]] std::optional<std::string> String() const;
  [[nodiscard]] std::optional<int64_t> Integer() const;
  [[nodiscard]] std::optional<bool> Boolean() const;
  // List returns the elements, each a Value of its own; empty also after a wrong type.
  [[nodiscard]] std::vector<Value> List() const;
  // Path returns a string as a path, taken from the file's folder when relative.
  [[nodiscard]] std::optional<std::filesystem::path> Path() const;
  [[nodiscard]] std::optional<milliseconds> Duration() const;

  [[nodiscard]] Place place() const { return PlaceOf(node_.source()); }

  // Refuse reports that `found` (as it should be printed) is not allowed.
  void Refuse(const std::string& found, std::string_view did_you_mean = {}) const;

 private:
  void WrongType(std::string_view wanted) const;

  const toml::node& node_;
  std::string path_;
  const KeyText& key_;
  const std::filesystem::path& folder_;
  Findings& findings_;
};

// A key of the table that becomes a T.
template <typename T>
struct Field : KeyText {
  // Stores the value; on an error it has reported it and leaves the member alone.
  std::function<void(const Value&, T&)> read;

  Field&& Required() && {
    required = true;
    fallback = "required";
    return std::move(*this);
  }
  // Default states in words a default that is no constant.
  Field&& Default(const std::string& words) && {
    fallback = words;
    return std::move(*this);
  }
};

// The constructors of fields, one for each kind of value. `example` is a TOML value.

template <typename T>
Field<T> IntegerField(std::string_view name, uint32_t T::*member, uint32_t least, uint32_t most,
                      std::string_view example, std::string_view meaning) {
  const std::string allowed =
      "an integer from " + std::to_string(least) + " to " + std::to_string(most);
  return {{name, "integer", std::to_string(T{}.*member), allowed, meaning, example},
          [=](const Value& value, T& out) {
            const auto number = value.Integer();
            if (!number) return;
            if (*number < least || *number > most) return value.Refuse(std::to_string(*number));
            out.*member = static_cast<uint32_t>(*number);
          }};
}

template <typename T>
Field<T> BooleanField(std::string_view name, bool T::*member, std::string_view example,
                      std::string_view meaning) {
  return {{name, "boolean", T{}.*member ? "true" : "false", "true or false", meaning, example},
          [=](const Value& value, T& out) { out.*member = value.Boolean().value_or(out.*member); }};
}

template <typename T>
Field<T> DurationField(std::string_view name, milliseconds T::*member, milliseconds least,
                       milliseconds most, std::string_view example, std::string_view meaning) {
  const std::string allowed = "a number with its unit (ms, s, m or h) from \"" +
                              FormatDuration(least) + "\" to \"" + FormatDuration(most) + "\"";
  return {{name, "duration", Quote(FormatDuration(T{}.*member)), allowed, meaning, example},
          [=](const Value& value, T& out) {
            const auto duration = value.Duration();
            if (!duration) return;
            if (*duration < least || *duration > most) {
              return value.Refuse(Quote(FormatDuration(*duration)));
            }
            out.*member = *duration;
          }};
}

// ListWords writes words as a sentence has them: "a", "b" or "c".
[[nodiscard]] std::string ListWords(std::span<const std::string_view> words);

// ReadChoice returns the enumerator that the value names, or reports it.
template <NamedEnum E>
std::optional<E> ReadChoice(const Value& value) {
  const auto word = value.String();
  if (!word) return std::nullopt;
  const auto names = Names(E{});
  for (size_t i = 0; i < names.size(); ++i) {
    if (names[i] == *word) return static_cast<E>(i);
  }
  value.Refuse(Quote(*word), Nearest(*word, names));
  return std::nullopt;
}

template <typename T, NamedEnum E>
Field<T> ChoiceField(std::string_view name, E T::*member, std::string_view example,
                     std::string_view meaning) {
  return {{name, "string", Quote(Name(T{}.*member)), ListWords(Names(E{})), meaning, example},
          [=](const Value& value, T& out) {
            if (const auto choice = ReadChoice<E>(value)) out.*member = *choice;
          }};
}

// The same without a constant default: say in words what its absence means.
template <typename T, NamedEnum E>
Field<T> ChoiceField(std::string_view name, std::optional<E> T::*member, std::string_view example,
                     std::string_view meaning) {
  return {{name, "string", "", ListWords(Names(E{})), meaning, example},
          [=](const Value& value, T& out) {
            if (const auto choice = ReadChoice<E>(value)) out.*member = choice;
          }};
}

// A string that `valid` accepts; Member is std::string or std::optional<std::string>.
template <typename T, typename Member>
Field<T> TextField(std::string_view name, Member T::*member, bool (*valid)(std::string_view),
                   std::string_view allowed, std::string_view example, std::string_view meaning) {
  return {{name, "string", "", std::string(allowed), meaning, example},
          [=](const Value& value, T& out) {
            auto text = value.String();
            if (!text) return;
            if (!valid(*text)) return value.Refuse(Quote(*text));
            out.*member = *std::move(text);
          }};
}

// What `parse` makes of a string; Member is what it makes, or an optional one.
template <typename T, typename Member, typename Parsed>
Field<T> ParsedField(std::string_view name, Member T::*member,
                     std::optional<Parsed> (*parse)(std::string_view), std::string_view allowed,
                     std::string_view example, std::string_view meaning) {
  return {{name, "string", "", std::string(allowed), meaning, example},
          [=](const Value& value, T& out) {
            const auto text = value.String();
            if (!text) return;
            auto parsed = parse(*text);
            if (!parsed) return value.Refuse(Quote(*text));
            out.*member = *std::move(parsed);
          }};
}

// A file's path; Member is std::filesystem::path or an optional one.
template <typename T, typename Member>
Field<T> PathField(std::string_view name, Member T::*member, std::string_view example,
                   std::string_view meaning) {
  return {{name, "string", "", "a file's path", meaning, example}, [=](const Value& value, T& out) {
            if (auto path = value.Path()) out.*member = *std::move(path);
          }};
}

// A list of what `parse` makes of strings; never empty.
template <typename T, typename Element>
Field<T> ListField(std::string_view name, std::vector<Element> T::*member,
                   std::optional<Element> (*parse)(std::string_view), std::string_view allowed,
                   std::string_view example, std::string_view meaning) {
  return {{name, "list of strings", "", std::string(allowed), meaning, example},
          [=](const Value& value, T& out) {
            for (const Value& item : value.List()) {
              const auto text = item.String();
              if (!text) continue;
              if (auto element = parse(*text)) {
                (out.*member).push_back(*std::move(element));
              } else {
                item.Refuse(Quote(*text));
              }
            }
          }};
}

// A list of names that are checked later, by the folder that knows them; never empty.
template <typename T>
Field<T> NamesField(std::string_view name, std::vector<PlacedName> T::*member,
                    std::string_view allowed, std::string_view example, std::string_view meaning) {
  return {{name, "list of strings", "", std::string(allowed), meaning, example},
          [=](const Value& value, T& out) {
            for (const Value& item : value.List()) {
              auto text = item.String();
              if (!text) continue;
              if (!IsLabel(*text)) {
                item.Refuse(Quote(*text));
                continue;
              }
              (out.*member).push_back({*std::move(text), item.place()});
            }
          }};
}

}  // namespace gatepost::config
