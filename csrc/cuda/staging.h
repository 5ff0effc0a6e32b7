// The way between the host's memory and a card's: through pinned buffers, so that several threads copy into
// one (out of a mapped weight file: read it from disk) while the card fetches another.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>

#include "core/thread_pool.h"

namespace fsv::cuda {

class Staging {
 public:
  Staging();
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  /// Queues the copy. `host` has been read when it returns.
  void upload(cudaStream_t stream, void* to, const void* host, size_t bytes);
  /// Returns when `host` has all bytes.
  void download(cudaStream_t stream, void* host, const void* from, size_t bytes);

 private:
  static constexpr int kBuffers = 4;
  struct Buffer {
    char* data = nullptr;
    cudaEvent_t free = nullptr;  ///< the copy that used it last
  };
  Buffer& next();
  void copy(void* to, const void* from, size_t bytes);

  Buffer buffers_[kBuffers];
  int next_ = 0;
  ThreadPool pool_;
};

}  // namespace fsv::cuda
