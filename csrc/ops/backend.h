// What a device can do: memory, and one method an op. Methods are called on the device's executor thread, in
// order, with arguments that `check` has accepted; a backend never checks again. The CPU backend computes
// inside the call, a GPU backend launches.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "ops/ops.h"

namespace fsv {

class Backend {
 public:
  virtual ~Backend() = default;

  /// Memory that tensors of this backend live in, at least 64-byte aligned; nullptr when there is none left.
  virtual void* allocate(size_t bytes) = 0;
  virtual void release(void* data, size_t bytes) = 0;
  /// For a backend that checks every access: a range of allocated memory has become a tensor, or is one no
  /// longer. Comes in stream order, and only if the backend asks for it.
  virtual bool guards() const { return false; }
  virtual void guard(void* /*data*/, size_t /*bytes*/, bool /*is_tensor*/) {}
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

  /// Runs `work`, which calls methods of this backend for the op or copy `name`, and adds the time that it
  /// takes on the device: at once, or by the next `synchronize` where the device is behind.
  virtual void run(const char* name, const std::function<void()>& work, std::atomic<int64_t>* nanoseconds);
  /// Returns when the device has done all that it was given. Throws the first error of it.
  virtual void synchronize() {}

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
#ifdef FSV_CUDA
/// The how-manieth card; throws ERR_FSVIDEO_NO_DEVICE where there is none.
std::unique_ptr<Backend> make_cuda_backend(int index);
#endif
/// Allocates addresses without memory and computes nothing: what `plan` and the parameter counts run on.
std::unique_ptr<Backend> make_meta_backend(size_t (*packed_bytes)(const PackArgs&));

}  // namespace fsv
