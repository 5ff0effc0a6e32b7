// The CPU backend: one method an op, each in its own file, which cuts the work into ranges for the thread
// pool and calls the kernels of the chosen instruction set.
#pragma once

#include "core/thread_pool.h"
#include "cpu/kernels/kernels.h"
#include "cpu/mapped_memory.h"
#include "ops/backend.h"
#include "ops/quantized.h"

namespace fsv::cpu {

class CpuBackend final : public Backend {
 public:
  CpuBackend(const Kernels& kernels, int threads) : kernels_(kernels), pool_(threads) {}

  void* allocate(size_t bytes) override;
  void release(void* data, size_t bytes) override;
  void drop_released() override { mapped_.drop(); }
  size_t packed_bytes(const PackArgs& args) const override;
  std::string description() const override;
  void copy_in(void* to, const void* host, size_t bytes) override;
  void copy_out(void* host, const void* from, size_t bytes) override;
  void copy(void* to, const void* from, size_t bytes) override;

  void use_workspace(void* data) override { workspace_ = data; }

#define FSV_OVERRIDE(name, Name) void name(const Name##Args& args) override;
  FSV_FOR_EACH_OP(FSV_OVERRIDE)
#undef FSV_OVERRIDE

  // Where results of fp8 wait to be quantised.
  using Backend::workspace_bytes;
  size_t workspace_bytes(const LinearArgs& args) const override;
  size_t workspace_bytes(const NormModulateArgs& args) const override;
  size_t workspace_bytes(const LayerMemoryArgs& args) const override;

 private:
  /// An op whose result is of fp8, in two passes: there is nothing to win by one where fp8 is not multiplied.
  template <class Args>
  void then_quantize(void (CpuBackend::*op)(const Args&), const Args& args) {
    const Args plain = unquantized(args, workspace_);
    (this->*op)(plain);
    quantize_fp8({.x = plain.out, .scales = args.out_scales, .out = args.out});
  }

  const Kernels& kernels_;
  MappedMemory mapped_;
  ThreadPool pool_;
  void* workspace_ = nullptr;
};

/// Bytes of a packed weight; the same for every instruction set, so that the planning device can tell them
/// too.
size_t packed_bytes(const PackArgs& args);

}  // namespace fsv::cpu
