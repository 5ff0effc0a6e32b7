#include "core/safetensors.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include "core/error.h"
#include "core/json_reader.h"

namespace fsv::safetensors {
namespace {

constexpr size_t kLengthBytes = 8;
constexpr std::string_view kMetadataKey = "__metadata__";

/// The format's names for our element types, in the order of DType.
constexpr std::string_view kFormatNames[] = {"F32", "BF16", "F8_E4M3", "I32", "U8"};

/// Types the format knows and we do not compute with: worth another message than a typing error.
constexpr std::string_view kUnsupportedNames[] = {"BOOL",    "I8",      "F8_E5M2", "F8_E8M0", "F4",
                                                  "F6_E2M3", "F6_E3M2", "I16",     "U16",     "F16",
                                                  "U32",     "F64",     "I64",     "U64",     "C64"};

std::string_view format_name(DType dtype) { return kFormatNames[static_cast<size_t>(dtype)]; }

/// Bytes of a tensor, or nothing if that does not fit int64. A zero among the dimensions does not excuse the
/// others: strides are computed from them.
std::optional<int64_t> byte_size(DType dtype, const std::vector<int64_t>& shape) {
  int64_t bytes = static_cast<int64_t>(size_of(dtype));
  bool is_empty = false;
  for (int64_t dim : shape) {
    is_empty |= dim == 0;
    if (__builtin_mul_overflow(bytes, std::max<int64_t>(dim, 1), &bytes)) return std::nullopt;
  }
  return is_empty ? 0 : bytes;
}

std::string show(const std::vector<int64_t>& shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); ++i) out += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  return out + "]";
}

std::string show_offsets(const Entry& entry) { return text("[", entry.begin, ", ", entry.end, "]"); }

DType read_dtype(JsonReader& json, const std::string& field) {
  const std::string name = json.string(field);
  for (DType dtype : kDTypes)
    if (format_name(dtype) == name) return dtype;
  const bool is_known = std::ranges::find(kUnsupportedNames, name) != std::end(kUnsupportedNames);
  json.refuse(field, text('"', shown(name), '"', is_known ? ", which is not supported here" : ""),
              "one of F32, BF16, F8_E4M3, I32, U8");
}

std::vector<int64_t> read_shape(JsonReader& json, const std::string& field) {
  std::vector<int64_t> shape;
  json.begin_array(field);
  for (bool first = true; json.next_item(first, field);) {
    shape.push_back(json.integer(field));
    if (shape.size() > kMaxRank) json.refuse(field, "more", text("of at most ", kMaxRank, " dimensions"));
  }
  return shape;
}

/// [begin, end) from the start of the body.
std::pair<uint64_t, uint64_t> read_offsets(JsonReader& json, const std::string& field) {
  int64_t offsets[2];
  size_t count = 0;
  json.begin_array(field);
  for (bool first = true; json.next_item(first, field);) {
    if (count == 2) json.refuse(field, "more", "two integers");
    offsets[count++] = json.integer(field);
  }
  if (count < 2) json.refuse(field, text(count), "two integers");
  return {offsets[0], offsets[1]};
}

