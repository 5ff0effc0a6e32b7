// What a device can do: memory, and one method an op. Methods are called on the device's executor thread, in
// order, with arguments that `check` has accepted; a backend never checks again. The CPU backend computes
// inside the call, a GPU backend launches.
#pragma once

#include <cstddef>
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
  /// Bytes that a packed weight takes.
  virtual size_t packed_bytes(const PackArgs& args) const = 0;
  /// True when nothing is ever computed (the planning device).
  virtual bool dry() const { return false; }
  /// "avx512bf16, 2 threads" or the name of the card.
  virtual std::string description() const = 0;

  virtual void copy_in(void* to, const void* host, size_t bytes) = 0;
  virtual void copy_out(void* host, const void* from, size_t bytes) = 0;
  virtual void copy(void* to, const void* from, size_t bytes) = 0;

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
/// Allocates addresses without memory and computes nothing: what `plan` and the parameter counts run on.
std::unique_ptr<Backend> make_meta_backend(size_t (*packed_bytes)(const PackArgs&));

}  // namespace fsv
