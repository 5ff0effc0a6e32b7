// fsvideo-probe: small kernels that pin down one fact of the hardware each, compared with what plain loops on
// the host say. The simulator's model makes the same claims, and the same program runs on it
// (test/simulator); on a card it says whether the wrappers of csrc/cuda/ptx and the model are right.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <functional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "cuda/error.h"

namespace fsv::cuda::probe {

/// What is found out, told at the end.
class Probe {
 public:
  explicit Probe(bool simulated) : simulated_(simulated) {}

  /// The card is a simulated one: what its model refuses to answer is not asked.
  bool simulated() const { return simulated_; }

  /// Starts a table of facts.
  void topic(const std::string& name);

  /// One claim; `detail` is told if it does not hold.
  void fact(const std::string& claim, bool holds, const std::string& detail = "");

  /// The same of numbers: |got - want| <= tolerance * (1 + |want|).
  void equal(const std::string& claim, const std::vector<float>& got, const std::vector<float>& want,
             double tolerance = 0);
  void equal(const std::string& claim, const std::vector<uint8_t>& got, const std::vector<uint8_t>& want);

  /// Something that we want to know and claim nothing about.
  void answer(const std::string& question, const std::string& found);

  int failures() const { return failures_; }

 private:
  bool simulated_;
  int facts_ = 0, failures_ = 0;
};

/// An array on the card.
template <class T>
class Array {
 public:
  explicit Array(size_t count) : count_(count) {
    check(cudaMalloc(reinterpret_cast<void**>(&data_), count * sizeof(T)), "cudaMalloc");
  }
  explicit Array(const std::vector<T>& values) : Array(values.size()) {
    check(cudaMemcpyAsync(data_, values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice, stream()),
          "upload");
    check(cudaStreamSynchronize(stream()), "upload");
  }
  ~Array() { cudaFree(data_); }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  T* data() const { return data_; }

  std::vector<T> read() const {
    std::vector<T> values(count_);
    check(cudaMemcpyAsync(values.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost, stream()),
          "download");
    check(cudaStreamSynchronize(stream()), "download");
    return values;
  }

  static cudaStream_t stream() {
    static const cudaStream_t stream = [] {
      cudaStream_t made;
      check(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking), "cudaStreamCreate");
      return made;
    }();
    return stream;
  }

 private:
  size_t count_;
  T* data_ = nullptr;
};

inline cudaStream_t stream() { return Array<uint8_t>::stream(); }

/// Runs a kernel to its end, `blocks` blocks that are one cluster.
template <class... Parameters>
void run(void (*kernel)(Parameters...), unsigned blocks, unsigned threads, size_t smem,
         const std::type_identity_t<Parameters>&... arguments) {
  check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                             cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(smem)),
        "cudaFuncSetAttribute");
  cudaLaunchAttribute cluster;
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim.x = blocks;
  cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(blocks);
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = smem;
  config.stream = stream();
  config.attrs = &cluster;
  config.numAttrs = blocks > 1 ? 1 : 0;
  check(cudaLaunchKernelEx(&config, kernel, arguments...), "launch");
  check(cudaStreamSynchronize(stream()), "kernel");
}

/// Numbers that are exact as bfloat16 and fp8, and whose sums of products are exact in any order.
float small(size_t i);

void warp_facts(Probe& probe);     // sm_80: matrices, products, shuffles, conversions
void wgmma_facts(Probe& probe);    // operand layouts
void wgmma_answers(Probe& probe);  // precision of fp8 sums, descriptors between atoms
void tiled_facts(Probe& probe);    // boxes, borders, swizzles
void im2col_facts(Probe& probe);
void block_facts(Probe& probe);  // mbarriers, clusters, multicast, bulk copies

}  // namespace fsv::cuda::probe