/// One tensor's object, with offsets still from the start of the body of `body_bytes` bytes.
Entry read_entry(JsonReader& json, std::string name, uint64_t body_bytes) {
  Entry entry;
  entry.name = std::move(name);
  const std::string tensor = shown(entry.name);
  constexpr std::array<std::string_view, 3> kMembers{"dtype", "shape", "data_offsets"};
  std::array<bool, kMembers.size()> seen{};

  json.begin_object(tensor);
  for (bool first = true; json.next_member(first, tensor);) {
    const std::string key = json.key(tensor);
    const std::string field = tensor + "." + shown(key);
    const auto member = static_cast<size_t>(std::ranges::find(kMembers, key) - kMembers.begin());
    if (member == kMembers.size())
      json.refuse(tensor, text('"', shown(key), '"'), "made of dtype, shape and data_offsets");
    if (std::exchange(seen[member], true)) json.refuse(field, "a second one", "given once");
    if (member == 0) entry.dtype = read_dtype(json, field);
    if (member == 1) entry.shape = read_shape(json, field);
    if (member == 2) std::tie(entry.begin, entry.end) = read_offsets(json, field);
  }
  for (size_t member = 0; member < kMembers.size(); ++member)
    if (!seen[member]) json.refuse(text(tensor, ".", kMembers[member]), "nothing", "given");

  const auto refuse_offsets = [&](const std::string& expected, const std::string& detail = "") {
    json.refuse(tensor + ".data_offsets", text(show_offsets(entry), detail), expected);
  };
  if (entry.begin > entry.end) refuse_offsets("ascending");
  if (entry.end > body_bytes) refuse_offsets(text("within the body of ", body_bytes, " bytes"));
  const std::optional<int64_t> bytes = byte_size(entry.dtype, entry.shape);
  if (!bytes) json.refuse(tensor + ".shape", show(entry.shape), "of a tensor below 2^63 bytes");
  if (entry.end - entry.begin != static_cast<uint64_t>(*bytes))
    refuse_offsets(text("the ", *bytes, " bytes of ", format_name(entry.dtype), " ", show(entry.shape)),
                   text(", which is ", entry.end - entry.begin));
  return entry;
}

Metadata read_metadata(JsonReader& json) {
  Metadata metadata;
  json.begin_object(kMetadataKey);
  for (bool first = true; json.next_member(first, kMetadataKey);) {
    std::string key = json.key(kMetadataKey);
    const std::string field = text(kMetadataKey, ".", shown(key));
    std::string value = json.string(field);
    if (!metadata.emplace(std::move(key), std::move(value)).second)
      json.refuse(field, "a second one", "given once");
  }
  return metadata;
}

/// The header's length after the checks that need no look into it.
uint64_t read_length(std::span<const std::byte> file, const std::string& path) {
  if (file.size() < kLengthBytes)
    throw invalid_model_file(path, "file", text(file.size(), " bytes"), "at least 8 bytes long");
  uint64_t length = 0;
  for (size_t i = 0; i < kLengthBytes; ++i) length |= std::to_integer<uint64_t>(file[i]) << (8 * i);
  if (length > kMaxHeaderBytes)
    throw invalid_model_file(path, "header", text(length, " bytes"),
                             text("at most ", kMaxHeaderBytes, " bytes long"));
  if (length > file.size() - kLengthBytes)
    throw invalid_model_file(path, "header", text(length, " bytes"),
                             text("within the file of ", file.size(), " bytes"));
  return length;
}

/// `value` as a JSON string.
std::string json_string(std::string_view value) {
  if (!is_utf8(value)) throw invalid_argument("name", "other bytes", "valid UTF-8");
  return text('"', escaped(value), '"');
}

/// Bytes of an entry that is to be written.
int64_t checked_byte_size(const Entry& entry) {
  const std::string field = shown(entry.name) + ".shape";
  if (entry.shape.size() > kMaxRank)
    throw invalid_argument(field, text(entry.shape.size()), text("of at most ", kMaxRank, " dimensions"));
  if (std::ranges::any_of(entry.shape, [](int64_t dim) { return dim < 0; }))
    throw invalid_argument(field, show(entry.shape), "non-negative");
  const std::optional<int64_t> bytes = byte_size(entry.dtype, entry.shape);
  if (!bytes) throw invalid_argument(field, show(entry.shape), "of a tensor below 2^63 bytes");
  return *bytes;
}

}  // namespace

