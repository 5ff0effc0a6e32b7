// The device simulator for host code: launch a kernel, read what was found. Kernels see device.h instead.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "simulator/tensor_map.h"
#include "simulator/vector_types.h"

namespace sim {

/// Which warp or lane runs next.
enum class Schedule { order, warps, lanes };

/// When asynchronous operations are carried out: at once, when nothing else can run, or at any time.
enum class Async { eager, lazy, random };

struct Options {
  uint64_t seed = 1;
  Schedule schedule = Schedule::order;
  Async async = Async::random;
  bool check = true;   // races, fences, bounds, uninitialised bytes; independent of the schedule
  bool count = false;  // bank conflicts and global traffic, a line of source each
  int fp8_bits = 0;    // that wgmma keeps while it adds fp8 products; 0 for a float's
  // Lets wgmma start between the rows of a swizzle atom, which nobody has seen hardware do.
  bool mid_atom_descriptors = false;
  int threads = 1;             // OS threads over independent blocks, of unchecked launches
  int registers = 0;           // a thread's at launch; 0 for as many as the block's size allows
  size_t stack = 64 << 10;     // bytes of a thread's stack
  uint32_t max_smem = 232448;  // bytes of dynamic shared memory that a block may ask for

  /// The defaults, changed by FSVIDEO_SIM, e.g. "seed=7,schedule=lanes,async=lazy,check=0,threads=2".
  static Options from_environment();
};

/// Accesses of one line of source, counted by the warp.
struct Counter {
  uint64_t requests = 0;  // warp-wide accesses
  uint64_t bytes = 0;     // asked for by the lanes
  uint64_t units = 0;     // moved: wavefronts of shared memory, or 32-byte sectors of global memory
  uint64_t least = 0;     // the fewest units that could carry the bytes
};

struct Report {
  std::vector<std::string> errors;
  uint64_t switches = 0, async_steps = 0, wgmmas = 0;
  uint64_t global_read = 0, global_written = 0;   // bytes, copies included
  std::map<std::string, Counter> shared, global;  // by "file:line"; only if Options::count

  // Not written out in every program that launches something: there are hundreds of mutants to compile.
  Report();
  Report(const Report&);
  Report(Report&&) noexcept;
  Report& operator=(Report&&) noexcept;
  ~Report();

  bool ok() const { return errors.empty(); }
  std::string first() const;
};

/// Runs `kernel` once in every thread of the grid. A launch configuration that the driver would refuse is an
/// error of the report too.
Report launch(dim3 grid, dim3 block, dim3 cluster, uint32_t smem_bytes, const Options& options,
              const std::function<void()>& kernel);

/// Global memory: the only addresses that kernels may touch. Aligned to 256 bytes; contents read as
/// uninitialised until mark_initialised or a kernel's store.
void* allocate(size_t bytes);
void release(void* p);
void mark_initialised(const void* p, size_t bytes);

/// The same for memory of the caller.
void adopt(void* p, size_t bytes);
void forget(void* p);

/// The same of any part of an allocation, for a pool that cuts tensors from it. What is outside any tensor
/// may not be touched.
enum class Mark { outside, undefined, defined };
void mark(const void* p, size_t bytes, Mark mark);
bool is_allocated(const void* p, size_t bytes);

/// An array in global memory, for tests.
template <class T>
class Global {
 public:
  explicit Global(size_t count) : count_(count), data_(static_cast<T*>(allocate(count * sizeof(T)))) {
    std::memset(static_cast<void*>(data_), 0xFB, count * sizeof(T));
  }
  explicit Global(const std::vector<T>& values) : Global(values.size()) {
    std::memcpy(data_, values.data(), values.size() * sizeof(T));
    mark_initialised(data_, values.size() * sizeof(T));
  }
  ~Global() { release(data_); }
  Global(const Global&) = delete;
  Global& operator=(const Global&) = delete;

  T* ptr() { return data_; }
  size_t size() const { return count_; }
  T& operator[](size_t i) { return data_[i]; }

 private:
  size_t count_;
  T* data_;
};

}  // namespace sim
