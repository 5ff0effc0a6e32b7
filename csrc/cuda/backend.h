// The CUDA backend: one method an op, each in launch/<op>.cu, which picks kernel and grid from the shape and
// the card and launches on the backend's one stream. A method allocates nothing and waits for nothing, so
// that any sequence of them can be captured into a graph.
#pragma once

#include <cuda_runtime.h>

#include <atomic>
#include <memory>
#include <string>
#include <utility>

#include "cuda/cards.h"
#include "cuda/launch.h"
#include "cuda/staging.h"
#include "cuda/timeline.h"
#include "ops/backend.h"
#include "ops/quantized.h"

namespace fsv::cuda {

class GraphRecording;

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(int index);
  ~CudaBackend() override;

  void* allocate(size_t bytes) override;
  void release(void* data, size_t bytes) override;
  size_t packed_bytes(const PackArgs& args) const override;
  bool host_memory() const override { return false; }
#ifdef FSV_SIMULATOR
  bool guards() const override { return true; }
  void guard(void* data, size_t bytes, Guard what) override {
    sim::enqueue_guard(stream_, data, bytes, static_cast<int>(what));
  }
#endif
  std::string description() const override;
  void copy_in(void* to, const void* host, size_t bytes) override;
  void copy_out(void* host, const void* from, size_t bytes) override;
  void copy(void* to, const void* from, size_t bytes) override;
  void use_workspace(void* data) override { workspace_ = data; }
  void run(const Step& step, const Traced& traced) override;
  void begin_trace() override;
  void synchronize() override;
  void require_alive() const override;
  int64_t free_bytes() const override;
  bool records() const override { return !one_by_one_; }
  std::unique_ptr<Recording> record(const std::vector<Step>& steps, OpStats* total, bool each) override;

#define FSV_OVERRIDE(name, Name) void name(const Name##Args& args) override;
  FSV_FOR_EACH_OP(FSV_OVERRIDE)
#undef FSV_OVERRIDE

  // Ops that need scratch memory say here how much, by a pure function of their arguments and the card, and
  // find it at workspace().
  using Backend::workspace_bytes;
  size_t workspace_bytes(const LinearAttentionArgs& args) const override;
  size_t workspace_bytes(const Conv3dArgs& args) const override;
  size_t workspace_bytes(const LinearArgs& args) const override;
  size_t workspace_bytes(const LayerMemoryArgs& args) const override;
  size_t workspace_bytes(const NormModulateArgs& args) const override;
  size_t workspace_bytes(const GroupNormArgs& args) const override;
  size_t workspace_bytes(const AllFiniteArgs& args) const override;
  size_t workspace_bytes(const DynamicMaskArgs& args) const override;

 private:
  const Card& card() const { return card_; }
  cudaStream_t stream() const { return stream_; }
  /// Scratch memory of the op that runs, 512-byte aligned. Contents undefined.
  template <class T>
  T* workspace() const {
    return static_cast<T*>(workspace_);
  }
  /// An op whose result of fp8 no kernel makes in one: what it needs, and how it goes. The ordinary result
  /// lies in front of what the op itself wants of the workspace.
  template <class Args>
  size_t two_pass_bytes(const Args& args) const {
    const Args plain = unquantized(args, nullptr);
    return unquantized_bytes(args) + workspace_bytes(plain);
  }
  template <class Args>
  void then_quantize(void (CudaBackend::*op)(const Args&), const Args& args) {
    const Args plain = unquantized(args, workspace_);
    workspace_ = workspace<char>() + unquantized_bytes(args);
    (this->*op)(plain);
    quantize_fp8(QuantizeFp8Args{plain.out, args.out_scales, args.out});
  }

  /// launch(kernels::combine<float>, {.grid = blocks(n, 256), .block = 256}, parameters...)
  template <class... Parameters, class... Arguments>
  void launch(void (*kernel)(Parameters...), const LaunchShape& shape, Arguments&&... arguments) {
    cuda::launch(stream_, kernel, shape, std::forward<Arguments>(arguments)...);
  }

  friend class GraphRecording;
  /// Does what launches work for the op `name`. An error that the card does not survive becomes
  /// ERR_FSVIDEO_DEVICE_LOST, now and for every later call.
  void attempt(const char* name, const std::function<void()>& body);
  void use_card() const;

  Card card_;
  bool one_by_one_;  ///< FSVIDEO_CUDA_SYNC=1: every op is waited for, no graphs
  cudaStream_t stream_ = nullptr;
  std::unique_ptr<Timeline> timeline_;
  std::unique_ptr<Staging> staging_;
  void* workspace_ = nullptr;
  GraphRecording* recording_ = nullptr;  ///< while one is made
  std::atomic<std::shared_ptr<const Error>> lost_;
};

}  // namespace fsv::cuda
