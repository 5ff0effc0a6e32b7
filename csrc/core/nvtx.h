// Ranges for NVIDIA's profilers: Nsight Systems shows stages, steps, layers and ops above the kernels that
// they launch. NVTX is a set of headers that look for a profiler once, through the environment variable
// NVTX_INJECTION64_PATH which Nsight sets; without one, or where the CUDA toolkit did not bring the headers,
// all of this does nothing.
#pragma once

#include <string>
#include <vector>

namespace fsv {

/// Nested ranges of one thread.
class NvtxRanges {
 public:
  /// A profiler listens.
  static bool attached();
  /// Closes and opens ranges until just these are open, the outermost first.
  void enter(const std::vector<std::string>& path);

 private:
  std::vector<std::string> open_;
};

}  // namespace fsv
