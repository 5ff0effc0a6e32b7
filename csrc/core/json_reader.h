// A strict pull reader for JSON text of a known shape: the caller asks for what the grammar allows next and
// gets it, or an ERR_FSVIDEO_MODEL_FILE that names the file, the field and the place. There is no tree and no
// recursion, so the depth is the caller's grammar and memory is bounded by the text. Strict means RFC 8259 to
// the letter: no comments, no trailing commas, no raw control characters, no lone surrogates, valid UTF-8.
// Only what safetensors headers contain can be read: objects, arrays, strings and non-negative integers.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace fsv {

class JsonReader {
 public:
  /// Reads `json`, which must outlive the reader; `source` is the file that errors name. Throws on invalid
  /// UTF-8.
  JsonReader(std::string_view json, std::string source);

  /// Enters an object or an array. `field` names the value in errors here and below.
  void begin_object(std::string_view field) { begin('{', "an object", field); }
  void begin_array(std::string_view field) { begin('[', "an array", field); }

  /// Moves to the next member or item and returns true, or leaves the object or array and returns false.
  /// `first` is the caller's, starts true, and is cleared here.
  bool next_member(bool& first, std::string_view field) { return next('}', first, field); }
  bool next_item(bool& first, std::string_view field) { return next(']', first, field); }

  /// The name of a member and the colon behind it.
  std::string key(std::string_view field);

  /// A string value with its escapes resolved to UTF-8.
  std::string string(std::string_view field);

  /// An integer in [0, 2^63).
  int64_t integer(std::string_view field);

  /// Nothing but spaces may follow: the padding that the format allows.
  void end();

  /// Throws `<source>: <field> must be <expected>, got <got>`.
  [[noreturn]] void refuse(std::string_view field, std::string got, std::string expected) const;

 private:
  void begin(char bracket, const char* expected, std::string_view field);
  bool next(char bracket, bool& first, std::string_view field);
  void skip_space();
  bool take(char wanted);
  std::string read_string(std::string_view field);
  uint32_t read_escaped_code_point(std::string_view field);
  uint32_t read_hex4(std::string_view field);
  std::string describe_next() const;
  [[noreturn]] void refuse_syntax(std::string_view field, const std::string& expected) const;

  std::string_view json_;
  std::string source_;
  size_t at_ = 0;
};

/// `text` as it stands between the quotes of a JSON string.
std::string escaped(std::string_view text);

/// The same for a message: cut after 80 bytes.
std::string shown(std::string_view text);

/// True if `text` is well-formed UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF.
bool is_utf8(std::string_view text);

}  // namespace fsv
