// Recorded steps as CUDA graphs: a denoising step is one launch. Steps that take long together are several,
// between which a request can be aborted.
#pragma once

#include <cuda_runtime.h>

#include <deque>
#include <vector>

#include "cuda/timeline.h"
#include "ops/backend.h"

namespace fsv::cuda {

class CudaBackend;

class GraphRecording final : public Recording {
 public:
  /// Captures the steps on the backend's stream; nothing runs. With `each` the graph has events between the
  /// steps: run one by one instead, those that are shorter than their launch would seem to take as long as
  /// it.
  GraphRecording(CudaBackend& backend, const std::vector<Step>& steps, OpStats* total, bool each);
  ~GraphRecording() override;
  void replay(const std::function<bool()>& cancelled, const Traced& traced) override;

  /// A copy among the steps: each replay makes it anew, out of pinned memory that the recording keeps.
  void copy_in(void* to, const void* host, size_t bytes);

 private:
  struct Part {
    cudaGraphExec_t graph;
    double seconds;
    size_t first;  ///< number of its first step
    Parted parted;
  };
  void capture(const Step* begin, const Step* end, double seconds, size_t first);
  void release();

  CudaBackend& backend_;
  OpStats* total_;
  bool each_;
  std::deque<Part> parts_;  // that stay where they are: the timeline looks at them
  std::vector<void*> constants_;
};

}  // namespace fsv::cuda
