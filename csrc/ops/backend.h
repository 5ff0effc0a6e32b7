// What a device can do: memory, and one method an op. Methods are called on the device's executor thread, in
// order, with arguments that `check` has accepted; a backend never checks again. The CPU backend computes
// inside the call, a GPU backend launches.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ops/ops.h"
#include "ops/trace.h"

namespace fsv {

/// How often an op ran, what it was counted at and how long it took on the device.
struct OpStats {
  int64_t calls = 0;
  double flops = 0, bytes = 0;
  std::atomic<int64_t> nanoseconds{0};
};

/// A piece of work in the device's queue.
struct Step {
  const char* name;  ///< of the op or copy
  std::function<void()> work;
  OpStats* stats;  ///< null for copies
  Cost cost;
  std::shared_ptr<const TraceNote> note = nullptr;  ///< if it was queued or captured while a trace was taken
};

/// Steps that a device has made into something of its own, which replays them at once. Used on the executor
/// thread.
class Recording {
 public:
  virtual ~Recording() = default;
  /// Stops between parts when `cancelled` says so.
  virtual void replay(const std::function<bool()>& cancelled, const Traced& traced) = 0;
};

/// Of memory that is part of no tensor; of one whose contents nobody has made yet; of one whose contents
/// nobody will make, because the work was aborted.
enum class Guard { outside, undefined, abandoned };

class Backend {
 public:
  virtual ~Backend() = default;

  /// Memory that tensors of this backend live in, at least 64-byte aligned; nullptr when there is none left.
  virtual void* allocate(size_t bytes) = 0;
  virtual void release(void* data, size_t bytes) = 0;
  /// Returns to the system what was released and kept for whoever allocates next.
  virtual void drop_released() {}
  /// For a backend that checks every access, and only if it asks for it: what a range of allocated memory has
  /// become. In stream order.
  virtual bool guards() const { return false; }
  virtual void guard(void* /*data*/, size_t /*bytes*/, Guard /*what*/) {}
  /// Bytes that a packed weight takes.
  virtual size_t packed_bytes(const PackArgs& args) const = 0;
  /// True when nothing is ever computed (the planning device).
  virtual bool dry() const { return false; }
  /// True when the host may read and write `allocate`d memory, and tensors may lie over a mapped file.
  virtual bool host_memory() const { return true; }
  /// "avx512bf16, 2 threads" or the name of the card.
  virtual std::string description() const = 0;

  virtual void copy_in(void* to, const void* host, size_t bytes) = 0;
  virtual void copy_out(void* host, const void* from, size_t bytes) = 0;
  virtual void copy(void* to, const void* from, size_t bytes) = 0;

  /// Does the step's work, which calls methods of this backend, and adds the time that it takes on the device
  /// to its stats and to `traced`, if there is one: at once, or by the next `synchronize` where the device is
  /// behind.
  virtual void run(const Step& step, const Traced& traced);
  /// Steps that are traced follow.
  virtual void begin_trace() {}
  /// Returns when the device has done all that it was given. Throws the first error of it.
  virtual void synchronize() {}
  /// Throws ERR_FSVIDEO_DEVICE_LOST when the device can do nothing any more. Any thread.
  virtual void require_alive() const {}
  /// Bytes that are left on the device; negative where nobody can tell. Any thread.
  virtual int64_t free_bytes() const { return -1; }

  /// Whether graphs are worth to be recorded. The first replay of one runs its steps one by one, the second
  /// records them; `total` takes the time of the replays, or with `each` every step takes its own.
  virtual bool records() const { return false; }
  virtual std::unique_ptr<Recording> record(const std::vector<Step>& /*steps*/, OpStats* /*total*/,
                                            bool /*each*/) {
    return nullptr;
  }

  /// Scratch memory that an op needs while it runs, found by the device before it and given through
  /// `use_workspace`.
#define FSV_WORKSPACE(name, Name) \
  virtual size_t workspace_bytes(const Name##Args&) const { return 0; }
  FSV_FOR_EACH_OP(FSV_WORKSPACE)
#undef FSV_WORKSPACE
  virtual void use_workspace(void* /*data*/) {}

#define FSV_VIRTUAL(name, Name) virtual void name(const Name##Args& args) = 0;
  FSV_FOR_EACH_OP(FSV_VIRTUAL)
#undef FSV_VIRTUAL
};

struct CpuOptions {
  int threads = 0;  ///< 0: as many as the affinity mask allows
  std::string isa;  ///< empty: the best the machine has
};
/// Throws ERR_FSVIDEO_UNSUPPORTED_DEVICE for an instruction set this machine or build lacks.
std::unique_ptr<Backend> make_cpu_backend(const CpuOptions& options);

struct Gpu {
  std::string name, capability;  ///< capability "9.0"
  size_t free_bytes = 0, total_bytes = 0;
};
struct Gpus {
  std::vector<Gpu> list;
  std::string runtime, driver;  ///< CUDA versions, "13.0"; empty where there is none
  std::string problem;          ///< why the list is empty
};
#ifdef FSV_CUDA
Gpus list_gpus();
/// The how-manieth card. Throws ERR_FSVIDEO_NO_DEVICE where it is not there, ERR_FSVIDEO_UNSUPPORTED_DEVICE
/// where it is too old.
std::unique_ptr<Backend> make_cuda_backend(int index);
#endif
/// Allocates addresses without memory and computes nothing: what `plan` and the parameter counts run on.
/// Takes as much memory as `like` would.
std::unique_ptr<Backend> make_meta_backend(std::shared_ptr<const Backend> like);

}  // namespace fsv
