// A whole file mapped read-only: how weights reach the CPU backend without a copy and the GPU backend without
// a read buffer. Pages come in when they are touched; the advice calls steer that.
//
// The limit of every mapping: if another process truncates the file afterwards, touching a page beyond its
// new end raises SIGBUS, which no C++ code can turn into an exception. So check_size() is there to be called
// before a long pass over the bytes: it turns a truncation that already happened into a typed error, and
// leaves only the race with one that happens during the pass. Replacing a file by rename, as downloaders and
// editors do, is always safe.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace fsv {

class MappedFile {
 public:
  /// Maps `path`. Throws ERR_FSVIDEO_MODEL_FILE with field "file" if it is missing, not a regular file, empty
  /// or not readable. Never blocks on a pipe or device.
  explicit MappedFile(std::string path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  const std::string& path() const { return path_; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }

  /// Throws ERR_FSVIDEO_MODEL_FILE if the file is now shorter than it was when mapped.
  void check_size() const;

  /// Asks the system to read bytes [begin, end) ahead. Advice only: never fails, out-of-range ends are
  /// clipped.
  void advise_willneed(size_t begin, size_t end) const;

  /// Lets the system drop the pages that lie wholly in [begin, end), e.g. after an upload to a GPU; touching
  /// them again reads them again.
  void advise_dontneed(size_t begin, size_t end) const;

 private:
  std::string path_;
  int descriptor_ = -1;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace fsv
