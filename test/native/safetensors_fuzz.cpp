// Seeded fuzzing of the safetensors reader: valid files, damaged in ways that reach deep into it. Every input
// must either give a table whose promises all hold, checked here again by other means, or throw fsv::Error;
// the sanitizers watch for the rest. Usage: safetensors_fuzz [cases] [seed]; a failure prints the case's
// number and bytes.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <random>
#include <set>

#include "check.h"
#include "core/error.h"
#include "core/safetensors.h"

namespace {

using fsv::DType;
using fsv::safetensors::Entry;
using fsv::safetensors::Metadata;
using fsv::safetensors::Table;

class Fuzzer {
 public:
  explicit Fuzzer(uint64_t seed) : random_(seed) {}

  /// The next input: a valid file, damaged up to three times.
  std::string next() {
    std::string file = valid_file();
    for (size_t damages = below(4); damages > 0; --damages) damage(file);
    return file;
  }

 private:
  size_t below(size_t n) { return n == 0 ? 0 : random_() % n; }

  template <class Items>
  auto pick(const Items& items) {
    return items[below(std::size(items))];
  }

  std::string valid_file() {
    static constexpr const char* kNames[] = {"w", "blocks.0.weight", "é", "😀", "tab\t\"quoted\\", "", "x y"};
    std::vector<Entry> entries;
    std::set<std::string> names;
    for (size_t count = below(5); count > 0; --count) {
      Entry entry;
      entry.name = pick(kNames) + std::to_string(below(3));
      entry.dtype = pick(fsv::kDTypes);
      for (size_t rank = below(4); rank > 0; --rank) entry.shape.push_back(static_cast<int64_t>(below(4)));
      if (names.insert(entry.name).second) entries.push_back(entry);
    }
    Metadata metadata;
    for (size_t count = below(3); count > 0; --count) metadata[pick(kNames)] = pick(kNames);
    std::string file = write_header(entries, metadata);
    file.resize(entries.empty() ? file.size() : entries.back().end, 'x');
    return file;
  }

  void damage(std::string& file) {
    const size_t at = below(file.size() + 1);
    const size_t length = below(std::min<size_t>(file.size() - at, 16) + 1);
    switch (below(10)) {
      case 0:  // flip a bit
        if (at < file.size()) file[at] = static_cast<char>(file[at] ^ (1 << below(8)));
        break;
      case 1:  // any byte
        if (at < file.size()) file[at] = static_cast<char>(below(256));
        break;
      case 2:
        file.resize(at);
        break;
      case 3:
        file.erase(at, length);
        fix_length(file, -static_cast<int64_t>(length));
        break;
      case 4: {  // repeat a piece elsewhere
        const std::string piece = file.substr(at, length);
        insert(file, below(file.size() + 1), piece);
        break;
      }
      case 5:
        insert(file, at, pick(kTokens));
        break;
      case 6:
        insert(file, at, std::string(below(2000), pick("[{\"\\")));
        break;
      case 7:
        change_number(file);
        break;
      case 8:
        repeat_description(file);
        break;
      case 9:  // a length field of any size
        for (size_t i = 0; i < std::min<size_t>(8, file.size()); ++i)
          if (below(4) == 0) file[i] = static_cast<char>(below(256));
        break;
    }
  }

  void insert(std::string& file, size_t at, const std::string& piece) {
    file.insert(at, piece);
    fix_length(file, static_cast<int64_t>(piece.size()));
  }

  /// Mostly keeps the length field true after the header grew or shrank, so that the damage itself is parsed.
  void fix_length(std::string& file, int64_t by) {
    if (file.size() < 8 || below(8) == 0) return;
    uint64_t length;
    std::memcpy(&length, file.data(), 8);
    length += static_cast<uint64_t>(by);
    std::memcpy(file.data(), &length, 8);
  }

  /// Replaces one of the header's numbers by a nasty one, or nudges its last digit.
  void change_number(std::string& file) {
    std::vector<size_t> starts;
    for (size_t i = 9; i < file.size(); ++i)
      if (is_digit(file[i]) && !is_digit(file[i - 1])) starts.push_back(i);
    if (starts.empty()) return;
    const size_t start = pick(starts);
    size_t end = start;
    while (end < file.size() && is_digit(file[end])) ++end;
    if (below(2) == 0) {
      file[end - 1] = static_cast<char>('0' + below(10));
      return;
    }
    const std::string number = pick(kNumbers);
    const int64_t grown = static_cast<int64_t>(number.size()) - static_cast<int64_t>(end - start);
    file.replace(start, end - start, number);
    fix_length(file, grown);
  }

  /// Gives a tensor the dtype, shape and offsets of another: each is right by itself, together they leave a
  /// hole and overlap.
  void repeat_description(std::string& file) {
    std::vector<size_t> starts;
    for (size_t at = file.find("{\"dtype"); at != file.npos; at = file.find("{\"dtype", at + 1))
      starts.push_back(at);
    if (starts.empty()) return;
    const size_t from = pick(starts);
    const size_t to = pick(starts);
    const std::string description = file.substr(from, file.find('}', from) - from);
    const size_t replaced = file.substr(to, file.find('}', to) - to).size();
    file.replace(to, replaced, description);
    fix_length(file, static_cast<int64_t>(description.size()) - static_cast<int64_t>(replaced));
  }

