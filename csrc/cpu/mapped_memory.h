// Large blocks from the system, in huge pages where it has them.
//
// The system fills each page with zeros before it gives it away, which takes as long as an op that only moves
// data: a seventh of a short generation's time went there. So some of what was let go is kept for whoever
// asks next; nobody relies on the zeros.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>

namespace fsv::cpu {

class MappedMemory {
 public:
  /// What is kept, at most: enough for a short generation, too little to be missed elsewhere.
  static constexpr size_t kMostKept = size_t{256} << 20;
  /// Sizes are multiples of it.
  static constexpr size_t kUnit = size_t{2} << 20;

  MappedMemory() = default;
  ~MappedMemory();
  MappedMemory(const MappedMemory&) = delete;
  MappedMemory& operator=(const MappedMemory&) = delete;

  /// With whatever is in it; nullptr when there is no more. From any thread.
  void* take(size_t bytes);
  /// `data` of `take(bytes)`, to keep as much as may be kept.
  void give(void* data, size_t bytes);
  /// Returns all that is kept to the system.
  void drop();

 private:
  /// Returns so much of what is kept.
  void drop(size_t bytes);

  std::mutex mutex_;
  std::map<char*, size_t> kept_;  ///< neighbours are one block
  size_t kept_bytes_ = 0;
};

}  // namespace fsv::cpu
