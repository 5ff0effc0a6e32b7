#include "core/json_reader.h"

#include <charconv>
#include <utility>

#include "core/error.h"

namespace fsv {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// A byte of a UTF-8 character other than its first.
bool is_trailing_byte(char c) { return (static_cast<uint8_t>(c) & 0xc0) == 0x80; }

void append_utf8(std::string& out, uint32_t code_point) {
  const auto trailing = [&](int shift) { out += static_cast<char>(0x80 | ((code_point >> shift) & 0x3f)); };
  if (code_point < 0x80) {
    out += static_cast<char>(code_point);
  } else if (code_point < 0x800) {
    out += static_cast<char>(0xc0 | (code_point >> 6));
    trailing(0);
  } else if (code_point < 0x10000) {
    out += static_cast<char>(0xe0 | (code_point >> 12));
    trailing(6);
    trailing(0);
  } else {
    out += static_cast<char>(0xf0 | (code_point >> 18));
    trailing(12);
    trailing(6);
    trailing(0);
  }
}

}  // namespace

bool is_utf8(std::string_view text) {
  size_t i = 0;
  const auto byte = [&](size_t at) { return static_cast<uint8_t>(text[at]); };
  while (i < text.size()) {
    const uint8_t lead = byte(i++);
    if (lead < 0x80) continue;
    // The first trailing byte has a narrower range after the leads that would otherwise allow overlong forms,
    // surrogates or values above U+10FFFF (Unicode, table 3-7).
    const int trailing = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
    const uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    const uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    if (lead < 0xc2 || lead > 0xf4 || text.size() - i < static_cast<size_t>(trailing)) return false;
    if (byte(i) < low || byte(i) > high) return false;
    for (int k = 1; k < trailing; ++k)
      if (!is_trailing_byte(text[i + k])) return false;
    i += trailing;
  }
  return true;
}

std::string escaped(std::string_view text) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  for (char c : text) {
    const auto byte = static_cast<uint8_t>(c);
    if (byte < 0x20 || byte == 0x7f) {
      out += "\\u00";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    } else {
      if (c == '"' || c == '\\') out += '\\';
      out += c;
    }
  }
  return out;
}

std::string shown(std::string_view text) {
  size_t length = 80;
  if (text.size() <= length) return escaped(text);
  while (is_trailing_byte(text[length])) --length;
  return escaped(text.substr(0, length)) + "...";
}

JsonReader::JsonReader(std::string_view json, std::string source) : json_(json), source_(std::move(source)) {
  if (!is_utf8(json_)) refuse("header", "other bytes", "valid UTF-8");
}

void JsonReader::refuse(std::string_view field, std::string got, std::string expected) const {
  throw invalid_model_file(source_, std::string(field), std::move(got), std::move(expected));
}

void JsonReader::refuse_syntax(std::string_view field, const std::string& expected) const {
  refuse(field, describe_next(), text(expected, " at byte ", at_, " of the JSON"));
}

std::string JsonReader::describe_next() const {
  if (at_ >= json_.size()) return "the end of the JSON";
  const char c = json_[at_];
  if (c == '"') return "a string";
  if (c == '{') return "an object";
  if (c == '[') return "an array";
  if (c == '-' || is_digit(c)) return "a number";
  for (std::string_view word : {"true", "false", "null"})
    if (json_.substr(at_, word.size()) == word) return std::string(word);
  size_t next = at_ + 1;
  while (next < json_.size() && is_trailing_byte(json_[next])) ++next;
  return text("'", shown(json_.substr(at_, next - at_)), "'");
}

void JsonReader::skip_space() {
  while (at_ < json_.size() &&
         (json_[at_] == ' ' || json_[at_] == '\n' || json_[at_] == '\r' || json_[at_] == '\t'))
    ++at_;
}

bool JsonReader::take(char wanted) {
  if (at_ >= json_.size() || json_[at_] != wanted) return false;
  ++at_;
  return true;
}

void JsonReader::begin(char bracket, const char* expected, std::string_view field) {
  skip_space();
  if (!take(bracket)) refuse_syntax(field, expected);
}

bool JsonReader::next(char bracket, bool& first, std::string_view field) {
  skip_space();
  if (take(bracket)) return false;
  if (!std::exchange(first, false) && !take(','))
    refuse_syntax(field, text("continued by ',' or '", bracket, "'"));
  skip_space();
  return true;
}

std::string JsonReader::key(std::string_view field) {
  std::string name = string(field);
  skip_space();
  if (!take(':')) refuse_syntax(field, "continued by ':'");
  return name;
}

std::string JsonReader::string(std::string_view field) {
  skip_space();
  if (!take('"')) refuse_syntax(field, "a string");
  return read_string(field);
}

std::string JsonReader::read_string(std::string_view field) {
  std::string out;
  for (;;) {
    const size_t plain = at_;
    while (at_ < json_.size() && json_[at_] != '"' && json_[at_] != '\\' &&
           static_cast<uint8_t>(json_[at_]) >= 0x20)
      ++at_;
    out.append(json_.substr(plain, at_ - plain));
    if (take('"')) return out;
    if (!take('\\')) refuse_syntax(field, "a closed string without control characters");
    append_utf8(out, read_escaped_code_point(field));
  }
}

uint32_t JsonReader::read_escaped_code_point(std::string_view field) {
  constexpr std::string_view kLetters = "\"\\/bfnrt";
  constexpr std::string_view kMeanings = "\"\\/\b\f\n\r\t";
  if (at_ < json_.size()) {
    const size_t letter = kLetters.find(json_[at_]);
    if (letter != std::string_view::npos) {
      ++at_;
      return static_cast<uint8_t>(kMeanings[letter]);
    }
  }
  if (!take('u')) refuse_syntax(field, "a string with the escapes of JSON");
  const uint32_t unit = read_hex4(field);
  if (unit < 0xd800 || unit > 0xdfff) return unit;
  // UTF-16 pair: a high surrogate, then an escaped low one.
  if (unit > 0xdbff || !take('\\') || !take('u')) refuse_syntax(field, "a string with paired surrogates");
  const uint32_t low = read_hex4(field);
  if (low < 0xdc00 || low > 0xdfff) refuse_syntax(field, "a string with paired surrogates");
  return 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
}

uint32_t JsonReader::read_hex4(std::string_view field) {
  const std::string_view digits = json_.substr(at_, 4);
  uint32_t unit = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), unit, 16);
  if (error != std::errc() || end - digits.data() != 4)
    refuse_syntax(field, "a string with four hex digits after \\u");
  at_ += 4;
  return unit;
}

int64_t JsonReader::integer(std::string_view field) {
  skip_space();
  if (at_ >= json_.size() || (json_[at_] != '-' && !is_digit(json_[at_])))
    refuse_syntax(field, "a non-negative integer");
  const size_t start = at_;
  while (at_ < json_.size() && std::string_view("+-.0123456789Ee").find(json_[at_]) != std::string_view::npos)
    ++at_;
  const std::string_view number = json_.substr(start, at_ - start);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
  const bool whole = error == std::errc() && end == number.data() + number.size();
  const bool leading_zero = number.size() > 1 && number[0] == '0';
  if (!whole || number[0] == '-' || leading_zero)
    refuse(field, std::string(number.substr(0, 40)), "a non-negative integer below 2^63");
  return value;
}

void JsonReader::end() {
  const size_t last = json_.find_first_not_of(' ', at_);
  if (last == std::string_view::npos) return;
  at_ = last;
  refuse_syntax("header", "followed by spaces only");
}

}  // namespace fsv
