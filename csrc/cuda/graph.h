// Recorded steps as CUDA graphs: a denoising step is one launch. Steps that take long together are several,
// between which a request can be aborted.
#pragma once

#include <cuda_runtime.h>

#include <vector>

#include "ops/backend.h"

namespace fsv::cuda {

class CudaBackend;

class GraphRecording final : public Recording {
 public:
  /// Captures the steps on the backend's stream; nothing runs.
  GraphRecording(CudaBackend& backend, const std::vector<Step>& steps, OpStats* total);
  ~GraphRecording() override;
  void replay(const std::function<bool()>& cancelled) override;

  /// A copy among the steps: each replay makes it anew, out of pinned memory that the recording keeps.
  void copy_in(void* to, const void* host, size_t bytes);

 private:
  struct Part {
    cudaGraphExec_t graph;
    double seconds;
  };
  void capture(const Step* begin, const Step* end, double seconds);
  void release();

  CudaBackend& backend_;
  OpStats* total_;
  std::vector<Part> parts_;
  std::vector<void*> constants_;
};

}  // namespace fsv::cuda
