// SPDX-License-Identifier: Apache-2.0
#include "config/fields.h"

#include <algorithm>

namespace gatepost::config {

Place PlaceOf(const toml::source_region& source) {
  return {source.begin.line, source.begin.column};
}

std::string_view TypeName(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::none:
      return "nothing";
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "a list";
    case toml::node_type::string:
      return "a string";
    case toml::node_type::integer:
      return "an integer";
    case toml::node_type::floating_point:
      return "a floating-point number";
    case toml::node_type::boolean:
      return "a boolean";
    case toml::node_type::date:
      return "a date";
    case toml::node_type::time:
      return "a time";
    case toml::node_type::date_time:
      return "a date and time";
  }
  return "nothing";
}

std::string ListWords(std::span<const std::string_view> words) {
  std::string text;
  for (size_t i = 0; i < words.size(); ++i) {
    if (i > 0) text += i + 1 < words.size() ? ", " : " or ";
    text += Quote(words[i]);
  }
  return text;
}

std::optional<std::string> Value::String() const {
  if (const auto* text = node_.as_string()) return text->get();
  WrongType("a string");
  return std::nullopt;
}

std::optional<int64_t> Value::Integer() const {
  if (const auto* number = node_.as_integer()) return number->get();
  WrongType("an integer");
  return std::nullopt;
}

std::optional<bool> Value::Boolean() const {
  if (const auto* flag = node_.as_boolean()) return flag->get();
  WrongType("a boolean");
  return std::nullopt;
}

std::vector<Value> Value::List() const {
  std::vector<Value> values;
  const toml::array* array = node_.as_array();
  if (array == nullptr) {
    WrongType("a list");
    return values;
  }
  if (array->empty()) Refuse("an empty list");
  for (const toml::node& element : *array) {
    std::string path = path_ + "[" + std::to_string(values.size() + 1) + "]";
    findings_.Saw(path, PlaceOf(element.source()));
    values.emplace_back(element, std::move(path), key_, folder_, findings_);
  }
  return values;
}

std::optional<std::filesystem::path> Value::Path() const {
  const auto text = String();
  if (!text) return std::nullopt;
  const bool control = std::any_of(text->begin(), text->end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
  });
  if (text->empty() || control) {
    Refuse(Quote(*text));
    return std::nullopt;
  }
  return folder_ / *text;
}

std::optional<milliseconds> Value::Duration() const {
  const auto text = String();
  if (!text) return std::nullopt;
  if (const auto duration = ParseDuration(*text)) return duration;
  const std::string with_unit = *text + "s";
  Refuse(Quote(*text), ParseDuration(with_unit) ? with_unit : std::string_view());
  return std::nullopt;
}

void Value::Refuse(const std::string& found, std::string_view did_you_mean) const {
  std::string message = found + " is not allowed; " + key_.Advice();
  if (!did_you_mean.empty()) message += " (did you mean " + Quote(did_you_mean) + "?)";
  findings_.Add(PlaceOf(node_.source()), path_, std::move(message));
}

void Value::WrongType(std::string_view wanted) const {
  findings_.Add(PlaceOf(node_.source()), path_,
                "found " + std::string(TypeName(node_)) + ", wanted " + std::string(wanted) + "; " +
                    key_.Advice());
}

}  // namespace gatepost::config
