// The safetensors reader refuses every malformed file with the message written here, word for word, and what
// the writer lays out comes back. Messages are part of the interface: people search for them.
#include "core/safetensors.h"

#include <cstring>
#include <optional>

#include "check.h"
#include "core/error.h"
#include "core/json_reader.h"

namespace {

using fsv::DType;
using fsv::Error;
using fsv::safetensors::Entry;
using fsv::safetensors::Metadata;
using fsv::safetensors::Table;

/// The bytes of a file: length field (that of `json` unless given), `json`, and a body of zeros.
std::vector<std::byte> file_of(std::string_view json, size_t body_bytes,
                               std::optional<uint64_t> length = {}) {
  std::vector<std::byte> file(8 + json.size() + body_bytes);
  for (size_t i = 0; i < 8; ++i) file[i] = static_cast<std::byte>(length.value_or(json.size()) >> (8 * i));
  std::memcpy(file.data() + 8, json.data(), json.size());
  return file;
}

/// Parses a file that must be refused with this field and message (after the file's name).
void check_refused(std::span<const std::byte> file, const std::string& field, const std::string& message) {
  try {
    Table(file, "f");
    std::fprintf(stderr, "accepted, but expected: %s\n", message.c_str());
    CHECK(!"refused");
  } catch (const Error& error) {
    if ("f: " + message != error.what())
      std::fprintf(stderr, "expected: f: %s\ngot:      %s\n", message.c_str(), error.what());
    CHECK("f: " + message == error.what());
    CHECK(error.field == field);
    CHECK(error.code == "ERR_FSVIDEO_MODEL_FILE");
    CHECK(!error.expected.empty() && !error.got.empty());
  }
}

void check_refused(std::string_view json, size_t body_bytes, const std::string& field,
                   const std::string& message) {
  check_refused(file_of(json, body_bytes), field, message);
}

void test_reading() {
  // Members in any order, white space, escapes, an empty tensor at the place of another, a scalar.
  const std::string json = R"( {
    "__metadata__": {"format": "pt", "n\u00f6te": "\ud83d\ude00 \"\\\/\b\f\n\r\t"},
    "b" : {"shape":[2, 3],"data_offsets":[4,28],"dtype":"F32"},
    "\u00e9" : {"dtype":"BF16","shape":[ ],"data_offsets":[28 ,30]},
    "empty":{"dtype":"I32","shape":[0,7],"data_offsets":[4,4]},
    "a":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]},
    "bytes":{"dtype":"U8","shape":[1,1,2],"data_offsets":[30,32]})"
                           "\t}   ";
  const auto file = file_of(json, 32);
  const Table table(file, "f");
  const auto& entries = table.entries();
  CHECK(entries.size() == 5);
  const char* names[] = {"a", "empty", "b", "é", "bytes"};
  const DType dtypes[] = {DType::f8e4m3, DType::i32, DType::f32, DType::bf16, DType::u8};
  const std::vector<int64_t> shapes[] = {{4}, {0, 7}, {2, 3}, {}, {1, 1, 2}};
  const uint64_t ends[] = {4, 4, 28, 30, 32};
  const uint64_t body = 8 + json.size();
  for (size_t i = 0; i < 5; ++i) {
    CHECK(entries[i].name == names[i]);
    CHECK(entries[i].dtype == dtypes[i]);
    CHECK(entries[i].shape == shapes[i]);
    CHECK(entries[i].begin == body + (i == 0 ? 0 : ends[i - 1]));
    CHECK(entries[i].end == body + ends[i]);
    CHECK(table.find(names[i]) == &entries[i]);
    CHECK(entries[i].is_aligned() == (entries[i].begin % size_of(dtypes[i]) == 0));
  }
  CHECK(table.find("") == nullptr && table.find("c") == nullptr && table.find("__metadata__") == nullptr);
  CHECK((table.metadata() == Metadata{{"format", "pt"}, {"nöte", "😀 \"\\/\b\f\n\r\t"}}));

  CHECK(Table(file_of("{}", 0), "f").entries().empty());
  CHECK(Table(file_of(R"({"":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1), "f").find("") !=
        nullptr);
}

void test_length_field() {
  for (size_t size : {0, 1, 7}) {
    check_refused(std::vector<std::byte>(size), "file",
                  fsv::text("file must be at least 8 bytes long, got ", size, " bytes"));
  }
  check_refused(file_of("{}", 0, 3), "header", "header must be within the file of 10 bytes, got 3 bytes");
  check_refused(file_of("{}", 0, 100'000'000), "header",
                "header must be within the file of 10 bytes, got 100000000 bytes");
  check_refused(file_of("{}", 0, 100'000'001), "header",
                "header must be at most 100000000 bytes long, got 100000001 bytes");
  check_refused(file_of("{}", 0, ~uint64_t{0}), "header",
                "header must be at most 100000000 bytes long, got 18446744073709551615 bytes");
  check_refused(file_of("", 0), "header",
                "header must be an object at byte 0 of the JSON, got the end of the JSON");
}

void test_syntax() {
  const auto header = [](std::string_view json, const std::string& message) {
    check_refused(json, 0, "header", "header must be " + message);
  };
  header("[]", "an object at byte 0 of the JSON, got an array");
  header("null", "an object at byte 0 of the JSON, got null");
  header("7", "an object at byte 0 of the JSON, got a number");
  header("{", "a string at byte 1 of the JSON, got the end of the JSON");
  header("{,}", "a string at byte 1 of the JSON, got ','");
  header("{a", "a string at byte 1 of the JSON, got 'a'");
  header("{é", "a string at byte 1 of the JSON, got 'é'");
  header("{\"a\" 1}", "continued by ':' at byte 5 of the JSON, got a number");
  header("{\"a", "a closed string without control characters at byte 3 of the JSON, got the end of the JSON");
  header("{\"a\nb\"", "a closed string without control characters at byte 3 of the JSON, got '\\u000a'");
  header("{\"\\x\"", "a string with the escapes of JSON at byte 3 of the JSON, got 'x'");
  header("{\"\\u12g4\"", "a string with four hex digits after \\u at byte 4 of the JSON, got a number");
  header("{\"\\u12", "a string with four hex digits after \\u at byte 4 of the JSON, got a number");
  header("{\"\\ud800\"", "a string with paired surrogates at byte 8 of the JSON, got a string");
  header("{\"\\ud800\\n\"", "a string with paired surrogates at byte 9 of the JSON, got 'n'");
  header("{\"\\ud800\\u0041\"", "a string with paired surrogates at byte 14 of the JSON, got a string");
  header("{\"\\udc00\"", "a string with paired surrogates at byte 8 of the JSON, got a string");
  header("{}x", "followed by spaces only at byte 2 of the JSON, got 'x'");
  header("{} {}", "followed by spaces only at byte 3 of the JSON, got an object");
  header("{}\n", "followed by spaces only at byte 2 of the JSON, got '\\u000a'");
  header(std::string_view("{}\0", 3), "followed by spaces only at byte 2 of the JSON, got '\\u0000'");
  for (const char* wrong :
       {"{\"\x80\"", "{\"\xc3\"", "{\"\xc0\xaf\"", "{\"\xe0\x9f\xbf\"", "{\"\xed\xa0\x80\"",
        "{\"\xf4\x90\x80\x80\"", "{\"\xf0\x8f\xbf\xbf\"", "{\"\xf8\x88\x80\x80\x80\"", "{}\xf0"})
    header(wrong, "valid UTF-8, got other bytes");
}

void test_tensors() {
  constexpr const char* kOk = R"("dtype":"F32","shape":[2],"data_offsets":[0,8])";
  const auto refused = [](const std::string& members, const std::string& field, const std::string& message) {
    check_refused("{\"t\":{" + members + "}}", 8, field, field + " must be " + message);
  };
  check_refused("{\"t\":[]}", 8, "t", "t must be an object at byte 5 of the JSON, got an array");
  check_refused(fsv::text("{\"t\":{", kOk, "}"), 8, "header",
                "header must be continued by ',' or '}' at byte 53 of the JSON, got the end of the JSON");
  refused("", "t.dtype", "given, got nothing");
  refused(R"("dtype":"F32","data_offsets":[0,8])", "t.shape", "given, got nothing");
  refused(R"("dtype":"F32","shape":[2])", "t.data_offsets", "given, got nothing");
  refused(fsv::text(kOk, R"(,"dtype":"F32")"), "t.dtype", "given once, got a second one");
  refused(fsv::text(kOk, R"(,"strides":[1])"), "t",
          R"(made of dtype, shape and data_offsets, got "strides")");
  refused(fsv::text(kOk, ","), "t", "a string at byte 53 of the JSON, got '}'");

  refused(R"("dtype":5)", "t.dtype", "a string at byte 14 of the JSON, got a number");
  refused(R"("dtype":"f32")", "t.dtype", R"(one of F32, BF16, F8_E4M3, I32, U8, got "f32")");
  for (const char* known : {"F16", "F64", "I64", "BOOL", "I8", "I16", "U16", "F8_E5M2"})
    refused(
        fsv::text(R"("dtype":")", known, '"'), "t.dtype",
        fsv::text(R"(one of F32, BF16, F8_E4M3, I32, U8, got ")", known, "\", which is not supported here"));

  constexpr const char* kInteger = "a non-negative integer below 2^63, got ";
  for (const char* wrong : {"-1", "-0", "1.5", "1e3", "2.0", "01", "00", "1-", "9223372036854775808",
                            "99999999999999999999999999999999"}) {
    refused(fsv::text(R"("shape":[)", wrong, "]"), "t.shape", fsv::text(kInteger, wrong));
    refused(fsv::text(R"("data_offsets":[0,)", wrong, "]"), "t.data_offsets", fsv::text(kInteger, wrong));
  }
  refused(R"("shape":["2"])", "t.shape", "a non-negative integer at byte 15 of the JSON, got a string");
  refused(R"("shape":[[2]])", "t.shape", "a non-negative integer at byte 15 of the JSON, got an array");
  refused(R"("shape":[2,])", "t.shape", "a non-negative integer at byte 17 of the JSON, got ']'");
  refused(R"("shape":[2 3])", "t.shape", "continued by ',' or ']' at byte 17 of the JSON, got a number");
  refused(R"("shape":2)", "t.shape", "an array at byte 14 of the JSON, got a number");
  refused(R"("shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1])", "t.shape", "of at most 16 dimensions, got more");
  refused(R"("data_offsets":[])", "t.data_offsets", "two integers, got 0");
  refused(R"("data_offsets":[8])", "t.data_offsets", "two integers, got 1");
  refused(R"("data_offsets":[0,4,8])", "t.data_offsets", "two integers, got more");

  const auto sized = [&](const char* shape, const char* offsets, const std::string& field,
                         const std::string& message) {
    refused(fsv::text(R"("dtype":"F32","shape":)", shape, R"(,"data_offsets":)", offsets), field, message);
  };
  sized("[2]", "[8,0]", "t.data_offsets", "ascending, got [8, 0]");
  sized("[2]", "[0,9]", "t.data_offsets", "within the body of 8 bytes, got [0, 9]");
  sized("[2]", "[9223372036854775799,9223372036854775807]", "t.data_offsets",
        "within the body of 8 bytes, got [9223372036854775799, 9223372036854775807]");
  sized("[2]", "[0,7]", "t.data_offsets", "the 8 bytes of F32 [2], got [0, 7], which is 7");
  sized("[0]", "[0,8]", "t.data_offsets", "the 0 bytes of F32 [0], got [0, 8], which is 8");
  sized("[]", "[0,8]", "t.data_offsets", "the 4 bytes of F32 [], got [0, 8], which is 8");
  constexpr const char* kHuge = "of a tensor below 2^63 bytes, got ";
  sized("[4611686018427387904]", "[0,0]", "t.shape", fsv::text(kHuge, "[4611686018427387904]"));
  sized("[4294967296,4294967296]", "[0,0]", "t.shape", fsv::text(kHuge, "[4294967296, 4294967296]"));
  sized("[0,4294967296,4294967296]", "[0,0]", "t.shape", fsv::text(kHuge, "[0, 4294967296, 4294967296]"));
}

