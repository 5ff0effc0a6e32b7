// The safetensors weight format (https://github.com/huggingface/safetensors): 8 bytes little-endian header
// length, a JSON header of tensor name -> {dtype, shape, data_offsets}, then the bodies, gapless. Weights
// enter the engine here, so a file is believed only after every number in it has been checked; what passes
// can be used without checks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"
#include "core/mapped_file.h"

namespace fsv::safetensors {

/// Limits of a header. The first is the reference implementation's, refused there before the header is read;
/// the second is ours and keeps a shape a small thing.
inline constexpr uint64_t kMaxHeaderBytes = 100'000'000;
inline constexpr size_t kMaxRank = 16;

/// One tensor of a file: its elements, row-major and little-endian, are the file's bytes [begin, end).
struct Entry {
  std::string name;
  DType dtype = DType::f32;
  std::vector<int64_t> shape;  ///< no dimension for a scalar; a dimension may be 0
  uint64_t begin = 0;          ///< from the start of the file
  uint64_t end = 0;

  /// Whether an element may be read in place through its own type. The format does not promise it; files by
  /// its reference writer and by ours have it.
  bool is_aligned() const { return begin % size_of(dtype) == 0; }
};

using Metadata = std::map<std::string, std::string>;

/// A header that has been checked: the entries tile the rest of the file, names are unique.
class Table {
 public:
  /// Parses and checks the header of a file of which all bytes are given; `path` is what errors call it.
  /// Touches only the header's bytes. Throws ERR_FSVIDEO_MODEL_FILE whose field is "file", "header", or
  /// `<tensor>.<member>`.
  Table(std::span<const std::byte> file, const std::string& path);

  /// In the order of their bytes; of empty tensors at one place, in the order of their names.
  const std::vector<Entry>& entries() const { return entries_; }
  const Metadata& metadata() const { return metadata_; }

  /// Null if there is no such tensor.
  const Entry* find(std::string_view name) const;

 private:
  std::vector<Entry> entries_;
  std::vector<uint32_t> by_name_;  // indices into entries_, names ascending
  Metadata metadata_;
};

/// A file with its table: the mapping stays as long as this object.
class File {
 public:
  /// Throws as MappedFile and Table do.
  explicit File(std::string path) : mapped_(std::move(path)), table_(mapped_.bytes(), mapped_.path()) {}

  const std::string& path() const { return mapped_.path(); }
  const Table& table() const { return table_; }

  /// The bytes of an entry of this file, not copied. Throws ERR_FSVIDEO_MODEL_FILE if the file was cut since
  /// opened.
  std::span<const std::byte> bytes(const Entry& entry) const {
    mapped_.check_size();
    return mapped_.bytes().subspan(entry.begin, entry.end - entry.begin);
  }

  /// Hints: the entry will soon be read; the entry's pages may go.
  void prefetch(const Entry& entry) const { mapped_.advise_willneed(entry.begin, entry.end); }
  void release(const Entry& entry) const { mapped_.advise_dontneed(entry.begin, entry.end); }

 private:
  MappedFile mapped_;
  Table table_;
};

/// Lays out a file and returns its first bytes, length and header; the bodies follow in the order of
/// `entries`, without gaps. Name, dtype and shape of each entry are the caller's; the entries are put in file
/// order (widest elements first, so that all are aligned; otherwise the order is kept) and begin and end are
/// filled in. Throws ERR_FSVIDEO_INVALID_ARGUMENT on a name that is taken, reserved or not UTF-8, and on an
/// impossible shape.
std::string write_header(std::vector<Entry>& entries, const Metadata& metadata = {});

}  // namespace fsv::safetensors
