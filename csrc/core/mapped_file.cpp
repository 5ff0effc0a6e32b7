#include "core/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "core/error.h"

namespace fsv {
namespace {

std::string system_message(int error) { return std::system_category().message(error); }

size_t page_size() {
  static const size_t size = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return size;
}

}  // namespace

MappedFile::MappedFile(std::string path) : path_(std::move(path)) {
  const auto refuse = [&](std::string got, std::string expected) {
    if (descriptor_ >= 0) close(descriptor_);
    return invalid_model_file(path_, "file", std::move(got), std::move(expected));
  };

  // The system would silently open what stands before a zero byte.
  if (const size_t zero = path_.find('\0'); zero != std::string::npos) {
    path_.resize(zero);
    throw refuse("a path with a zero byte behind this", "an existing file");
  }

  descriptor_ = open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor_ < 0) {
    const int error = errno;
    if (error == ENOENT) throw refuse("nothing at that path", "an existing file");
    throw refuse(system_message(error), "readable");
  }
  struct stat status;
  if (fstat(descriptor_, &status) != 0) throw refuse(system_message(errno), "readable");
  if (S_ISDIR(status.st_mode)) throw refuse("a directory", "a regular file");
  if (!S_ISREG(status.st_mode)) throw refuse("a pipe, socket or device", "a regular file");
  if (status.st_size == 0) throw refuse("an empty file", "at least one byte long");

  size_ = static_cast<size_t>(status.st_size);
  void* mapped = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor_, 0);
  if (mapped == MAP_FAILED) throw refuse(system_message(errno), "mappable into memory");
  data_ = static_cast<const std::byte*>(mapped);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), size_);
  if (descriptor_ >= 0) close(descriptor_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

void MappedFile::check_size() const {
  struct stat status;
  if (fstat(descriptor_, &status) != 0)
    throw invalid_model_file(path_, "file", system_message(errno), "readable");
  if (static_cast<size_t>(status.st_size) < size_)
    throw invalid_model_file(path_, "file", text(status.st_size, " bytes"),
                             text("the ", size_, " bytes long that it was when opened"));
}

void MappedFile::advise_willneed(size_t begin, size_t end) const {
  end = std::min(end, size_);
  begin -= begin % page_size();
  if (begin < end) madvise(const_cast<std::byte*>(data_) + begin, end - begin, MADV_WILLNEED);
}

void MappedFile::advise_dontneed(size_t begin, size_t end) const {
  begin = std::min(begin, size_);
  begin += (page_size() - begin % page_size()) % page_size();
  // The last page of the file counts as whole: nothing else is in it.
  end = end >= size_ ? size_ : end - end % page_size();
  if (begin < end) madvise(const_cast<std::byte*>(data_) + begin, end - begin, MADV_DONTNEED);
}

}  // namespace fsv