Table::Table(std::span<const std::byte> file, const std::string& path) {
  const uint64_t length = read_length(file, path);
  const uint64_t body = kLengthBytes + length;
  const uint64_t body_bytes = file.size() - body;
  JsonReader json({reinterpret_cast<const char*>(file.data()) + kLengthBytes, length}, path);

  bool has_metadata = false;
  json.begin_object("header");
  for (bool first = true; json.next_member(first, "header");) {
    std::string name = json.key("header");
    if (name == kMetadataKey) {
      if (std::exchange(has_metadata, true)) json.refuse(kMetadataKey, "a second one", "given once");
      metadata_ = read_metadata(json);
    } else {
      entries_.push_back(read_entry(json, std::move(name), body_bytes));
    }
  }
  json.end();

  std::ranges::sort(entries_, [](const Entry& a, const Entry& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  by_name_.resize(entries_.size());
  std::iota(by_name_.begin(), by_name_.end(), 0u);
  const auto name = [&](uint32_t index) -> const std::string& { return entries_[index].name; };
  std::ranges::sort(by_name_, {}, name);
  const auto twice = std::ranges::adjacent_find(by_name_, {}, name);
  if (twice != by_name_.end()) json.refuse(shown(name(*twice)), "a second one", "given once");

  // The whole body, and nothing twice: each entry begins where the one before ends.
  uint64_t covered = 0;
  for (Entry& entry : entries_) {
    if (entry.begin != covered)
      json.refuse(
          shown(entry.name) + ".data_offsets", show_offsets(entry),
          text(entry.begin < covered ? "free of overlap" : "free of holes", ", beginning at ", covered));
    covered = entry.end;
    entry.begin += body;
    entry.end += body;
  }
  if (covered != body_bytes)
    json.refuse("file", text(body_bytes - covered, " more"),
                text(body + covered, " bytes long, as header and tensors are"));
}

const Entry* Table::find(std::string_view name) const {
  const auto name_at = [&](uint32_t index) -> std::string_view { return entries_[index].name; };
  const auto found = std::ranges::lower_bound(by_name_, name, {}, name_at);
  return found != by_name_.end() && name_at(*found) == name ? &entries_[*found] : nullptr;
}

std::string write_header(std::vector<Entry>& entries, const Metadata& metadata) {
  std::ranges::stable_sort(entries, std::ranges::greater(),
                           [](const Entry& entry) { return size_of(entry.dtype); });

  std::string json = "{";
  const auto separate = [&] { json += json.back() == '{' ? "" : ","; };
  if (!metadata.empty()) {
    json += text(json_string(kMetadataKey), ":{");
    for (const auto& [key, value] : metadata) {
      separate();
      json += text(json_string(key), ":", json_string(value));
    }
    json += '}';
  }

  int64_t offset = 0;
  std::set<std::string_view> names{kMetadataKey};
  for (Entry& entry : entries) {
    if (!names.insert(entry.name).second)
      throw invalid_argument(shown(entry.name), "a second one", "the only tensor of that name");
    entry.begin = static_cast<uint64_t>(offset);
    if (__builtin_add_overflow(offset, checked_byte_size(entry), &offset))
      throw invalid_argument(shown(entry.name) + ".shape", show(entry.shape), "of a file below 2^63 bytes");
    entry.end = static_cast<uint64_t>(offset);
    separate();
    json += text(json_string(entry.name), R"(:{"dtype":")", format_name(entry.dtype), R"(","shape":)",
                 show(entry.shape), R"(,"data_offsets":[)", entry.begin, ",", entry.end, "]}");
  }
  json += '}';
  // Spaces are the format's padding; they put the first body at a multiple of 8.
  json.resize((json.size() + 7) / 8 * 8, ' ');
  if (json.size() > kMaxHeaderBytes)
    throw invalid_argument("header", text(json.size(), " bytes"),
                           text("at most ", kMaxHeaderBytes, " bytes long"));

  std::string bytes;
  for (size_t i = 0; i < kLengthBytes; ++i) bytes += static_cast<char>((json.size() >> (8 * i)) & 0xff);
  bytes += json;
  for (Entry& entry : entries) {
    entry.begin += bytes.size();
    entry.end += bytes.size();
  }
  return bytes;
}

}  // namespace fsv::safetensors