/// A header of U8 tensors a, b, c... at these offsets.
std::string tiling(std::initializer_list<std::pair<int, int>> offsets) {
  std::string json;
  char name = 'a';
  for (auto [begin, end] : offsets)
    json += fsv::text(json.empty() ? "{" : ",", '"', name++, R"(":{"dtype":"U8","shape":[)", end - begin,
                      R"(],"data_offsets":[)", begin, ",", end, "]}");
  return json + "}";
}

void test_tiling() {
  CHECK(Table(file_of(tiling({{4, 8}, {0, 4}, {4, 4}, {8, 8}}), 8), "f").entries().size() == 4);
  check_refused(tiling({{0, 4}, {3, 8}}), 8, "b.data_offsets",
                "b.data_offsets must be free of overlap, beginning at 4, got [3, 8]");
  check_refused(tiling({{0, 8}, {4, 4}}), 8, "b.data_offsets",
                "b.data_offsets must be free of overlap, beginning at 8, got [4, 4]");
  check_refused(tiling({{0, 4}, {5, 8}}), 8, "b.data_offsets",
                "b.data_offsets must be free of holes, beginning at 4, got [5, 8]");
  check_refused(tiling({{1, 8}}), 8, "a.data_offsets",
                "a.data_offsets must be free of holes, beginning at 0, got [1, 8]");
  check_refused(tiling({{0, 8}}), 9, "file",
                "file must be 69 bytes long, as header and tensors are, got 1 more");
  check_refused("{}", 1, "file", "file must be 10 bytes long, as header and tensors are, got 1 more");
  // A body cut short: the last tensor that does not fit is named.
  check_refused(tiling({{0, 4}, {4, 8}}), 7, "b.data_offsets",
                "b.data_offsets must be within the body of 7 bytes, got [4, 8]");
}

void test_duplicates() {
  const std::string tensor = R"({"dtype":"U8","shape":[4],"data_offsets":[0,4]})";
  check_refused(fsv::text(R"({"t":)", tensor, R"(,"t":)", tensor, "}"), 4, "t",
                "t must be given once, got a second one");
  check_refused(fsv::text(R"({"t":)", tensor, R"(,"\u0074":)", tensor, "}"), 4, "t",
                "t must be given once, got a second one");
  check_refused(R"({"__metadata__":{},"__metadata__":{}})", 0, "__metadata__",
                "__metadata__ must be given once, got a second one");
  check_refused(R"({"__metadata__":{"k":"1","k":"2"}})", 0, "__metadata__.k",
                "__metadata__.k must be given once, got a second one");
  check_refused(R"({"__metadata__":{"k":1}})", 0, "__metadata__.k",
                "__metadata__.k must be a string at byte 21 of the JSON, got a number");
  check_refused(R"({"__metadata__":{"k":{"k":"v"}}})", 0, "__metadata__.k",
                "__metadata__.k must be a string at byte 21 of the JSON, got an object");
  check_refused(R"({"__metadata__":"k"})", 0, "__metadata__",
                "__metadata__ must be an object at byte 16 of the JSON, got a string");
}

void test_names_in_messages() {
  // Long names are cut between characters, control characters escaped.
  std::string name(79, 'n');
  check_refused("{\"" + name + "éé\":1}", 0, name + "...",
                name + "... must be an object at byte 87 of the JSON, got a number");
  check_refused("{\"\\u0007\\\"\":1}", 0, "\\u0007\\\"",
                "\\u0007\\\" must be an object at byte 12 of the JSON, got a number");
}

void test_deep_nesting() {
  const std::string deep(1'000'000, '[');
  check_refused("{\"t\":{\"shape\":" + deep, 0, "t.shape",
                "t.shape must be a non-negative integer at byte 15 of the JSON, got an array");
}

void test_writing() {
  const Metadata metadata{{"made by", "a \"test\"\n\x7f"}, {"", "ü"}};
  std::vector<Entry> entries{{.name = "u8", .dtype = DType::u8, .shape = {3}},
                             {.name = "bf16", .dtype = DType::bf16, .shape = {3, 1}},
                             {.name = "scalar \"\t\" 😀", .dtype = DType::f32, .shape = {}},
                             {.name = "empty", .dtype = DType::f8e4m3, .shape = {5, 0}},
                             {.name = "i32", .dtype = DType::i32, .shape = {2}}};
  const std::string head = write_header(entries, metadata);
  CHECK(head.size() % 8 == 0);
  CHECK(entries.front().begin == head.size());
  const char* order[] = {"scalar \"\t\" 😀", "i32", "bf16", "u8", "empty"};
  for (size_t i = 0; i < entries.size(); ++i) {
    CHECK(entries[i].name == order[i]);
    CHECK(entries[i].is_aligned());
  }

  std::string file = head;
  file.resize(entries.back().end, '\0');
  const Table table(std::as_bytes(std::span(file)), "f");
  CHECK(table.metadata() == metadata);
  CHECK(table.entries().size() == entries.size());
  for (const Entry& entry : entries) {
    const Entry* read = table.find(entry.name);
    CHECK(read != nullptr && read->dtype == entry.dtype && read->shape == entry.shape &&
          read->begin == entry.begin && read->end == entry.end);
  }

  std::vector<Entry> none;
  CHECK(write_header(none) == std::string("\x08\0\0\0\0\0\0\0{}      ", 16));
}

void test_refused_writing() {
  const auto refused = [](std::vector<Entry> entries, const Metadata& metadata, const std::string& message) {
    try {
      write_header(entries, metadata);
      CHECK(!"refused");
    } catch (const Error& error) {
      CHECK(error.what() == message);
      CHECK(error.code == "ERR_FSVIDEO_INVALID_ARGUMENT");
    }
  };
  const auto tensor = [](const char* name, std::vector<int64_t> shape) {
    return Entry{.name = name, .dtype = DType::f32, .shape = std::move(shape)};
  };
  refused({tensor("t", {1}), tensor("t", {2})}, {},
          "t must be the only tensor of that name, got a second one");
  refused({tensor("__metadata__", {1})}, {},
          "__metadata__ must be the only tensor of that name, got a second one");
  refused({tensor("\xff", {1})}, {}, "name must be valid UTF-8, got other bytes");
  refused({}, {{"k", "\xff"}}, "name must be valid UTF-8, got other bytes");
  refused({tensor("t", {2, -1})}, {}, "t.shape must be non-negative, got [2, -1]");
  refused({tensor("t", std::vector<int64_t>(17, 1))}, {}, "t.shape must be of at most 16 dimensions, got 17");
  const int64_t huge = int64_t{1} << 60;
  refused({tensor("t", {huge, 2})}, {},
          "t.shape must be of a tensor below 2^63 bytes, got [1152921504606846976, 2]");
  refused({tensor("s", {huge}), tensor("t", {huge})}, {},
          "t.shape must be of a file below 2^63 bytes, got [1152921504606846976]");
}

void test_utf8() {
  // Every code point, surrogates apart, is valid; cut or changed in its last byte it is not.
  for (const char* valid : {"", "a", "\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf",
                            "\xee\x80\x80", "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"}) {
    const std::string_view text(valid);
    CHECK(fsv::is_utf8(text));
    if (text.size() < 2) continue;
    CHECK(!fsv::is_utf8(text.substr(0, text.size() - 1)));
    CHECK(!fsv::is_utf8(std::string(text.substr(0, text.size() - 1)) + "a"));
    CHECK(!fsv::is_utf8(std::string(text) + "\x80"));
  }
}

}  // namespace

int main() {
  test_reading();
  test_length_field();
  test_syntax();
  test_tensors();
  test_tiling();
  test_duplicates();
  test_names_in_messages();
  test_deep_nesting();
  test_writing();
  test_refused_writing();
  test_utf8();
  return check::finish();
}