  static bool is_digit(char c) { return c >= '0' && c <= '9'; }

  static constexpr const char* kTokens[] = {
      "{",
      "}",
      "[",
      "]",
      ",",
      ":",
      "\"",
      "\\",
      "\\u",
      "\\ud83d",
      "\\ude00",
      "\\u0000",
      "null",
      "true",
      " ",
      "\n",
      "-",
      "0",
      "1e9",
      ".5",
      "\"dtype\":\"F32\",",
      "\"shape\":[1],",
      "\"data_offsets\":[0,4],",
      "\"F16\"",
      "\xc3",
      "\xed\xa0\x80",
      "\"__metadata__\":{},",
      "\"w0\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},"};
  static constexpr const char* kNumbers[] = {"-1",
                                             "0",
                                             "00",
                                             "1",
                                             "4294967295",
                                             "4294967296",
                                             "9223372036854775807",
                                             "9223372036854775808",
                                             "18446744073709551615",
                                             "1e400",
                                             "-0",
                                             "1.0",
                                             "340282366920938463463374607431768211456"};

  std::mt19937_64 random_;
};

/// All that Table promises.
void check_consistent(const std::string& file, const Table& table) {
  uint64_t length;
  std::memcpy(&length, file.data(), 8);
  CHECK(length <= file.size() - 8);
  uint64_t at = 8 + length;
  std::set<std::string> names;
  for (const Entry& entry : table.entries()) {
    CHECK(entry.begin == at);
    CHECK(entry.begin <= entry.end);
    at = entry.end;
    CHECK(entry.shape.size() <= fsv::safetensors::kMaxRank);
    long double bytes = size_of(entry.dtype);  // cannot overflow
    for (int64_t dim : entry.shape) {
      CHECK(dim >= 0);
      bytes *= static_cast<long double>(dim);
    }
    CHECK(bytes == static_cast<long double>(entry.end - entry.begin));
    CHECK(names.insert(entry.name).second);
    CHECK(entry.name != "__metadata__");
    CHECK(table.find(entry.name) == &entry);
  }
  CHECK(at == file.size());

  // What was understood can be written and is understood the same way again.
  std::vector<Entry> entries = table.entries();
  std::string copy = write_header(entries, table.metadata());
  copy.resize(entries.empty() ? copy.size() : entries.back().end);
  const Table again(std::as_bytes(std::span(copy)), "copy");
  CHECK(again.metadata() == table.metadata());
  CHECK(again.entries().size() == table.entries().size());
  for (const Entry& entry : table.entries()) {
    const Entry* found = again.find(entry.name);
    CHECK(found != nullptr && found->dtype == entry.dtype && found->shape == entry.shape);
  }
}

void check_refusal(const fsv::Error& error) {
  const std::string message = error.what();
  CHECK(error.code == "ERR_FSVIDEO_MODEL_FILE");
  CHECK(message == "f: " + error.field + " must be " + error.expected + ", got " + error.got);
  CHECK(!error.field.empty() || message.find("f:  must be") == 0);  // the tensor whose name is ""
  CHECK(message.size() < 1000);
}

/// What was expected without its numbers: one text for each check of the reader.
std::string kind_of(const fsv::Error& error) {
  std::string kind;
  for (char c : error.expected)
    if (std::string_view("0123456789[], ").find(c) == std::string_view::npos) kind += c;
  return kind;
}

void print_bytes(const std::string& file) {
  for (char c : file) std::fprintf(stderr, "%02x", static_cast<uint8_t>(c));
  std::fprintf(stderr, "\n");
}

}  // namespace

int main(int argc, char** argv) {
  const size_t cases = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 200'000;
  const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  Fuzzer fuzzer(seed);
  size_t accepted = 0;
  std::set<std::string> refusals;
  for (size_t i = 0; i < cases && check::failures == 0; ++i) {
    const std::string file = fuzzer.next();
    // A heap block of exactly this size, so that a sanitizer sees the first byte read too far.
    const std::vector<std::byte> bytes(std::as_bytes(std::span(file)).begin(),
                                       std::as_bytes(std::span(file)).end());
    try {
      const Table table(bytes, "f");
      ++accepted;
      check_consistent(file, table);
    } catch (const fsv::Error& error) {
      check_refusal(error);
      refusals.insert(kind_of(error));
    } catch (const std::exception& error) {
      std::fprintf(stderr, "another exception: %s\n", error.what());
      CHECK(!"fsv::Error");
    }
    if (check::failures > 0) {
      std::fprintf(stderr, "case %zu of seed %llu:\n", i, static_cast<unsigned long long>(seed));
      print_bytes(file);
    }
  }
  // The fuzzer itself: many cases pass, and the others reach the reader's checks far and wide, or it tests
  // nothing.
  CHECK(accepted > cases / 5);
  CHECK(refusals.size() >= 30);
  return check::finish();
}
