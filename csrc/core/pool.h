// Memory of one device, reused in stream order. Blocks are taken and given back on the JavaScript thread
// while the device may still be busy with their contents: that is safe because whatever uses a block next is
// queued behind what used it before. So the number of bytes in use depends only on the order of calls, never
// on timing, and a dry run of the same calls on the planning device predicts it exactly. Best fit with
// splitting and coalescing inside segments, as PyTorch's caching allocators do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <vector>

namespace fsv {

class Pool {
 public:
  struct Block {
    char* data;
    size_t size;
    uint64_t segment;  // in the order of growth
    bool free;
    bool small;
    Block* before;  // neighbours in the same segment
    Block* after;
  };
  struct Source {
    std::function<void*(size_t)> allocate;       ///< nullptr when there is no more
    std::function<void(void*, size_t)> release;  ///< in stream order
    std::function<void()> settle;                ///< returns when what was released is back
    std::function<int64_t()> available;          ///< bytes there are, negative where nobody can tell
  };
  /// Bytes over all pools of a device.
  struct Usage {
    size_t in_use = 0, peak = 0, reserved = 0, reserved_peak = 0, limit = 0;
    void add(size_t bytes) {
      in_use += bytes;
      if (in_use > peak) peak = in_use;
    }
    void reserve(size_t bytes) {
      reserved += bytes;
      if (reserved > reserved_peak) reserved_peak = reserved;
    }
  };

  /// `whole_segments`: count as in use whatever is reserved, for a captured graph needs its memory whether or
  /// not a block of it was given back while it was recorded.
  Pool(Source source, Usage& usage, bool whole_segments)
      : source_(std::move(source)), usage_(usage), whole_segments_(whole_segments) {}
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  /// Throws ERR_FSVIDEO_OUT_OF_MEMORY after having tried again with all free segments released.
  Block* take(size_t bytes);
  void give(Block* block);
  /// Returns wholly free segments to the source.
  void trim();

 private:
  /// Of two equal ones the older segment's first: the order of the system's addresses would make a run differ
  /// from its plan.
  struct BySize {
    bool operator()(const Block* a, const Block* b) const {
      if (a->size != b->size) return a->size < b->size;
      return a->segment != b->segment ? a->segment < b->segment : a->data < b->data;
    }
  };
  using Free = std::set<Block*, BySize>;

  Block* grow(size_t bytes, bool small);
  Free& free_list(bool small) { return small ? small_ : large_; }

  Source source_;
  Usage& usage_;
  bool whole_segments_;
  uint64_t segments_ = 0;
  Free small_, large_;
};

}  // namespace fsv
