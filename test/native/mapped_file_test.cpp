// MappedFile on real files: what cannot be mapped is refused with a typed error, what can shows its bytes,
// and a file cut afterwards is noticed before its bytes are touched.
#include "core/mapped_file.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <utility>
#include <vector>

#include "check.h"
#include "core/error.h"
#include "core/safetensors.h"

namespace {

using fsv::Error;
using fsv::MappedFile;

const std::filesystem::path directory =
    std::filesystem::temp_directory_path() / ("fsvideo-mapped-file-" + std::to_string(getpid()));

std::string write_file(const char* name, std::string_view bytes) {
  const std::string path = directory / name;
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

template <class Action>
void check_refused(const std::string& message, Action&& action) {
  try {
    action();
    std::fprintf(stderr, "no error, but expected: %s\n", message.c_str());
    CHECK(!"refused");
  } catch (const Error& error) {
    if (message != error.what())
      std::fprintf(stderr, "expected: %s\ngot:      %s\n", message.c_str(), error.what());
    CHECK(message == error.what());
    CHECK(error.code == "ERR_FSVIDEO_MODEL_FILE");
    CHECK(error.field == "file");
  }
}

void test_refusals() {
  const auto refused = [](const std::string& path, const std::string& message) {
    check_refused(path + ": file must be " + message, [&] { MappedFile file(path); });
  };
  const std::string file = write_file("file", "x");
  refused(directory / "missing", "an existing file, got nothing at that path");
  refused(directory, "a regular file, got a directory");
  refused(write_file("empty", ""), "at least one byte long, got an empty file");
  refused(file + "/below", "readable, got Not a directory");
  refused(directory / std::string(300, 'n'), "readable, got File name too long");
  check_refused(file + ": file must be an existing file, got a path with a zero byte behind this",
                [&] { MappedFile refused(file + std::string("\0tail", 5)); });
  refused("", "an existing file, got nothing at that path");

  const std::string pipe = directory / "pipe";
  CHECK(mkfifo(pipe.c_str(), 0600) == 0);
  refused(pipe, "a regular file, got a pipe, socket or device");

  if (geteuid() != 0) {  // root reads everything
    const std::string secret = write_file("secret", "x");
    CHECK(chmod(secret.c_str(), 0) == 0);
    refused(secret, "readable, got Permission denied");
  }
}

void test_bytes_and_moves() {
  MappedFile first(write_file("first", "first bytes"));
  CHECK(text_of(first.bytes()) == "first bytes");
  CHECK(first.path() == directory / "first");

  const std::byte* data = first.bytes().data();
  MappedFile moved(std::move(first));
  CHECK(moved.bytes().data() == data && text_of(moved.bytes()) == "first bytes");

  MappedFile second(write_file("second", "second"));
  second = std::move(moved);
  CHECK(text_of(second.bytes()) == "first bytes" && second.path() == directory / "first");

  // A replaced file keeps its old bytes under the mapping.
  std::filesystem::rename(write_file("new", "new"), directory / "first");
  second.check_size();
  CHECK(text_of(second.bytes()) == "first bytes");
}

void test_unmaps() {
  const auto open_files = [] {
    size_t count = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
    return count;
  };
  if (!std::filesystem::exists("/proc/self/fd")) return;
  const std::string path = write_file("again", "again");
  const std::string empty = write_file("empty", "");
  const size_t before = open_files();
  const void* address = nullptr;
  for (int i = 0; i < 100; ++i) {
    const MappedFile file(path);
    address = file.bytes().data();
    check_refused(empty + ": file must be at least one byte long, got an empty file",
                  [&] { MappedFile refused(empty); });
  }
  CHECK(open_files() == before);
  unsigned char resident;
  CHECK(mincore(const_cast<void*>(address), 1, &resident) != 0);  // nothing is mapped there any more
}

void test_truncation() {
  const std::string path = write_file("cut", std::string(10000, 'x'));
  const MappedFile file(path);
  file.check_size();
  std::filesystem::resize_file(path, 20000);  // growing harms nobody
  file.check_size();
  std::filesystem::resize_file(path, 9999);
  check_refused(path + ": file must be the 10000 bytes long that it was when opened, got 9999 bytes",
                [&] { file.check_size(); });
}

void test_advice() {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t size = 4 * page + 100;
  const MappedFile file(write_file("advice", std::string(size, 'x')));
  // Any range is allowed; the bytes stay what they are.
  for (size_t begin : {size_t{0}, size_t{1}, page - 1, page, 4 * page, size - 1, size, size + page, SIZE_MAX})
    for (size_t end : {size_t{0}, page - 1, page, 3 * page + 7, size, size + page, SIZE_MAX}) {
      file.advise_willneed(begin, end);
      CHECK(text_of(file.bytes()) == std::string(size, 'x'));
      file.advise_dontneed(begin, end);
      CHECK(text_of(file.bytes()) == std::string(size, 'x'));
    }
}

/// Dropping pages must end with the file: beyond it lies memory of others, which the same call would set to
/// zero.
void test_advice_spares_neighbours() {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const std::string path = write_file("neighbour", std::string(4 * page + 100, 'x'));
  const auto map = [](size_t bytes) {
    return static_cast<char*>(
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  };
  // Free the lower five of six pages, so that the file comes to lie right under the sixth.
  char* region = map(6 * page);
  char* neighbour = region + 5 * page;
  *neighbour = 'n';
  munmap(region, 5 * page);
  {
    const MappedFile file(path);
    const bool adjacent = reinterpret_cast<const char*>(file.bytes().data()) == region;
    file.advise_dontneed(0, 6 * page);
    if (adjacent) CHECK(*neighbour == 'n');  // Linux does place it there, but promises nothing
  }
  munmap(neighbour, page);
}

void test_safetensors_file() {
  std::vector<fsv::safetensors::Entry> entries{{.name = "a", .dtype = fsv::DType::u8, .shape = {3}},
                                               {.name = "b", .dtype = fsv::DType::f32, .shape = {1}}};
  const float value = 1.5f;
  std::string bytes = write_header(entries);
  bytes.append(reinterpret_cast<const char*>(&value), 4).append("abc");
  const std::string path = write_file("weights.safetensors", bytes);

  const fsv::safetensors::File file(path);
  CHECK(file.path() == path);
  const auto* a = file.table().find("a");
  const auto* b = file.table().find("b");
  file.prefetch(*a);
  CHECK(text_of(file.bytes(*a)) == "abc");
  file.release(*a);
  CHECK(text_of(file.bytes(*a)) == "abc");
  CHECK(file.bytes(*b).size() == 4 && std::memcmp(file.bytes(*b).data(), &value, 4) == 0);

  std::filesystem::resize_file(path, bytes.size() - 1);
  check_refused(fsv::text(path, ": file must be the ", bytes.size(),
                          " bytes long that it was when opened, got ", bytes.size() - 1, " bytes"),
                [&] { file.bytes(*a); });
}

}  // namespace

int main() {
  std::filesystem::create_directories(directory);
  test_refusals();
  test_bytes_and_moves();
  test_unmaps();
  test_truncation();
  test_advice();
  test_advice_spares_neighbours();
  test_safetensors_file();
  std::filesystem::remove_all(directory);
  return check::finish();
}
